package changes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

func of(names ...string) (list []ledger.Change) {
	for _, name := range names {
		list = append(list, ledger.Change{Key: ledger.Key{AppID: name}})
	}
	return list
}

func (l *Log) all(t *testing.T, p Position) (names []string, to Position) {
	t.Helper()
	keys, to, ok := l.After(p, 1000)
	if !ok {
		t.Fatal("nothing after a position that is known")
	}
	for _, k := range keys {
		names = append(names, k.AppID)
	}
	return names, to
}

func TestWhoFollowsMissesNothing(t *testing.T) {
	l := New(8)
	l.Begin(10)
	p := l.Newest()
	l.Note(of("a", "b"), 11, true)
	l.Note(of("a"), 12, true)
	l.Note(nil, 15, true)
	names, p := l.all(t, p)
	if !slices.Equal(names, []string{"a", "b"}) || p.Revision != 15 {
		t.Errorf("%v up to %d", names, p.Revision)
	}
	for revision, want := range map[int64][]string{10: {"a", "b"}, 11: {"a"}, 12: nil, 14: nil, 15: nil} {
		from, ok := l.From(revision)
		if !ok {
			t.Fatalf("%d is not known", revision)
		}
		if names, _ := l.all(t, from); !slices.Equal(names, want) {
			t.Errorf("after %d: %v, want %v", revision, names, want)
		}
	}
	for _, revision := range []int64{9, 16} {
		if _, ok := l.From(revision); ok {
			t.Errorf("%d is known", revision)
		}
	}
}

// TestARevisionThatIsNotWhole: who has seen a part of it is told of all of it again elsewhere.
func TestARevisionThatIsNotWhole(t *testing.T) {
	l := New(8)
	l.Begin(10)
	l.Note(of("a"), 11, false)
	names, p := l.all(t, Position{l.first, 10})
	if len(names) != 1 || p.Revision != 10 {
		t.Errorf("%v up to %d", names, p.Revision)
	}
	l.Note(of("b"), 11, false)
	from, _ := l.From(p.Revision)
	if names, _ := l.all(t, from); !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("after %d: %v", p.Revision, names)
	}
	// In pieces: the first ends within the revision.
	l.Note(of("c"), 12, false)
	for _, want := range []int64{10, 11, 11} {
		var ok bool
		if _, from, ok = l.After(from, 1); !ok || from.Revision != want {
			t.Errorf("up to %d, want %d", from.Revision, want)
		}
	}
}

// TestAChangeThatComesLate: who was told of all of a revision is told of what comes of it later.
func TestAChangeThatComesLate(t *testing.T) {
	l := New(8)
	l.Begin(10)
	follower := l.Newest()
	l.Note(of("a"), 10, false)
	from, ok := l.From(follower.Revision)
	if names, _ := l.all(t, from); !ok || !slices.Equal(names, []string{"a"}) {
		t.Errorf("%t %v", ok, names)
	}
}

func TestWhoFallsBehindBeginsAnew(t *testing.T) {
	l := New(4)
	l.Begin(10)
	slow := l.Newest()
	for i := range 6 {
		l.Note(of(fmt.Sprint(i)), int64(11+i), true)
	}
	if _, _, ok := l.After(slow, 100); ok {
		t.Error("changes were lost, and nobody said so")
	}
	if len(l.ring) != 4 {
		t.Errorf("%d changes are kept", len(l.ring))
	}
	if _, ok := l.From(11); ok {
		t.Error("a change after 11 is no more")
	}
	from, ok := l.From(12)
	if names, _ := l.all(t, from); !ok || !slices.Equal(names, []string{"2", "3", "4", "5"}) {
		t.Errorf("after 12: %t %v", ok, names)
	}
	at := l.Newest()
	if l.Begin(5); len(l.ring) != 0 {
		t.Error("another history is kept")
	}
	if _, _, ok := l.After(at, 100); ok {
		t.Error("a position of another history is known")
	}
	if _, ok := l.From(16); ok {
		t.Error("a revision of another history is known")
	}
}

// TestFollowersOfAnyPace: whatever is noted and whoever takes their time, a follower knows each
// change, or that it has missed some.
func TestFollowersOfAnyPace(t *testing.T) {
	l := New(32)
	l.Begin(1)
	newest := make(map[string]int64)  // the last revision of each
	revision, whole := int64(1), true // whole says that nothing more comes of it
	type follower struct {
		at    Position
		knows map[string]bool
	}
	followers := make([]follower, 5)
	begin := func(f *follower) {
		f.at, f.knows = l.Newest(), make(map[string]bool)
		for name := range newest {
			f.knows[name] = true
		}
	}
	for i := range followers {
		begin(&followers[i])
	}
	missed := 0
	for step := range 20_000 {
		if rand.IntN(3) > 0 {
			name := fmt.Sprint(rand.IntN(50))
			if whole || rand.IntN(2) == 0 {
				revision++
			}
			whole = rand.IntN(4) == 0
			l.Note(of(name), revision, whole)
			newest[name] = revision
			for i := range followers {
				followers[i].knows[name] = false
			}
			continue
		}
		f := &followers[min(rand.IntN(len(followers)), rand.IntN(len(followers)))]
		if step%7 == 0 { // it comes again, perhaps to another replica
			at, ok := l.From(f.at.Revision)
			if !ok {
				missed++
				begin(f)
				continue
			}
			f.at = at
		}
		keys, to, ok := l.After(f.at, 1+rand.IntN(20))
		if !ok {
			missed++
			begin(f)
			continue
		}
		f.at = to
		for _, k := range keys {
			f.knows[k.AppID] = true
		}
		for name, at := range newest {
			if at <= f.at.Revision && !f.knows[name] {
				t.Fatalf("told up to %d, and not of %s at %d", f.at.Revision, name, at)
			}
		}
	}
	if missed == 0 || missed > 10_000 {
		t.Errorf("%d began anew", missed)
	}
}

func TestWhoWaitsIsWoken(t *testing.T) {
	l := New(4)
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	c := l.Changed()
	l.Note(nil, 3, true)
	if woken(c) {
		t.Error("woken for nothing")
	}
	l.Note(of("a"), 4, true)
	if !woken(c) || woken(l.Changed()) {
		t.Error("a change wakes nobody, or the next who wait")
	}
	c = l.Changed()
	if l.Begin(9); !woken(c) {
		t.Error("nobody is told to begin anew")
	}
}
