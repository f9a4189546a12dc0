package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/e2e/verify/history"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// Promoted checks that each new lead began with what etcd held at the revision of
// its claim, all of it and nothing else. The lead says in the record of its term
// how many records it held, and their digest; both are worked out here from the
// history, up to the claim.
//
// A lead that resumes, whose process made the claim before as well, takes nothing over
// and need not say anything: it goes on with what it has.
//
// Records that nobody can read are left out on both sides: what a lead makes of
// them is for the cluster to say. A lead that ended before it had caught up says
// nothing, which is no violation, unless it is the last.
func Promoted(events []history.EtcdEvent, gaps []history.Gap) Check {
	c := newCheck("promoted state")
	c.gaps(gaps)
	p := promotions{check: c, stored: map[string]stored{}, claims: map[uint64]*claimed{}}
	for txn := range transactions(events) {
		p.transaction(txn)
	}
	proven, silent, resumed := 0, 0, 0
	for _, claim := range p.claims {
		switch {
		case !claim.told:
			silent++
		case claim.resumed:
			resumed++
		case !claim.wrong:
			proven++
		}
	}
	last := p.claims[p.newest]
	switch {
	case last == nil:
		c.Detail = "nobody was promoted"
		return *c
	case !last.told:
		c.failf("not proven: epoch %d, the last to be claimed, has not said what it held", p.newest)
	}
	c.Detail = fmt.Sprintf("%d of %d new leads began with what etcd had; at the last claim, of epoch %d at revision %d, %d applications and %d tasks",
		proven, len(p.claims)-resumed, p.newest, last.revision, last.held.apps, last.held.tasks)
	if silent > 0 {
		c.Detail += fmt.Sprintf("; %d ended before they said so", silent)
	}
	if resumed > 0 {
		c.Detail += fmt.Sprintf("; %d times a lead resumed", resumed)
	}
	return *c
}

// held is a set of records.
type held struct {
	apps, tasks uint64
	// sum is that of the hashes, modulo 2^128.
	sum *big.Int
}

func (h held) String() string {
	return fmt.Sprintf("%d applications, %d tasks, digest %032x", h.apps, h.tasks, h.sum)
}

func (h held) equal(o held) bool {
	return h.apps == o.apps && h.tasks == o.tasks && h.sum.Cmp(o.sum) == 0
}

// stored is the newest readable version of a record.
type stored struct {
	kind kind
	hash *big.Int
}

type claimed struct {
	revision   int64
	generation int
	held       held
	// again says that the process that claimed had made the claim before.
	again bool
	// told says that the lead has said what it held, wrong that it held something else,
	// and resumed that it leads and took nothing over.
	told, wrong, resumed bool
}

type promotions struct {
	check      *Check
	stored     map[string]stored
	claims     map[uint64]*claimed // by epoch
	newest     uint64
	leader     string // who claimed that
	generation int
	base       bool // whether the last transaction was part of a snapshot
}

func (p *promotions) transaction(evs []history.EtcdEvent) {
	// A snapshot, like the data of another generation, is not a change of what was
	// there before.
	if evs[0].Generation != p.generation || evs[0].Base && !p.base {
		clear(p.stored)
	}
	p.generation, p.base = evs[0].Generation, evs[0].Base
	for _, ev := range evs {
		p.store(ev)
	}
	for _, ev := range evs {
		if ev.Deleted {
			continue
		}
		switch e, err := decode(ev.Key, ev.Value); {
		case err != nil: // for Fence to find
		case e.kind == kindLeader:
			p.claim(ev, e.epoch)
		case e.kind == kindTerm && e.epoch == e.term:
			p.tell(ev, e.term)
		}
	}
}

func (p *promotions) store(ev history.EtcdEvent) {
	delete(p.stored, ev.Key)
	if ev.Deleted {
		return
	}
	if kind, value, ok := canonical(ev.Key, ev.Value); ok {
		sum := sha256.Sum256([]byte(ev.Key + "\x00" + string(value)))
		p.stored[ev.Key] = stored{kind, new(big.Int).SetBytes(sum[:16])}
	}
}

