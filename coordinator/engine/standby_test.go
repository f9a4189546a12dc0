package engine_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// usage is what tasks of the tests take: one CPU each, and what goes with it.
func usage(tasks ...*ledger.Task) map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	for _, t := range tasks {
		if out[t.AppID] == nil {
			out[t.AppID] = map[string]int64{}
		}
		for name, v := range t.Resources {
			out[t.AppID][name] += v
		}
	}
	return out
}

// differ says where the engine's account is not what tasks take.
func (f *fixture) differ(tasks ...*ledger.Task) error {
	f.t.Helper()
	found, err := f.engine.Compare(f.t.Context(), usage(tasks...))
	f.ok(err)
	if len(found) == 0 {
		return nil
	}
	return found
}

// Nodes that are open already do not make a held engine place or say anything.
func TestOpenNodesOfAHeldEngine(t *testing.T) {
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
	f.sync() // a node that the core has yet to accept would be opened then
	f.ok(f.engine.Open())
	f.node("n2") // one that comes after it
	f.ok(f.differ(there))
	if n := f.total(); n != 0 {
		t.Errorf("%d events of a held engine", n)
	}
	f.engage()
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("new", "1"))})
	f.allocated("new")
}

func TestCompareFindsWhatTheCoreLacks(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	a, b := newApp("a", "root.a"), newApp("b", "root.small")
	f.do(ledger.SubmitApp{App: a, Recovery: true}, ledger.SubmitApp{App: b, Recovery: true})
	on := func(app *ledger.App, id, node string) *ledger.Task {
		task := newTask(app, f.pod(id, "1"))
		task.Node = node
		return task
	}
	one, two, away := on(a, "one", "n1"), on(b, "two", "n1"), on(a, "away", "n2")
	for app, tasks := range map[*ledger.App][]*ledger.Task{a: {one, away}, b: {two}} {
		for _, task := range tasks {
			f.do(ledger.Restore{App: app, Task: task})
		}
	}
	// What waits for its node is in the ledger, and not the core's yet.
	f.ok(f.differ(one, two, away))

	for name, want := range map[string][]*ledger.Task{
		"application b in queue root.small uses vcore 1000, not 0": {one, away},
		"application a in queue root.a uses vcore 2000, not 3000":  {one, two, away, on(a, "never told", "n1")},
		"application unknown, which it does not have, uses vcore 0, not 1000": {
			one, two, away, on(newApp("unknown", "root.a"), "x", "n1"),
		},
	} {
		err := f.differ(want...)
		if !errors.Is(err, engine.ErrMismatch) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "; queue root.a uses") {
			t.Errorf("want a mismatch of %q: %v", name, err)
		}
	}

	f.node("n2")
	f.ok(f.differ(one, two, away))
	f.do(ledger.Release{Task: two, Termination: ledger.StoppedByRM})
	f.ok(f.differ(one, away))
}

// A gang that another core completed while this one was held is not taken for
// one that is still waiting when it is released, whatever its clock says: here a
// placeholder is missing whose node is not known yet.
func TestGangCompletedWhileHeld(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	waiting := newApp("gang", "root.a")
	waiting.TaskGroups = gang(2)
	waiting.State = ledger.AppStateReserving
	waiting.PlaceholderDeadline = ledger.At(time.Now().Add(time.Second))
	f.do(ledger.SubmitApp{App: waiting, Recovery: true})
	for id, node := range map[string]string{"ph0": "n1", "ph1": "n2"} {
		holder := gangTask(waiting, f.pod(id, "1", on(node)), true)
		holder.Node = node
		f.do(ledger.Restore{App: waiting, Task: holder})
	}
	f.sync()
	running := *waiting
	running.State = ledger.AppStateRunning
	f.do(ledger.SubmitApp{App: &running, Recovery: true})
	f.engage()
	big := newTask(&running, f.pod("big", "16")) // stays pending, in no group
	f.do(ledger.Ask{App: &running, Task: big})
	waitFor(f, func(e ledger.Released) bool { return e.TaskID == "ph0" && e.Termination == ledger.Timeout })
	f.sync()
	if n := count(f, func(ledger.AppEnded) bool { return true }); n != 0 {
		t.Errorf("a running gang was ended: %s", show(f.events))
	}
	if n := count(f, func(ledger.AskReleased) bool { return true }); n != 0 {
		t.Errorf("an ordinary ask was dropped: %s", show(f.events))
	}
}

