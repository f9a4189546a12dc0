package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/yunikorn-core/pkg/events"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// spoken reads events until one matches, and returns all of them.
func (f *fixture) spoken(match func(*si.EventRecord) bool) (all []*si.EventRecord) {
	f.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(2 * time.Millisecond) {
		records, lost := f.engine.Events().Read(10)
		if lost > 0 {
			f.t.Fatalf("%d events are lost", lost)
		}
		all = append(all, records...)
		if slices.ContainsFunc(records, match) {
			return all
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("never said; but: %v", all)
		}
	}
}

// TestEventsOfAHeldEngineAreAnEcho: what is read begins with what the core says once it decides,
// and tells nothing of our own barriers.
func TestEventsOfAHeldEngineAreAnEcho(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("a", "root.a")
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	there := newTask(app, f.pod("there", "1"))
	there.Node = "n1"
	f.do(ledger.Restore{App: app, Task: there})
	f.sync()
	if f.engine.Events() != nil {
		t.Error("there are events of a held engine")
	}
	f.engage()
	for range 3 { // as the watchdog does
		f.ok(f.engine.Ping(t.Context()))
	}
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("new", "1"))})
	f.allocated("new")
	all := f.spoken(func(r *si.EventRecord) bool {
		return r.EventChangeDetail == si.EventRecord_APP_ALLOC && r.ReferenceID == "new"
	})
	for _, r := range all {
		if r.ObjectID == "there" || r.ReferenceID == "there" || strings.Contains(r.Message, "there") {
			t.Errorf("an echo: %v", r)
		}
		if strings.Contains(r.ObjectID, "barrier") {
			t.Errorf("of nobody's: %v", r)
		}
	}
	// What was read does not come again.
	say(1)
	for _, r := range f.spoken(func(r *si.EventRecord) bool { return r.ObjectID == "said 0" }) {
		if slices.Contains(all, r) {
			t.Errorf("twice: %v", r)
		}
	}
}

func say(n int) {
	for i := range n {
		events.GetEventSystem().AddEvent(&si.EventRecord{ObjectID: fmt.Sprint("said ", i), TimestampNano: 1})
	}
}

// TestEventsThatWereNotRead: the core keeps so many, and who comes late is told how many are
// missing, and of the rest in order.
func TestEventsThatWereNotRead(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, nil)
	f.engage()
	say(1)
	f.spoken(func(r *si.EventRecord) bool { return r.ObjectID == "said 0" })
	const kept = 100_000 // by the core, unless configured
	say(kept / 2)
	f.spoken(func(r *si.EventRecord) bool { return r.ObjectID == fmt.Sprint("said ", kept/2-1) })
	for range 3 {
		_, _, from := events.GetEventSystem().GetEventsFromID(0, 1)
		say(kept / 2)
		for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
			if _, _, now := events.GetEventSystem().GetEventsFromID(0, 1); now >= from+kept/2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the core does not take events")
			}
		}
	}
	records, lost := f.engine.Events().Read(3)
	if lost == 0 || len(records) != 3 {
		t.Fatalf("%d lost, %d read", lost, len(records))
	}
	rest := uint64(len(records))
	for {
		more, again := f.engine.Events().Read(1000)
		if again != 0 {
			t.Errorf("%d more are lost", again)
		}
		if len(more) == 0 {
			break
		}
		if first := records[len(records)-1]; more[0].ObjectID == first.ObjectID {
			t.Errorf("%v twice", first)
		}
		records, rest = more, rest+uint64(len(more))
	}
	if lost+rest < 3*kept/2 {
		t.Errorf("%d lost and %d read, of %d", lost, rest, 3*kept/2)
	}
	if last := records[len(records)-1]; last.ObjectID != fmt.Sprint("said ", kept/2-1) {
		t.Errorf("the last is %v", last)
	}
}

// TestWhatAPodSays prints how much the chronicle takes for each pod that comes, is placed and
// goes: see docs/costs.md.
func TestWhatAPodSays(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, nil)
	f.node("n1")
	f.engage()
	app := newApp("a", "root.default")
	f.do(ledger.SubmitApp{App: app})
	const pods = 50
	tasks := make([]*ledger.Task, pods)
	for i := range tasks {
		tasks[i] = newTask(app, f.pod(fmt.Sprintf("%08d-0000-4000-8000-%012d", i*7919, i*104729), "10m"))
		f.do(ledger.Ask{App: app, Task: tasks[i]})
	}
	for _, task := range tasks {
		f.allocated(task.ID)
	}
	for _, task := range tasks {
		f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
	}
	removed := 0
	all := f.spoken(func(r *si.EventRecord) bool {
		if r.EventChangeType == si.EventRecord_REMOVE && r.Type == si.EventRecord_NODE {
			removed++
		}
		return removed == pods
	})
	bytes := 0
	for run := range slices.Chunk(all, 100) {
		bytes += len(record.EncodeEvents(run))
	}
	for _, r := range all {
		if r.ReferenceID == tasks[7].ID || r.ObjectID == tasks[7].ID {
			t.Log(r)
		}
	}
	t.Logf("%d pods: %.1f events and %.1f bytes each", pods, float64(len(all))/pods, float64(bytes)/pods)
	if per := bytes / pods; per > 200 {
		t.Errorf("%d bytes a pod", per)
	}
}