// claim notes what etcd holds as an epoch is claimed. Of one that was claimed
// before the history began nobody knows when that was.
func (p *promotions) claim(ev history.EtcdEvent, epoch uint64) {
	if epoch <= p.newest {
		return // the lead renews its fence
	}
	p.newest = epoch
	_, incarnation, err := LeaderOf(ev.Value)
	again := err == nil && incarnation != "" && incarnation == p.leader
	p.leader = incarnation
	if ev.Base {
		return
	}
	c := &claimed{revision: ev.Revision, generation: ev.Generation, again: again, held: held{sum: new(big.Int)}}
	for _, s := range p.stored {
		if s.kind == kindApp {
			c.held.apps++
		} else {
			c.held.tasks++
		}
		c.held.sum.Add(c.held.sum, s.hash)
	}
	c.held.sum.Mod(c.held.sum, new(big.Int).Lsh(big.NewInt(1), 128))
	p.claims[epoch] = c
}

// tell compares what a lead says of itself.
func (p *promotions) tell(ev history.EtcdEvent, epoch uint64) {
	c := p.claims[epoch]
	var m recordpb.Term
	if c == nil || c.generation != ev.Generation || proto.Unmarshal(ev.Value, &m) != nil {
		return
	}
	if m.GetClaimRevision() == 0 && len(m.GetHeldDigest()) == 0 && !led(&m) {
		return // It has claimed, and has yet to catch up.
	}
	c.told, c.wrong = true, true
	says := held{apps: m.GetHeldApps(), tasks: m.GetHeldTasks(), sum: new(big.Int).SetBytes(m.GetHeldDigest())}
	switch {
	case len(m.GetHeldDigest()) == 0 && c.again:
		c.wrong, c.resumed = false, true
	case len(m.GetHeldDigest()) == 0:
		p.check.failf("epoch %d does not say what it held", epoch)
	case m.GetClaimRevision() != c.revision:
		p.check.failf("epoch %d says that it was claimed at revision %d, it was at %d", epoch, m.GetClaimRevision(), c.revision)
	case !says.equal(c.held):
		p.check.failf("epoch %d was promoted with %s; at its claim, revision %d, etcd had %s", epoch, says, c.revision, c.held)
	default:
		c.wrong = false
	}
}

func led(m *recordpb.Term) bool {
	return slices.ContainsFunc(m.GetTimings(), func(t *recordpb.Timing) bool { return t.GetStep() == stepLeading })
}

// canonical returns a record without the epoch of its writer, encoded as everybody
// would; false for what is no record of an application or a task, or cannot be read.
func canonical(key string, value []byte) (kind, []byte, bool) {
	at, err := decodeKey(key)
	if err != nil || !escaped(key) || !forThisReader(value) {
		return 0, nil, false
	}
	var m proto.Message
	switch at.kind {
	case kindApp:
		app := new(recordpb.App)
		if proto.Unmarshal(value, app) != nil || app.GetId() != text(at.appID) || !allJSON(app.GetTaskGroups(), app.GetOwnerReferences()) {
			return 0, nil, false
		}
		app.Epoch, m = 0, app
	case kindTask:
		task := new(recordpb.Task)
		if proto.Unmarshal(value, task) != nil || task.GetAppId() != text(at.appID) || task.GetId() != text(at.taskID) {
			return 0, nil, false
		}
		task.Epoch, m = 0, task
	default:
		return 0, nil, false
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return at.kind, out, err == nil
}

// escaped reports whether the parts of a key are what escaping makes of them: no
// two keys may stand for one record.
func escaped(key string) bool {
	for i, part := range strings.Split(key, "/") {
		id, err := url.PathUnescape(part)
		if err != nil || i > 0 && (id == "" || url.PathEscape(id) != part) {
			return false
		}
	}
	return true
}

// forThisReader reports whether the value begins with a version of the schema that
// the replicas can read.
func forThisReader(value []byte) bool {
	num, typ, n := protowire.ConsumeTag(value)
	if n < 0 || num != 1 || typ != protowire.VarintType {
		return false
	}
	schema, n := protowire.ConsumeVarint(value[n:])
	return n > 0 && schema > 0 && schema <= readable
}

// text is an ID as a record, which holds text only, has it.
func text(id string) string { return strings.ToValidUTF8(id, "\uFFFD") }

// allJSON reports whether all elements are JSON objects.
func allJSON(lists ...[][]byte) bool {
	for _, list := range lists {
		for _, element := range list {
			if !json.Valid(element) || !bytes.HasPrefix(bytes.TrimSpace(element), []byte("{")) {
				return false
			}
		}
	}
	return true
}