// A held core sees no asks: an application without allocations is not idle for
// it. Whether it is, is seen once asks reach the core.
func TestHeldEngineCompletesNothing(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) {
		withQueues(quotaQueues)(c)
		c.CompleteAfter = 3 * time.Second
	})
	f.node("n1")
	busy, idle := newApp("busy", "root.a"), newApp("idle", "root.a")
	for _, app := range []*ledger.App{busy, idle} {
		task := newTask(app, f.pod("first-"+app.ID, "1", on("n1")))
		task.Node = "n1"
		f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: task})
		f.sync()
		f.preds.RemovePod(task.ID)
		f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
	}
	f.sync()
	<-time.After(4 * time.Second) // longer than it takes to complete
	f.engage()
	f.do(ledger.Ask{App: busy, Task: newTask(busy, f.pod("second", "1"))})
	f.allocated("second")
	waitFor(f, func(e ledger.AppEnded) bool { return e.AppID == "idle" && e.State == ledger.AppStateCompleted })
	if n := count(f, func(e ledger.AppEnded) bool { return e.AppID == "busy" }); n != 0 {
		t.Errorf("an application with a pod was ended: %s", show(f.events))
	}
}

// TestATaskOfTwoApplications: records of older versions may say first that a task is
// one application's and then that it is another's. It counts for the latter alone,
// and what is said of its double changes nothing.
func TestATaskOfTwoApplications(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	a, b := newApp("a", "root.a"), newApp("b", "root.small")
	f.do(ledger.SubmitApp{App: a, Recovery: true}, ledger.SubmitApp{App: b, Recovery: true})
	pod := f.pod("p", "1")
	double, task := newTask(b, pod), newTask(a, pod)
	double.Node, task.Node = "n1", "n1"
	f.do(ledger.Restore{App: b, Task: double})
	f.ok(f.differ(double))
	f.do(ledger.Restore{App: a, Task: task})
	f.ok(f.differ(task))
	f.do(ledger.Release{Task: double, Termination: ledger.StoppedByRM}, ledger.ForgetApp{AppID: "b"})
	f.ok(f.differ(task))
}

// coreApp is an application as the core has it.
func (f *fixture) coreApp(id string) *objects.Application {
	return f.engine.Cluster().GetPartitionWithoutClusterID("default").GetApplication(id)
}

// An allocation that was told before its pod was seen has what only the pod knows once that
// has been seen: labels, and the priority by which it is preempted.
func TestRestoredBeforeItsPodWasSeen(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("a", "root.a")
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	priority := int32(7)
	pod := newPod("early", "1", func(p *v1.Pod) { p.Spec.Priority = &priority })
	task := newTask(app, pod)
	task.Node = "n1"
	f.do(ledger.Restore{App: app, Task: task})
	f.sync()
	f.preds.SetPod(pod)
	f.do(ledger.Restore{App: app, Task: task}) // as with the record that says that it is bound
	f.sync()
	f.until("the core knows the pod", func() bool {
		all := f.coreApp("a").GetAllAllocations()
		return len(all) == 1 && all[0].GetPriority() == 7 && all[0].GetTagsClone()["kubernetes.io/label/app"] == "test"
	})
	f.ok(f.differ(task))
}

// An application whose pods have come and gone is completing, in a core that has been told of
// none of them as well. One that has had no pod is new.
func TestIdleApplicationsAfterARelease(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	had, fresh := newApp("had", "root.a"), newApp("new", "root.a")
	had.State, had.Originator, fresh.State = ledger.AppStateRunning, "gone", ledger.AppStateRunning
	busy := newApp("busy", "root.a")
	busy.State, busy.Originator = ledger.AppStateRunning, "gone"
	f.do(ledger.SubmitApp{App: had, Recovery: true}, ledger.SubmitApp{App: fresh, Recovery: true}, ledger.SubmitApp{App: busy, Recovery: true})
	f.engage()
	f.do(ledger.Ask{App: busy, Task: newTask(busy, f.pod("waits", "100"))})
	f.until("it is completing", func() bool { return f.coreApp("had").IsCompleting() })
	if !f.coreApp("new").IsNew() || !f.coreApp("busy").IsAccepted() {
		t.Errorf("the others are %s and %s", f.coreApp("new").CurrentState(), f.coreApp("busy").CurrentState())
	}
	f.do(ledger.Ask{App: had, Task: newTask(had, f.pod("more", "1"))})
	f.allocated("more")
}

// What the core is made to say of an idle application is nothing new: the while after which
// it has completed goes on.
func TestWhatIsIdleStaysSo(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	had := newApp("had", "root.a")
	had.State, had.Originator = ledger.AppStateRunning, "gone"
	f.do(ledger.SubmitApp{App: had, Recovery: true})
	f.engage()
	began := f.engine.IdleTimer("had")
	f.until("it is completing", func() bool { return f.coreApp("had").IsCompleting() })
	f.sync()
	if now := f.engine.IdleTimer("had"); began == nil || now != began {
		t.Errorf("its timer was %p and is %p", began, now)
	}
}
