package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// heldJournal keeps the done callbacks until the test says that the changes are
// durable.
type heldJournal struct {
	mu      sync.Mutex // guards what the loop's goroutine and the test share
	changes [][]ledger.Change
	done    []func()
}

func (j *heldJournal) Append(changes []ledger.Change, done func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changes = append(j.changes, changes)
	j.done = append(j.done, done)
}

func (j *heldJournal) commit() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, done := range j.done {
		done()
	}
	j.done = nil
}

type recordedLoop struct {
	*loop
	journal *heldJournal
	inside  []ledger.Effect
	outside []ledger.Effect
}

func newRecordedLoop() *recordedLoop {
	r := &recordedLoop{journal: &heldJournal{}}
	r.loop = &loop{
		ledger: ledger.New(), box: newMailbox(8), journal: r.journal, now: time.Now, log: slog.New(slog.DiscardHandler),
		inside:  func(e ledger.Effect) { r.inside = append(r.inside, e) },
		outside: func(e ledger.Effect) { r.outside = append(r.outside, e) },
	}
	return r
}

func stamp(at int64) ledger.Stamp { return ledger.Stamp{At: ledger.Time(at)} }

// scheduled brings a pod of application a to where the engine chooses a node.
var scheduled = []item{
	{event: ledger.AddApp{Stamp: stamp(1), ID: "a"}},
	{event: ledger.AddTask{Stamp: stamp(2), AppID: "a", ID: "t", Namespace: "ns", Name: "pod"}},
	{event: ledger.AppAccepted{Stamp: stamp(3), AppID: "a"}},
	{event: ledger.Allocated{Stamp: stamp(4), AppID: "a", TaskID: "t", Node: "n"}},
}

// TestBindWaitsForCommit is guarantee 2: nothing leaves the process before what
// causes it is durable.
func TestBindWaitsForCommit(t *testing.T) {
	l := newRecordedLoop()
	l.batch(scheduled)
	if len(l.outside) != 0 {
		t.Fatalf("left the process before the commit: %+v", l.outside)
	}
	if len(l.inside) != 2 {
		t.Fatalf("the engine was kept waiting: %+v", l.inside)
	}
	var intent bool
	for _, c := range l.journal.changes[0] {
		intent = intent || c.Task != nil && c.Task.Node == "n"
	}
	if !intent {
		t.Fatalf("the allocation is not among the changes to commit: %+v", l.journal.changes)
	}
	l.journal.commit()
	if len(l.outside) != 1 {
		t.Fatalf("after the commit: %+v", l.outside)
	}
	if bind, ok := l.outside[0].(ledger.Bind); !ok || bind.Task.Node != "n" {
		t.Fatalf("after the commit: %+v", l.outside[0])
	}
}

// TestBatchDoesNotWaitForTheLast shows that stepping goes on while a commit is
// under way, and that effects keep their order.
func TestBatchDoesNotWaitForTheLast(t *testing.T) {
	l := newRecordedLoop()
	l.batch(scheduled)
	l.batch([]item{
		{event: ledger.AddTask{Stamp: stamp(5), AppID: "a", ID: "u", Namespace: "ns", Name: "other"}},
		{event: ledger.Allocated{Stamp: stamp(6), AppID: "a", TaskID: "u", Node: "m"}},
	})
	if len(l.journal.done) != 2 {
		t.Fatalf("%d commits asked for, want 2 at once", len(l.journal.done))
	}
	l.journal.commit()
	var nodes []string
	for _, e := range l.outside {
		nodes = append(nodes, e.(ledger.Bind).Task.Node)
	}
	if len(nodes) != 2 || nodes[0] != "n" || nodes[1] != "m" {
		t.Fatalf("binds in order %v", nodes)
	}
}

// TestChangesOfABatchAreCommittedOnce shows that a record that changes often is
// written once, with its newest content.
func TestChangesOfABatchAreCommittedOnce(t *testing.T) {
	l := newRecordedLoop()
	l.batch(scheduled)
	seen := map[ledger.Key]int{}
	for _, c := range l.journal.changes[0] {
		seen[c.Key]++
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%v is in the batch %d times", key, n)
		}
	}
	if len(seen) != 2 {
		t.Errorf("changed records: %v", seen)
	}
}

// TestDeadlineStepsWithoutEvents lets a failed bind be tried again although
// nothing else happens.
func TestDeadlineStepsWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecordedLoop()
		l.batch(scheduled)
		l.journal.commit()
		l.outside = nil
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); l.run(ctx) }()
		l.box.push(item{event: ledger.BindFailed{Stamp: ledger.Stamp{At: ledger.At(time.Now())}, AppID: "a", TaskID: "t", Message: "away"}})
		synctest.Wait()
		l.journal.commit()
		for _, e := range l.outside {
			if _, ok := e.(ledger.Bind); ok {
				t.Fatal("tried again without a pause")
			}
		}
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		l.journal.commit()
		cancel()
		<-ended
		var binds int
		for _, e := range l.outside {
			if _, ok := e.(ledger.Bind); ok {
				binds++
			}
		}
		if binds != 1 {
			t.Fatalf("bound again %d times", binds)
		}
	})
}

// TestFullMailboxHoldsProducersBack: a producer that can wait waits, one that
// must not does not, and nothing is lost or reordered.
func TestFullMailboxHoldsProducersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newMailbox(2)
		event := func(at int64) item { return item{event: ledger.Tick{Stamp: stamp(at)}} }
		box.put(t.Context(), event(1))
		box.push(event(2))
		done := make(chan bool)
		go func() { done <- box.put(t.Context(), event(4)) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("put did not wait for room")
		default:
		}
		box.push(event(3)) // an engine's callback must not wait
		first := box.take(nil)
		if !<-done {
			t.Fatal("put gave up")
		}
		var order []ledger.Time
		for _, it := range append(first, box.take(nil)...) {
			order = append(order, it.event.When())
		}
		for i, at := range []ledger.Time{1, 2, 3, 4} {
			if len(order) != 4 || order[i] != at {
				t.Fatalf("order %v", order)
			}
		}
		box.close()
		if box.push(event(5)) || box.put(t.Context(), event(6)) {
			t.Fatal("a closed mailbox took an event")
		}
	})
}
