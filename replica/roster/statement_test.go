package roster

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// listener is a replica that notes what others state.
type listener struct {
	*replica
	mu    sync.Mutex
	heard []TermEnded
}

func listen(t *testing.T, name, keyring string, peers ...string) *listener {
	l := &listener{}
	l.replica = startWith(t, name, keyring, func(c *Config) {
		c.TermEnded = func(s TermEnded) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.heard = append(l.heard, s)
		}
	}, peers...)
	return l
}

func (l *listener) said() []TermEnded {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// TestAReplicaStatesThatItsTermHasEnded: everybody hears it, once for each term, and
// nobody but whom it is about says so.
func TestAReplicaStatesThatItsTermHasEnded(t *testing.T) {
	key := func() string { return keyFile(t, 'x') }
	a := listen(t, "a", key())
	b := listen(t, "b", key(), a.Address())
	c := listen(t, "c", key(), a.Address())
	for _, r := range []*listener{a, b, c} {
		for _, name := range []string{"a_1", "b_1", "c_1"} {
			until(t, r.cfg.Name+" sees "+name, r.sees(name, alive))
		}
	}
	for _, epoch := range []uint64{5, 5, 7} {
		if !a.TellTermEnded(epoch) {
			t.Fatal("it was not told")
		}
	}
	// The two may overtake each other.
	want := []TermEnded{{"a_1", 5}, {"a_1", 7}}
	for _, r := range []*listener{b, c} {
		until(t, r.cfg.Name+" hears of both terms", func() bool { return len(r.said()) >= len(want) })
	}
	until(t, "packets have been passed on", func() bool {
		return a.broadcasts.NumQueued()+b.broadcasts.NumQueued()+c.broadcasts.NumQueued() == 0
	})
	for _, r := range []*listener{b, c} {
		got := r.said()
		slices.SortFunc(got, func(x, y TermEnded) int { return int(x.Epoch) - int(y.Epoch) })
		if !slices.Equal(got, want) {
			t.Errorf("%s heard %v, want %v", r.cfg.Name, got, want)
		}
	}
	if got := a.said(); len(got) > 0 {
		t.Errorf("a hears of itself: %v", got)
	}
}

// TestAStatementReachesWhomItsReplicaDoesNot: the others pass it on.
func TestAStatementReachesWhomItsReplicaDoesNot(t *testing.T) {
	a := listen(t, "a", keyFile(t, 'x'))
	b := listen(t, "b", keyFile(t, 'x'), a.Address())
	until(t, "a sees b", a.sees("b_1", alive))
	said := TermEnded{"cut-off_1", 9}
	raw, err := said.encode()
	if err != nil {
		t.Fatal(err)
	}
	a.hear(raw)
	copy(raw, "reused by whoever owns it")
	until(t, "b hears it", func() bool { return slices.Equal(b.said(), []TermEnded{said}) })
}

// TestLeavingWaitsForWhatIsBeingTold: a replica that ends has told everybody.
func TestLeavingWaitsForWhatIsBeingTold(t *testing.T) {
	a := listen(t, "a", keyFile(t, 'x'))
	b := listen(t, "b", keyFile(t, 'x'), a.Address())
	until(t, "a sees b", a.sees("b_1", alive))
	a.TellTermEnded(3)
	a.leave()
	until(t, "b has heard", func() bool { return len(b.said()) == 1 })
	if a.TellTermEnded(4) {
		t.Error("who has left still speaks")
	}
}

// TestWithoutAKeyringNothingIsStated, and nothing believed: anybody could say it of a
// lead that lives. Nor is what a stranger to the group says.
func TestWithoutAKeyringNothingIsStated(t *testing.T) {
	open := listen(t, "open", "")
	other := listen(t, "other", "", open.Address())
	until(t, "together", open.sees("other_1", alive))
	if other.TellTermEnded(5) {
		t.Error("it was stated without a keyring")
	}
	raw, err := TermEnded{"open_1", 5}.encode()
	if err != nil {
		t.Fatal(err)
	}
	closed := listen(t, "closed", keyFile(t, 'x'))
	mate := listen(t, "mate", keyFile(t, 'x'), closed.Address())
	until(t, "together", closed.sees("mate_1", alive))
	for _, r := range []*listener{other, closed} {
		to, err := nodeOf(Member{Name: r.cfg.Name, Address: r.Address()})
		if err != nil {
			t.Fatal(err)
		}
		// From a member without a keyring, in both ways; that the receiver closes the
		// connection is no error.
		_ = open.list.SendReliable(to, raw)
		_ = open.list.SendToAddress(to.FullAddress(), raw)
	}
	// What was sent after it to the same socket has arrived.
	mate.TellTermEnded(6)
	until(t, "who has the key is heard", func() bool { return len(closed.said()) == 1 })
	open.Update(Standing{Role: "understudy", Epoch: 8})
	until(t, "gossip goes on", other.sees("open_1", func(m Member) bool { return m.Epoch == 8 }))
	if got := closed.said(); got[0] != (TermEnded{"mate_1", 6}) {
		t.Errorf("a stranger was believed: %v", got)
	}
	if got := other.said(); len(got) > 0 {
		t.Errorf("believed without a keyring: %v", got)
	}
}

// TestTellingDoesNotWait for a member that does not answer, and neither does hearing for
// anybody who speaks.
func TestTellingDoesNotWait(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a := listen(t, "a", keyFile(t, 'x'))
	b := listen(t, "b", keyFile(t, 'x'), a.Address())
	until(t, "a sees b", a.sees("b_1", alive))
	a.Roster.mu.Lock()
	a.members["silent_1"] = Member{Name: "silent_1", Address: silent.Addr().String()}
	a.members["nowhere_1"] = Member{Name: "nowhere_1", Address: "nowhere"}
	a.Roster.mu.Unlock()
	began := time.Now()
	a.TellTermEnded(5)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	until(t, "b hears it", func() bool { return len(b.said()) == 1 })
}

func TestStatementsThatAreTooLongAreNotSent(t *testing.T) {
	if raw, err := (TermEnded{strings.Repeat("x", maxStatement), 1}).encode(); err == nil {
		t.Errorf("%d bytes", len(raw))
	}
}

// FuzzStatement: whatever comes is a statement that can be made, or none.
func FuzzStatement(f *testing.F) {
	for _, s := range []string{
		`term-ended:{"i":"a_1","e":5}`, `term-ended:{"i":"a_1"}`, `term-ended:{"e":5}`, `term-ended:{"i":"a","e":-1}`,
		`term-ended:`, `term-ended:null`, `term-ended:[]`, `term-ended:{"i":"a","e":1}{}`, "", "x", "\x00", `{"i":"a_1","e":5}`,
		`term-ended:{"i":"` + strings.Repeat("a", 600) + `","e":1}`, `term-ended:{"i":"a","e":1e400}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := slices.Clone(raw)
		s, ok := decodeStatement(raw)
		if !slices.Equal(before, raw) {
			t.Fatal("it was changed")
		}
		if ok != (s != TermEnded{}) || ok && (s.Incarnation == "" || s.Epoch == 0) {
			t.Fatalf("%q is %+v, %v", raw, s, ok)
		}
		if !ok {
			return
		}
		again, err := s.encode()
		if err != nil {
			return // escapes make it longer
		}
		if back, ok := decodeStatement(again); !ok || back != s {
			t.Errorf("%+v comes back as %+v, %v", s, back, ok)
		}
	})
}
