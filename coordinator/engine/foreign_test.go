package engine_test

import (
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// A bound pod counts once on its node, as a task if it is known to be one, in
// whatever order that is heard, and whatever it says of itself later.
func TestForeignPodThatIsATask(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("a", "root.a")
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	first, later := f.pod("first", "1500m", on("n1")), f.pod("later", "1500m", on("n1"))
	f.ok(f.engine.SetForeign(first)) // seen before the ledger is
	f.do(ledger.Restore{App: app, Task: newTask(app, first)}, ledger.Restore{App: app, Task: newTask(app, later)})
	f.ok(f.engine.SetForeign(later)) // annotated since
	f.ok(f.differ(newTask(app, first), newTask(app, later)))
	f.engage()
	f.preds.RemovePod("first") // only the core counts them
	f.preds.RemovePod("later")
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("big", "1100m"))},
		ledger.Ask{App: app, Task: newTask(app, f.pod("small", "900m"))})
	f.allocated("small")
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "big" }); n != 0 {
		t.Error("placed over what is there")
	}
	f.do(ledger.Release{Task: newTask(app, first), Termination: ledger.StoppedByRM})
	f.allocated("big")
}
