package view_test

import (
	"sync"
	"testing"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestWhatIsAppliedIsTold: what was loaded as such, and then each change with a revision that it
// does not come after.
func TestWhatIsAppliedIsTold(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	l.change(app(1, 1))
	loaded := l.flush(t)
	cfg := config()
	var mu sync.Mutex
	var anews, revisions []int64
	told := make(map[ledger.Key]int64) // the revision
	cfg.OnApplied = func(changes []ledger.Change, revision int64, anew bool) {
		mu.Lock()
		defer mu.Unlock()
		if anew {
			anews = append(anews, revision)
			return
		}
		revisions = append(revisions, revision)
		for _, c := range changes {
			told[c.Key] = revision
		}
	}
	f := follow(t, cli, cfg)
	f.wait(t, loaded)
	durable := make(map[ledger.Key]int64)
	for i := range 5 {
		changes := []ledger.Change{app(i+10, 1), task(i, 1)}
		l.change(changes...)
		for revision := l.flush(t); len(changes) > 0; changes = changes[1:] {
			durable[changes[0].Key] = revision
		}
	}
	f.wait(t, l.flush(t))
	mu.Lock()
	defer mu.Unlock()
	if len(anews) != 1 || anews[0] < loaded {
		t.Errorf("loaded at %d: %v", loaded, anews)
	}
	for key, revision := range durable { // several revisions may come together
		if told[key] < revision || len(told) != len(durable) {
			t.Errorf("told %v, want %v", told, durable)
			break
		}
	}
	for i := 1; i < len(revisions); i++ {
		if revisions[i] < revisions[i-1] {
			t.Errorf("revisions %v", revisions)
		}
	}
}
