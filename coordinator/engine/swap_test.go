package engine_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// swapping returns an application whose placeholders are on nodes of their own, n0 and so
// on, and a task that the engine is about to put in the place of the one on n0.
func swapping(f *fixture, placeholders int) (app *ledger.App, holders []*ledger.Task, real *ledger.Task) {
	f.t.Helper()
	app = newApp("gang", "root.a")
	app.TaskGroups = gang(int32(placeholders))
	f.submit(app)
	for i := range placeholders {
		f.node(fmt.Sprint("n", i))
		holder := gangTask(app, f.pod(fmt.Sprint("ph", i), "4"), true)
		f.do(ledger.Ask{App: app, Task: holder})
		f.allocated(holder.ID)
		holders = append(holders, holder)
	}
	real = gangTask(app, f.pod("real", "4"), false)
	f.do(ledger.Ask{App: app, Task: real})
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PlaceholderReplaced })
	if rel.For != "real" || rel.Node == "" {
		f.t.Fatalf("it is replaced by %q on %q", rel.For, rel.Node)
	}
	real.Node = rel.Node
	for i, holder := range holders { // the one that goes first
		if holder.ID == rel.TaskID {
			holders[0], holders[i] = holders[i], holders[0]
		}
	}
	return app, holders, real
}

// The ledger restores a task with the end of the placeholder whose place it takes. The core
// has that in mind already, and is not told twice; what the task takes by then counts.
func TestTaskIsRestoredInThePlaceOfItsPlaceholder(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.engage()
	app, holders, real := swapping(f, 1)
	resized := *real
	resized.Resources = maps.Clone(real.Resources)
	resized.Resources["vcore"] = 3000
	f.preds.RemovePod("ph0")
	f.do(ledger.Restore{App: app, Task: &resized}, ledger.Release{Task: holders[0], Termination: ledger.PlaceholderReplaced})
	f.until("it has its place and takes what it does", func() bool { return f.vcore("root.a") == 3000 })
	f.sync()
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "real" }); n != 0 {
		t.Error("it is reported as a new decision")
	}
}

// A node may go with the place that a task was to have there. The core says nothing of that.
func TestNodeGoesBeforeAPlaceholderIsReplaced(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.engage()
	app, _, real := swapping(f, 1)
	f.ok(f.engine.RemoveNode(real.Node))
	f.preds.RemoveNode(real.Node)
	lost := waitFor(f, func(e ledger.NodeLost) bool { return e.TaskID == "real" })
	if lost.Node != real.Node {
		t.Errorf("lost is %q", lost.Node)
	}
	f.do(ledger.Release{Task: real, Termination: ledger.StoppedByRM})
	f.node("other")
	f.do(ledger.Ask{App: app, Task: real})
	if node := f.allocated("real"); node != "other" {
		t.Errorf("it is on %s", node)
	}
}

// An engine that finds placeholders on their way out gives their places to those for which an
// older one gave them up, and to nobody else.
func TestPlaceholdersThatGoAreNotChosen(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	const all = 8
	app := newApp("gang", "root.a")
	app.TaskGroups, app.State, app.PlacedQueue = gang(all), ledger.AppStateRunning, "root.a"
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	var holders []*ledger.Task
	for i := range all {
		f.node(fmt.Sprint("n", i))
		holder := gangTask(app, f.pod(fmt.Sprint("ph", i), "1", on(fmt.Sprint("n", i))), true)
		f.do(ledger.Restore{App: app, Task: holder})
		holders = append(holders, holder)
	}
	for _, holder := range holders[1:] { // as an understudy hears of it
		holder.State, holder.Termination = ledger.TaskStateKilling, ledger.PlaceholderReplaced
		f.do(ledger.Restore{App: app, Task: holder})
	}
	f.engage()
	f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("next", "1"), false)})
	if rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PlaceholderReplaced }); rel.TaskID != "ph0" {
		t.Fatalf("%s is given up a second time", rel.TaskID)
	}
	heir := gangTask(app, f.pod("heir", "1", on("n1")), false)
	f.preds.RemovePod("ph1")
	f.do(ledger.Restore{App: app, Task: heir}, ledger.Release{Task: holders[1], Termination: ledger.PlaceholderReplaced})
	f.sync()
	if got := f.vcore("root.a"); got != all*1000 {
		t.Errorf("usage %d", got)
	}
}
