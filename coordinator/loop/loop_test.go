package loop

import (
	"context"
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
	*Loop
	journal *heldJournal
	inside  []ledger.Effect
	outside []ledger.Effect
}

func newRecordedLoop() *recordedLoop {
	r := &recordedLoop{journal: &heldJournal{}}
	r.Loop = New(Config{
		Ledger: ledger.New(), Mailbox: NewMailbox(8), Journal: r.journal, Now: time.Now,
		Inside: func(e ledger.Effect) { r.inside = append(r.inside, e) },
		Outside: func(e ledger.Effect) {
			if _, told := e.(ledger.ReportTask); !told { // Events are told besides
				r.outside = append(r.outside, e)
			}
		},
	})
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
		go func() { defer close(ended); l.Run(ctx) }()
		l.Mailbox.Push(ledger.BindFailed{Stamp: ledger.Stamp{At: ledger.At(time.Now())}, AppID: "a", TaskID: "t", Message: "away"})
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
		box := NewMailbox(2)
		event := func(at int64) ledger.Event { return ledger.Tick{Stamp: stamp(at)} }
		box.Put(t.Context(), event(1))
		box.Push(event(2))
		done := make(chan bool)
		go func() { done <- box.Put(t.Context(), event(4)) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("Put did not wait for room")
		default:
		}
		box.Push(event(3)) // an engine's callback must not wait
		first := box.take(nil)
		if !<-done {
			t.Fatal("Put gave up")
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
		box.Close()
		if box.Push(event(5)) || box.Put(t.Context(), event(6)) {
			t.Fatal("a closed mailbox took an event")
		}
	})
}

// TestNobodyWaitsForALoopThatHasEnded: a question that nobody answers any more is
// refused when the mailbox closes, whether it waits for room, waits to be taken, or was
// taken by a loop that hangs.
func TestNobodyWaitsForALoopThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := NewMailbox(1)
		ask := func() <-chan bool {
			told := make(chan bool, 1)
			go func() {
				_, ok := Ask(t.Context(), box, func(l *ledger.Ledger) *ledger.App { return l.App("a") })
				told <- ok
			}()
			synctest.Wait()
			return told
		}
		taken := ask()
		late := box.take(nil)
		questions := []<-chan bool{taken, ask(), ask()}
		box.Close()
		for i, told := range questions {
			if <-told {
				t.Errorf("question %d was answered by nobody", i)
			}
		}
		for _, it := range late {
			it.ask(ledger.New()) // who hung and goes on finds nobody who waits, and does not wait itself
		}
		if _, ok := Ask(t.Context(), box, func(*ledger.Ledger) int { return 1 }); ok {
			t.Error("a closed mailbox took a question")
		}
	})
}

// TestQuestionsAreAnsweredInOrder: whoever asks finds what it has put before.
func TestQuestionsAreAnsweredInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecordedLoop()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); l.Run(ctx) }()
		l.Mailbox.Put(ctx, ledger.AddApp{Stamp: stamp(1), ID: "a"})
		app, ok := Ask(ctx, l.Mailbox, func(l *ledger.Ledger) *ledger.App { return l.App("a") })
		if !ok || app == nil || app.ID != "a" {
			t.Errorf("application %v, answered: %v", app, ok)
		}
		cancel()
		<-ended
	})
}

// TestProgressTellsWorkFromRest: a loop that hangs in a step has work that waits and
// gets none done; one that has nothing to do waits for nobody.
func TestProgressTellsWorkFromRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecordedLoop()
		hang := make(chan struct{})
		l.Observe = func(ledger.Event, ledger.Delta) { <-hang }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); l.Run(ctx) }()
		synctest.Wait()
		if waits, _ := l.Progress(); waits {
			t.Error("a loop at rest has work")
		}
		l.Mailbox.Push(ledger.AddApp{Stamp: stamp(1), ID: "a"})
		synctest.Wait()
		if waits, done := l.Progress(); !waits || done != 0 {
			t.Errorf("a loop that hangs: waits %v, done %d", waits, done)
		}
		close(hang)
		synctest.Wait()
		if waits, done := l.Progress(); waits || done != 1 {
			t.Errorf("a loop that goes on: waits %v, done %d", waits, done)
		}
		cancel()
		<-ended
	})
}
