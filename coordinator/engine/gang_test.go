package engine_test

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func gang(n int32) []v1alpha1.TaskGroup {
	return []v1alpha1.TaskGroup{{Name: "g", MinMember: n, MinResource: map[string]resource.Quantity{
		"cpu": resource.MustParse("1"), "memory": resource.MustParse("64Mi"),
	}}}
}

func gangTask(app *ledger.App, pod *v1.Pod, placeholder bool) *ledger.Task {
	t := newTask(app, pod)
	t.TaskGroup, t.Placeholder = "g", placeholder
	return t
}

func TestPlaceholderIsReplaced(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("gang", "root.a")
	app.TaskGroups = gang(2)
	f.submit(app)
	holders := []*ledger.Task{gangTask(app, f.pod("ph0", "1"), true), gangTask(app, f.pod("ph1", "1"), true)}
	for _, h := range holders {
		f.do(ledger.Ask{App: app, Task: h})
	}
	f.allocated("ph0")
	f.allocated("ph1")
	swapped := func(task string) bool {
		return waitFor(f, func(e ledger.Allocated) bool { return e.TaskID == task }).Swapped
	}
	if swapped("ph0") {
		t.Error("a placeholder is said to have the place of another")
	}
	f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("real", "1"), false)})
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PlaceholderReplaced })
	if rel.For != "real" || rel.Node != "n1" {
		t.Errorf("it is replaced by %q on %q", rel.For, rel.Node)
	}
	if !strings.Contains(rel.Message, "real") {
		t.Errorf("message %q does not name the real task", rel.Message)
	}
	for _, h := range holders {
		if h.ID == rel.TaskID {
			f.preds.RemovePod(h.ID)
			f.do(ledger.Release{Task: h, Termination: ledger.PlaceholderReplaced})
		}
	}
	if node := f.allocated("real"); node != "n1" || !swapped("real") {
		t.Errorf("swapped to %s: %t", node, swapped("real"))
	}
	if got := f.vcore("root.a"); got != 2000 {
		t.Errorf("usage %d after the swap", got)
	}
}

func TestGangTimesOut(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("gang", "root.a")
	app.TaskGroups = gang(6) // two more than fit
	app.PlaceholderTimeout = 1
	f.submit(app)
	for i := range 6 {
		f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("ph"+string(rune('0'+i)), "1"), true)})
	}
	waitFor(f, func(e ledger.AppEnded) bool { return e.State == ledger.AppStateResuming })
	f.until("the allocated are released, the asks dropped", func() bool {
		released, dropped := 0, 0
		for _, e := range f.events {
			switch x := e.(type) {
			case ledger.Released:
				if x.Termination == ledger.Timeout {
					released++
				}
			case ledger.AskReleased:
				if x.Termination == ledger.Timeout {
					dropped++
				}
			}
		}
		return released == 4 && dropped == 2
	})
	for i := range 6 {
		id := "ph" + string(rune('0'+i))
		f.do(ledger.Release{Task: gangTask(app, newPod(id, "1"), true), Termination: ledger.Timeout})
		f.preds.RemovePod(id)
	}
	// The application goes on as ordinary pods.
	f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("real", "1"), false)})
	f.allocated("real")
}

// Who needed placeholders that were released before they had a node does not wait for
// them: they do not come any more.
func TestPlaceholdersThatNeverCameAreNotWaitedFor(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.engage()
	app := newApp("gang", "root.a")
	app.TaskGroups = gang(2)
	f.submit(app)
	holders := []*ledger.Task{gangTask(app, f.pod("ph0", "1"), true), gangTask(app, f.pod("ph1", "1"), true)}
	for _, h := range holders {
		f.do(ledger.Ask{App: app, Task: h})
	}
	f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("real", "1"), false)})
	f.sync()
	for _, h := range holders {
		f.preds.RemovePod(h.ID)
		f.do(ledger.Release{Task: h, Termination: ledger.StoppedByRM})
	}
	f.node("n1")
	f.allocated("real")
	// One that is asked for anew is waited for again.
	anew := gangTask(app, f.pod("ph2", "64"), true)
	f.do(ledger.Ask{App: app, Task: anew})
	f.sync()
	f.do(ledger.Ask{App: app, Task: gangTask(app, f.pod("other", "1"), false)})
	<-time.After(300 * time.Millisecond) // several of the core's cycles
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "other" }); n != 0 {
		t.Error("the placeholder was not waited for")
	}
	f.do(ledger.Release{Task: anew, Termination: ledger.StoppedByRM})
	f.allocated("other")
}

// A gang that ran before a failover, with a placeholder left over, is not taken
// for one that is still waiting, and its ordinary asks survive its deadline.
func TestRunningGangIsRestoredAsRunning(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("gang", "root.small")
	app.TaskGroups = gang(4) // more than the queue would admit now
	app.State = ledger.AppStateRunning
	app.PlaceholderDeadline = ledger.At(time.Now().Add(700 * time.Millisecond))
	f.do(ledger.SubmitApp{App: app, Recovery: true},
		ledger.Restore{App: app, Task: gangTask(app, f.pod("ph0", "1", on("n1")), true)})
	f.engage()
	big := newTask(app, f.pod("big", "16")) // stays pending, in no group
	f.do(ledger.Ask{App: app, Task: big})
	waitFor(f, func(e ledger.Released) bool { return e.TaskID == "ph0" && e.Termination == ledger.Timeout })
	f.sync()
	if n := count(f, func(ledger.AppEnded) bool { return true }); n != 0 {
		t.Errorf("a running gang was ended: %s", show(f.events))
	}
	if n := count(f, func(e ledger.AskReleased) bool { return true }); n != 0 {
		t.Errorf("an ordinary ask was dropped: %s", show(f.events))
	}
}

