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
		counted := f.engine.Cluster().GetPartitionWithoutClusterID("default").GetQueue(queue).GetPartitionQueueDAOInfo(false).AllocatingAcceptedApps
		if !slices.Equal(counted, []string{"gang"}) {
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
