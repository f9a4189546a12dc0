package roster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/hashicorp/memberlist"
)

// TermEnded is what a replica states about itself: its term of an epoch is over, and
// all work of that term has stopped. It stays true for ever, so it does no harm to hear
// it late, or more than once.
type TermEnded struct {
	Incarnation string `json:"i"`
	Epoch       uint64 `json:"e"`
}

// statementKind begins every statement, and tells it from whatever another version sends.
const statementKind = "term-ended:"

// maxStatement bounds a statement, which has to fit into a packet together with others.
const maxStatement = 512

// encode says nothing if the statement is too long to be sent.
func (s TermEnded) encode() ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if raw = append([]byte(statementKind), raw...); len(raw) > maxStatement {
		return nil, fmt.Errorf("a statement of %d bytes", len(raw))
	}
	return raw, nil
}

// decodeStatement reads what another member sends; false if it is no statement.
func decodeStatement(raw []byte) (s TermEnded, ok bool) {
	if len(raw) > maxStatement || len(raw) < len(statementKind) || string(raw[:len(statementKind)]) != statementKind {
		return TermEnded{}, false
	}
	if err := json.Unmarshal(raw[len(statementKind):], &s); err != nil || s.Incarnation == "" || s.Epoch == 0 {
		return TermEnded{}, false
	}
	return s, true
}

// TellTermEnded states to all members that the term of this replica in an epoch is over,
// and that all its work has stopped. It returns at once; Run returns only when everybody
// has been told who can be. Without a keyring anybody could say so in the name of
// another: then it says nothing and reports false.
func (r *Roster) TellTermEnded(epoch uint64) bool {
	if r.ring == nil {
		return false
	}
	message, err := TermEnded{r.cfg.Name, epoch}.encode()
	if err != nil {
		r.log.Error("roster: the end of the term cannot be told", "epoch", epoch, "err", err)
		return false
	}
	// To each by itself, and in packets: one of the two may not get through, and whoever
	// cannot be reached from here may be from elsewhere.
	r.broadcasts.QueueBroadcast(&broadcast{message})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		if to, err := nodeOf(m); err == nil {
			r.telling.Go(func() {
				if err := r.list.SendReliable(to, message); err != nil {
					r.log.Info("roster: a member is not told of the end of the term", "member", m.Name, "err", err)
				}
			})
		}
	}
	return true
}

// nodeOf is a member as memberlist addresses it.
func nodeOf(m Member) (*memberlist.Node, error) {
	host, text, err := net.SplitHostPort(m.Address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	return &memberlist.Node{Name: m.Name, Addr: net.ParseIP(host), Port: uint16(port)}, nil
}

// remembered is how many statements are known to have been heard.
const remembered = 64

// hear takes in what another member sends, and passes it on; raw is memberlist's. What
// is heard again is neither told nor passed on again.
func (r *Roster) hear(raw []byte) {
	said, ok := decodeStatement(raw)
	// Without a keyring nobody knows who said it.
	if !ok || r.ring == nil || r.cfg.TermEnded == nil || said.Incarnation == r.cfg.Name {
		return
	}
	r.mu.Lock()
	again := slices.Contains(r.heard, said)
	if !again {
		r.heard = append(r.heard[max(0, len(r.heard)-remembered+1):], said)
	}
	r.mu.Unlock()
	if again {
		return
	}
	r.cfg.TermEnded(said)
	r.broadcasts.QueueBroadcast(&broadcast{bytes.Clone(raw)})
}

// alive counts those that packets go to, this one included.
func (r *Roster) alive() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 1
	for _, m := range r.members {
		if !m.Gone {
			n++
		}
	}
	return n
}

// broadcast is a message in the queue of what goes along with gossip.
type broadcast struct{ message []byte }

func (b *broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b *broadcast) Message() []byte                       { return b.message }
func (b *broadcast) Finished()                             {}