// A gang that was given up before a failover, and of which a placeholder is left, is not taken for
// one that runs: it does not count as such in its queue.
func TestAGangThatWasGivenUpDoesNotRun(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	wants := map[string]func(*objects.Application) bool{
		"resumes": (*objects.Application).IsResuming, "fails": (*objects.Application).IsFailing, "is-killed": (*objects.Application).IsAccepted,
		"runs": (*objects.Application).IsRunning, "ran-and-fails": (*objects.Application).IsRunning,
	}
	var holders []*ledger.Task
	for id, state := range map[string]ledger.AppState{
		"resumes": ledger.AppStateResuming, "fails": ledger.AppStateFailing, "is-killed": ledger.AppStateKilling,
		"runs": ledger.AppStateRunning, "ran-and-fails": ledger.AppStateFailing,
	} {
		app := newApp(id, "root.a")
		app.TaskGroups, app.State, app.Style = gang(2), state, ledger.Hard
		if id == "resumes" {
			app.Style = ledger.Soft
		}
		if id != "is-killed" {
			app.PlaceholderDeadline = 1 // long ago
		}
		if strings.HasPrefix(id, "r") && id != "resumes" {
			app.StateLog = []ledger.Transition{{State: ledger.AppStateRunning}}
			app.PlaceholderDeadline = ledger.At(time.Now().Add(time.Hour))
		}
		holder := gangTask(app, f.pod("ph-"+id, "1", on("n1")), true)
		holders = append(holders, holder)
		f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: holder})
	}
	f.engage()
	f.sync()
	for id, is := range wants {
		f.until(id+" is in its state", func() bool { return is(f.coreApp(id)) })
	}
	<-time.After(100 * time.Millisecond) // a timer that has run out would have fired
	for id, is := range wants {
		if app := f.coreApp(id); app == nil || !is(app) {
			t.Errorf("%s does not stay in its state", id)
		}
	}
	for _, holder := range holders { // and goes with what is left
		f.preds.RemovePod(holder.ID)
		f.do(ledger.Release{Task: holder, Termination: ledger.Timeout})
	}
	f.until("nothing is charged", func() bool { return f.vcore("root.a") == 0 })
}

// A placeholder may go, with its node for instance, at the moment at which the core swaps
// a task in for it: the task has to get its place all the same, and nothing may be charged
// for the placeholder.
func TestPlaceholderGoesWhileItIsReplaced(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("gang", "root.a")
	app.TaskGroups = gang(1)
	f.submit(app)
	holder, real := gangTask(app, f.pod("ph0", "1"), true), gangTask(app, f.pod("real", "1"), false)
	f.do(ledger.Ask{App: app, Task: holder})
	f.allocated("ph0")
	f.ok(f.engine.ReleaseWhileSwapping(app, real, holder, "n1"))
	f.preds.RemovePod("ph0")
	f.allocated("real")
	f.sync()
	if got := f.vcore("root.a"); got != 1000 {
		t.Errorf("usage %d", got)
	}
}

// A swap that an older core had begun is not known to this one, which must not
// be asked to finish it.
func TestSwapOfAnOlderCore(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("gang", "root.a")
	app.TaskGroups = gang(1)
	app.State = ledger.AppStateRunning
	holder := gangTask(app, f.pod("ph0", "1", on("n1")), true)
	f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: holder})
	f.engage()
	f.preds.RemovePod("ph0")
	f.do(ledger.Release{Task: holder, Termination: ledger.PlaceholderReplaced},
		ledger.Ask{App: app, Task: gangTask(app, f.pod("real", "1"), false)})
	f.allocated("real")
	if got := f.vcore("root.a"); got != 1000 {
		t.Errorf("usage %d", got)
	}
}

// TestAGangThatHasRunIsLikeAnyApplication to a new engine: its next pod is placed, and
// without one it completes, though the engine has never seen a placeholder of it.
func TestAGangThatHasRunIsLikeAnyApplication(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) {
		withQueues(quotaQueues)(c)
		c.CompleteAfter = 50 * time.Millisecond
	})
	f.node("n1")
	gangs := make(map[string]*ledger.App)
	for _, id := range []string{"goes-on", "is-over"} {
		app := newApp(id, "root.a")
		app.State, app.PlacedQueue = ledger.AppStateRunning, "root.a"
		app.TaskGroups = gang(1)
		gangs[id] = app
		f.do(ledger.SubmitApp{App: app, Recovery: true})
	}
	f.sync()
	f.engage()
	f.do(ledger.Ask{App: gangs["goes-on"], Task: gangTask(gangs["goes-on"], f.pod("next", "1"), false)})
	f.allocated("next")
	waitFor(f, func(e ledger.AppEnded) bool { return e.AppID == "is-over" && e.State == ledger.AppStateCompleted })
}
