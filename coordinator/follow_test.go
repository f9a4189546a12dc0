package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// TestFollowersGoOnAtAnotherReplica: who follows the changes of a lead, and at any moment goes on
// at an understudy from the revision that it was told last, misses none.
func TestFollowersGoOnAtAnotherReplica(t *testing.T) {
	const prefix = "/follow"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cli := etcdtest.Start(t).Client()
	log := slog.New(slog.DiscardHandler)

	claimed, err := mirror.Claim(ctx, cli, prefix, record.Leader{Epoch: 1, Incarnation: "lead"}, record.Term{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	writing := mirror.Default()
	writing.Prefix = prefix
	m, err := mirror.New(cli, claimed, writing, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	lead, understudy := &replica{changes: changes.New(changes.Limit)}, &replica{changes: changes.New(changes.Limit)}
	following := view.Default()
	following.Prefix, following.OnApplied = prefix, understudy.noteApplied
	v, err := view.New(cli, following, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { _ = m.Run(running) })
	group.Go(func() { _ = v.Run(running) })
	defer group.Wait()
	defer stop()
	if err := v.WaitRevision(ctx, claimed.Revision); err != nil {
		t.Fatal(err)
	}
	lead.changes.Begin(claimed.Revision)

	const records = 40
	has := make(map[ledger.Key]string) // what the lead has decided
	knows := make(map[ledger.Key]string)
	at := lead.changes.Newest()
	var mu sync.Mutex                      // guards what the mirror's goroutine and the test share
	durable := make(map[ledger.Key]string) // as a reader of the lead sees it
	told := func() {                       // some more of what is durable; mu is held
		keys, to, ok := lead.changes.After(at, 1+rand.IntN(10))
		if !ok {
			t.Error("overtaken")
		}
		for _, k := range keys {
			knows[k] = durable[k]
		}
		at = to
	}
	moves := 0
	for step := range 400 {
		id := fmt.Sprint("app", rand.IntN(records))
		change := ledger.Change{Key: ledger.Key{AppID: id}, App: &ledger.App{ID: id, State: ledger.AppStateRunning, Message: fmt.Sprint(step)}}
		has[change.Key] = change.App.Message
		m.Append([]ledger.Change{change}, func() {
			mu.Lock()
			defer mu.Unlock()
			durable[change.Key] = change.App.Message
			lead.noteDurable([]ledger.Change{change}, m.Status())
			if step%3 > 0 { // also between two changes of one transaction
				told()
			}
		})
		if step%20 != 0 {
			continue
		}
		moves++
		if err := m.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := v.WaitRevision(ctx, m.Status().Revision); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		from := at.Revision
		mu.Unlock()
		there, ok := understudy.changes.From(from)
		if !ok {
			t.Fatalf("the understudy does not know of %d", from)
		}
		keys, there, _ := understudy.changes.After(there, changes.Limit)
		v.Read(func(l *ledger.Ledger) {
			for _, k := range keys {
				knows[k] = l.App(k.AppID).Message
			}
		})
		for k, want := range has {
			if knows[k] != want {
				t.Fatalf("step %d: %v is %q, want %q, from %d on", step, k, knows[k], want, from)
			}
		}
		if there.Revision < m.Status().Revision {
			t.Errorf("the understudy is at %d", there.Revision)
		}
	}
	if moves < 5 {
		t.Errorf("moved %d times", moves)
	}
}

// TestWhatIsNotDurableYetIsToldAgain: while effects run ahead of etcd, nobody is told a revision
// that has less than was shown.
func TestWhatIsNotDurableYetIsToldAgain(t *testing.T) {
	r := &replica{changes: changes.New(8)}
	r.changes.Begin(10)
	at := r.changes.Newest()
	ahead := []ledger.Change{{Key: ledger.Key{AppID: "ahead"}}}
	r.noteDurable(ahead, mirror.Status{Revision: 10, Suspended: true})
	keys, at, ok := r.changes.After(at, 10)
	if !ok || len(keys) != 1 || at.Revision != 10 {
		t.Fatalf("%v up to %d", keys, at.Revision)
	}
	again, ok := r.changes.From(at.Revision)
	if keys, _, _ := r.changes.After(again, 10); !ok || len(keys) != 1 {
		t.Errorf("who comes again is told of %v", keys)
	}
}

// TestALoadedViewBeginsAnew: what came between two loads is not known.
func TestALoadedViewBeginsAnew(t *testing.T) {
	r := &replica{changes: changes.New(8)}
	r.noteApplied(nil, 5, true)
	r.noteApplied([]ledger.Change{{Key: ledger.Key{AppID: "a"}}}, 6, false)
	if _, ok := r.changes.From(5); !ok {
		t.Error("what was followed is not known")
	}
	r.noteApplied([]ledger.Change{{Key: ledger.Key{AppID: "a"}}}, 9, true)
	if _, ok := r.changes.From(6); ok {
		t.Error("what came between 6 and 9 is not known, and nobody says so")
	}
}
