package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestAReservingGangKeepsItsTurn: a gang that has some of its placeholders counts among the applications
// that run, of which its queue takes one. A core that was told of the placeholders counts it as well, so
// that after a failover nobody comes before it.
func TestAReservingGangKeepsItsTurn(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[{name: one, maxapplications: 1}, {name: free}]`, "")))
	f.node("n1")
	app, other, free := newApp("gang", "root.one"), newApp("other", "root.one"), newApp("free", "root.free")
	app.TaskGroups = gang(2)
	app.State, app.PlaceholderDeadline = ledger.AppStateReserving, ledger.At(time.Now().Add(time.Hour))
	holder := gangTask(app, f.pod("ph0", "1", on("n1")), true)
	f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: holder},
		ledger.SubmitApp{App: other, Recovery: true}, ledger.SubmitApp{App: free, Recovery: true})
	f.sync()
	f.engage()
	for _, queue := range []string{"root", "root.one"} {
		if counted := f.reserving(queue); !slices.Equal(counted, []string{"gang"}) {
			t.Errorf("%s counts %v among those that run", queue, counted)
		}
	}
	f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("ph1", "16"), true)}) // There is no room for it.
	f.waiting(other, "turn")
	f.waiting(free, "first")
	f.allocated("first")
	<-time.After(time.Second) // in which a core that did not count the gang would place it
	f.waiting(free, "second")
	f.allocated("second")
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "turn" }); n > 0 {
		t.Error("another application has had the gang's turn")
	}
	f.preds.RemovePod("ph0")
	f.do(ledger.Release{Task: holder, Termination: ledger.StoppedByRM}, ledger.ForgetApp{AppID: "gang"})
	f.allocated("turn")
}

// reserving are the applications that a queue counts among those that run, although they do not yet.
func (f *fixture) reserving(queue string) []string {
	q := f.engine.Cluster().GetPartitionWithoutClusterID("default").GetQueue(queue)
	return q.GetPartitionQueueDAOInfo(false).AllocatingAcceptedApps
}

// TestAGangThatCameToNothingIsForgotten: it had a placeholder, and fails. The queue above the one
// where it was takes one application, and the next one has its turn.
func TestAGangThatCameToNothingIsForgotten(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[{name: above, maxapplications: 1, queues: [{name: leaf, maxapplications: 1}]}]`, "")))
	f.node("n1")
	f.engage()
	for _, id := range []string{"first", "second"} {
		app := newApp(id, "root.above.leaf")
		app.TaskGroups, app.Style, app.PlaceholderTimeout = gang(2), ledger.Hard, 1
		f.submit(app)
		holder, other := gangTask(app, f.pod(id+"-ph0", "1"), true), gangTask(app, f.pod(id+"-ph1", "16"), true)
		f.do(ledger.Ask{App: app, Task: holder}, ledger.Ask{App: app, Task: other})
		f.allocated(id + "-ph0")
		f.until("it is counted", func() bool { return slices.Equal(f.reserving("root.above"), []string{id}) })
		waitFor(f, func(e ledger.AppEnded) bool { return e.AppID == id && e.State == ledger.AppStateFailing })
		for _, task := range []*ledger.Task{holder, other} {
			f.preds.RemovePod(task.ID)
			f.do(ledger.Release{Task: task, Termination: ledger.Timeout})
		}
		waitFor(f, func(e ledger.AppEnded) bool { return e.AppID == id && e.State == ledger.AppStateFailed })
	}
	f.until("nothing is counted", func() bool { return len(f.reserving("root"))+len(f.reserving("root.above")) == 0 })
}
