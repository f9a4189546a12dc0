package loop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// reading runs a loop with a reader until the test ends. Only what runs in the loop touches
// its ledger.
func reading(t *testing.T) (*recordedLoop, context.Context) {
	l := newRecordedLoop()
	l.Reader = NewReader(l.Mailbox)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		l.Mailbox.Close()
	})
	return l, ctx
}

// agrees reports whether the reader has what the loop's ledger has.
func (l *recordedLoop) agrees(ctx context.Context, t *testing.T) {
	t.Helper()
	own, _ := Ask(ctx, l.Mailbox, (*ledger.Ledger).Clone)
	synctest.Wait() // the batch with the question comes to its end
	l.journal.commit()
	if !l.Reader.Read(ctx, func(copied *ledger.Ledger) {
		if !copied.Equal(own) {
			t.Error("the reader has another state than the loop")
		}
	}) {
		t.Error("nothing to read")
	}
}

// TestReadersSeeWhatTheLoopHas: the copy is made while the loop goes on, and follows it.
func TestReadersSeeWhatTheLoopHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ctx := reading(t)
		at := int64(0)
		put := func(event ledger.Event) { l.Mailbox.Put(ctx, event) }
		add := func(app int) {
			at++
			id := fmt.Sprintf("app-%d", app)
			put(ledger.AddApp{Stamp: stamp(at), ID: id})
			put(ledger.AddTask{Stamp: stamp(at), AppID: id, ID: fmt.Sprint("t", at), Namespace: "ns", Name: fmt.Sprint("p", at)})
			put(ledger.AppAccepted{Stamp: stamp(at), AppID: id})
			if at%3 == 0 {
				put(ledger.RemoveTask{Stamp: stamp(at), AppID: id, TaskID: fmt.Sprint("t", at)})
			}
		}
		for app := range 4 * fillPiece {
			add(app)
		}
		l.agrees(ctx, t)
		for range 500 {
			add(rand.IntN(5 * fillPiece))
			if at%50 == 0 {
				l.agrees(ctx, t)
			}
		}
		synctest.Wait()
		l.agrees(ctx, t)
	})
}

// TestChangesWhileTheCopyIsMade come on top of it, whichever piece they belong to.
func TestChangesWhileTheCopyIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecordedLoop()
		l.Reader = NewReader(l.Mailbox)
		const apps = 3 * fillPiece
		for app := range apps {
			l.batch([]item{{event: ledger.AddApp{Stamp: stamp(1), ID: fmt.Sprint("app-", app)}}})
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if !l.Reader.Read(t.Context(), func(copied *ledger.Ledger) {
				if !copied.Equal(l.Ledger) {
					t.Error("the reader has another state than the loop")
				}
			}) {
				t.Error("nothing to read")
			}
		}()
		// The names, and three pieces. Between two of them everything changes.
		for question := range 4 {
			synctest.Wait() // the reader waits for an answer
			asked := l.Mailbox.take(nil)
			if len(asked) != 1 {
				t.Fatalf("%d questions", len(asked))
			}
			l.batch(asked)
			changes := []item{{event: ledger.AddApp{Stamp: stamp(2), ID: fmt.Sprint("late-", question)}}}
			for app := range apps {
				switch app % 4 {
				case question:
					changes = append(changes, item{event: ledger.AppAccepted{Stamp: stamp(2), AppID: fmt.Sprint("app-", app)}})
				case (question + 2) % 4:
					changes = append(changes, item{event: ledger.RemoveApp{Stamp: stamp(2), AppID: fmt.Sprint("app-", app)}})
				}
			}
			if question < 3 {
				l.batch(changes)
				l.journal.commit()
			}
		}
		<-done
	})
}

// TestReadersSeeWhatIsDurable: what a crash may take back, nobody has read.
func TestReadersSeeWhatIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ctx := reading(t)
		l.agrees(ctx, t) // the copy is made
		l.Mailbox.Put(ctx, ledger.AddApp{Stamp: stamp(1), ID: "a"})
		synctest.Wait()
		seen := func() (app *ledger.App) {
			l.Reader.Read(ctx, func(copied *ledger.Ledger) { app = copied.App("a") })
			return app
		}
		if seen() != nil {
			t.Error("what is not durable was read")
		}
		// Whoever is told that it is durable can read it.
		told := false
		l.Durable = func([]ledger.Change) { told = seen() != nil }
		l.journal.commit()
		if !told {
			t.Error("what is durable was not read")
		}
	})
}

// TestALongReadKeepsTheLoopFromNothing: events are stepped while somebody reads, who sees
// none of it.
func TestALongReadKeepsTheLoopFromNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ctx := reading(t)
		l.Mailbox.Put(ctx, ledger.AddApp{Stamp: stamp(1), ID: "before"})
		begun, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			l.Reader.Read(ctx, func(copied *ledger.Ledger) {
				close(begun)
				<-goOn
				if copied.App("before") == nil || copied.App("meanwhile") != nil {
					t.Error("the state changed while it was read")
				}
			})
		}()
		<-begun
		l.Mailbox.Put(ctx, ledger.AddApp{Stamp: stamp(2), ID: "meanwhile"})
		synctest.Wait() // the loop has come to rest, with the reader where it was
		if app, ok := Ask(ctx, l.Mailbox, func(l *ledger.Ledger) *ledger.App { return l.App("meanwhile") }); !ok || app == nil {
			t.Error("the loop waited for the reader")
		}
		close(goOn)
		<-done
		l.agrees(ctx, t)
	})
}

// TestNobodyReadsOfALoopThatHasEnded, and who gives up leaves the next one a whole copy.
func TestNobodyReadsOfALoopThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecordedLoop()
		l.Reader = NewReader(l.Mailbox)
		given, giveUp := context.WithCancel(t.Context())
		told := make(chan bool, 1)
		go func() { told <- l.Reader.Read(given, func(*ledger.Ledger) { t.Error("read something") }) }()
		synctest.Wait()
		giveUp()
		if <-told {
			t.Error("answered by nobody")
		}
		if l.Reader.note([]ledger.Change{{Key: ledger.Key{AppID: "a"}}}); l.Reader.missed.Len() != 0 {
			t.Error("changes are kept for nobody")
		}
		l.Mailbox.Close()
		if l.Reader.Read(t.Context(), func(*ledger.Ledger) {}) {
			t.Error("a loop that has ended was read")
		}
	})
}
