package ledger

import (
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// generator draws events: half of them answer work that the ledger asked for,
// so that applications get somewhere, half come out of nowhere, as events after
// a failover do.
type generator struct {
	t   *rapid.T
	now Time
	l   *Ledger // for which to draw
}

const genStart = Time(1_700_000_000_000_000_000)

func (g *generator) pick(label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(g.t, label)
}

func (g *generator) chance(label string, percent int) bool {
	return rapid.IntRange(0, 99).Draw(g.t, label) < percent
}

// app draws an application, mostly one that the ledger knows.
func (g *generator) app() string {
	var known []string
	for app := range g.l.Apps() {
		known = append(known, app.ID)
	}
	if len(known) > 0 && g.chance("known app", 85) {
		return g.pick("app", known...)
	}
	return g.pick("app", "a", "b", "c", "?", "")
}

// task draws a task, mostly one that the ledger knows.
func (g *generator) task(app string) string {
	var known []string
	for task := range g.l.Tasks(app) {
		known = append(known, task.ID)
	}
	if len(known) > 0 && g.chance("known task", 85) {
		return g.pick("task", known...)
	}
	return g.pick("task", "0", "1", "2", "3", "4", "?", "")
}

func (g *generator) node() string { return g.pick("node", "n1", "n2", "n3", "n1", "n2", "n3", "") }
func (g *generator) text() string { return g.pick("text", "", "no", "out of luck") }

// stamp lets time pass: mostly little, now and then more than any deadline, and
// sometimes it stands still or steps back, as clocks of two leads do.
func (g *generator) stamp() Stamp {
	step := rapid.SampledFrom([]time.Duration{
		0, time.Millisecond, 100 * time.Millisecond, time.Second, 40 * time.Second, 20 * time.Minute, -time.Second,
	}).Draw(g.t, "passes")
	g.now = g.now.Add(step)
	return Stamp{At: g.now, Trace: g.pick("trace", "", "", "00-1", "00-2")}
}

func (g *generator) resources() map[string]int64 {
	switch rapid.IntRange(0, 3).Draw(g.t, "resources") {
	case 0:
		return nil
	case 1:
		return map[string]int64{}
	}
	return map[string]int64{"vcore": rapid.Int64Range(1, 3).Draw(g.t, "vcore")}
}

// event draws the next event for a ledger.
func (g *generator) event(l *Ledger) Event {
	g.l = l
	if g.chance("answer", 55) {
		if e := g.answer(); e != nil {
			return e
		}
	}
	switch rapid.IntRange(0, 9).Draw(g.t, "source") {
	case 0, 1, 2, 3:
		return g.manager()
	case 4, 5, 6:
		return g.engine()
	case 7, 8:
		return g.executor()
	}
	if g.chance("continue", 30) {
		return Continue{g.stamp(), g.app()}
	}
	return Tick{g.stamp()}
}

// answer confirms, or now and then fails, some of the outstanding work.
func (g *generator) answer() Event {
	due := g.l.Due(math.MaxInt64)
	if len(due) == 0 {
		return nil
	}
	fails := g.chance("fails", 15)
	switch e := due[rapid.IntRange(0, len(due)-1).Draw(g.t, "work")].(type) {
	case SubmitApp:
		if fails {
			return AppRejected{g.stamp(), e.App.ID, g.text()}
		}
		return AppAccepted{g.stamp(), e.App.ID, "root.default"}
	case Ask:
		if fails {
			return AskRejected{g.stamp(), e.Task.AppID, e.Task.ID, g.text()}
		}
		return allocated(g.stamp(), e.Task.AppID, e.Task.ID, g.node(), e.Task.TaskGroup != "")
	case Bind:
		if fails {
			return BindFailed{g.stamp(), e.Task.AppID, e.Task.ID, g.text(), g.chance("refused", 70), e.Task.Node}
		}
		return BindDone{g.stamp(), e.Task.AppID, e.Task.ID, e.Task.Node}
	case CreatePlaceholder:
		if fails && g.chance("for good", 20) {
			return PlaceholderFailed{g.stamp(), e.App.ID, g.text()}
		}
		return AddTask{
			Stamp: g.stamp(), AppID: e.App.ID, ID: "p-" + e.Name, Name: e.Name, Namespace: "default",
			Placeholder: true, TaskGroup: e.Group, Resources: g.resources(), Submitted: g.now,
		}
	case DeletePod:
		switch {
		case fails:
			return DeleteFailed{g.stamp(), e.Task.AppID, e.Task.ID, g.text(), g.chance("refused", 50)}
		case g.chance("object stays", 30):
			return CompleteTask{g.stamp(), e.Task.AppID, e.Task.ID}
		}
		return RemoveTask{g.stamp(), e.Task.AppID, e.Task.ID}
	case FailPod:
		if fails {
			return PodNotFailed{g.stamp(), e.Task.AppID, e.Task.ID, g.text(), g.chance("refused", 50)}
		}
		return PodFailed{g.stamp(), e.Task.AppID, e.Task.ID}
	}
	return nil
}

// crewEvent draws what matters to a crew, and now and then anything.
func (g *generator) crewEvent(l *Ledger) Event {
	g.l = l
	app := g.pick("app", "a", "b")
	task := app + g.pick("task", "0", "1", "2", "3")
	switch rapid.IntRange(0, 12).Draw(g.t, "crew") {
	case 0, 1, 2:
		return AddTask{
			Stamp: g.stamp(), AppID: app, ID: task, Namespace: "default", Name: "pod-" + task, TaskGroup: "c0",
			Resources: g.resources(), Submitted: g.now,
		}
	case 3, 4, 5, 6:
		if e := g.answer(); e != nil {
			return e
		}
	case 7, 8:
		if next, ok := l.NextDeadline(); ok {
			g.now = max(g.now, next)
		}
	case 9:
		return SetCrew{
			g.stamp(), app, "c0", g.pick("uid", "u", "u", "u", "v"), int32(rapid.IntRange(0, 3).Draw(g.t, "wanted")), g.chance("whole", 5),
			Rank{Ranked: g.chance("ranked", 20)},
		}
	case 10:
		return RemoveTask{g.stamp(), app, task}
	case 11:
		return Released{g.stamp(), app, task, rapid.SampledFrom([]Termination{StoppedByRM, PreemptedByEngine}).Draw(g.t, "why"), "", "", ""}
	case 12:
		return g.event(l)
	}
	return Tick{g.stamp()}
}

// swapEvent draws what matters to placeholders that are replaced, and now and then anything
// of the same application.
func (g *generator) swapEvent(l *Ledger) Event {
	g.l = l
	real, hold, node := g.pick("task", "0", "1", "2"), g.pick("hold", "p0", "p1"), g.pick("node", "n1", "n2")
	switch rapid.IntRange(0, 13).Draw(g.t, "swap") {
	case 0, 1, 2, 3:
		return Released{g.stamp(), "a", hold, PlaceholderReplaced, "", real, node}
	case 4, 5:
		return RemoveTask{g.stamp(), "a", hold}
	case 6:
		return allocated(g.stamp(), "a", real, node, true)
	case 7:
		return NodeLost{g.stamp(), "a", real, "", node}
	case 8:
		return RemoveTask{g.stamp(), "a", real}
	case 9:
		return AddTask{Stamp: g.stamp(), AppID: "a", ID: real, TaskGroup: "g0", Resources: g.resources(), Submitted: g.now}
	case 10:
		return AddTask{Stamp: g.stamp(), AppID: "a", ID: real, TaskGroup: "g0", Submitted: g.now, Node: node}
	case 11:
		return Continue{g.stamp(), "a"}
	case 12:
		return Released{g.stamp(), "a", real, PreemptedByEngine, "", "", ""}
	}
	if e := g.answer(); e != nil {
		return e
	}
	return Tick{g.stamp()}
}

func (g *generator) groups() []v1alpha1.TaskGroup {
	var groups []v1alpha1.TaskGroup
	for i := range rapid.IntRange(0, 2).Draw(g.t, "groups") {
		groups = append(groups, v1alpha1.TaskGroup{
			Name:        fmt.Sprintf("g%d", i),
			MinMember:   int32(rapid.IntRange(0, 2).Draw(g.t, "members")),
			MinResource: map[string]resource.Quantity{"cpu": resource.MustParse("1")},
		})
	}
	return groups
}

// addTask draws a pod. What a pod's UID decides, its name and what it is for,
// stays the same when the pod is seen again.
func (g *generator) addTask(app string) AddTask {
	id := g.task(app)
	e := AddTask{
		Stamp: g.stamp(), AppID: app, ID: id, Namespace: "default", Name: "pod-" + id, Resources: g.resources(),
		Submitted: g.now, Terminated: g.chance("terminated", 10),
	}
	if of := g.l.App(app); of != nil && len(of.Crews) > 0 && g.chance("crew member", 70) {
		e.TaskGroup = of.Crews[rapid.IntRange(0, len(of.Crews)-1).Draw(g.t, "crew")].Name
	}
	switch known := g.l.TaskByID(id); {
	case known != nil:
		e.Name, e.Placeholder, e.TaskGroup = known.Name, known.Placeholder, known.TaskGroup
	case id == "3": // created by somebody else than us
		e.Placeholder, e.TaskGroup = true, g.pick("group", "g0", "g1", "nobody's")
	case id == "4": // created by us, and again under the same name
		e.Placeholder, e.TaskGroup = true, g.pick("group", "g0", "g1")
		if of := g.l.App(app); of != nil {
			e.Name = placeholderOf(of, e.TaskGroup, int32(rapid.IntRange(0, 1).Draw(g.t, "index")))
		}
	}
	if g.chance("assigned", 20) {
		e.Node = g.node()
	}
	return e
}

func (g *generator) manager() Event {
	app := g.app()
	switch rapid.IntRange(0, 17).Draw(g.t, "manager") {
	case 0, 1, 2:
		if g.chance("new app", 60) {
			app = g.pick("app", "a", "b", "c")
		}
		return AddApp{
			Stamp: g.stamp(), ID: app, Manager: g.pick("whose", "general", "jobs"), Queue: "root.default",
			User: "u", Groups: []string{}, Tags: map[string]string{"k": "v"}, TaskGroups: g.groups(),
			PlaceholderTimeout: rapid.SampledFrom([]int64{0, 1, 60, -1, math.MaxInt64}).Draw(g.t, "timeout"),
			Style:              rapid.SampledFrom([]GangStyle{"", Soft, Hard}).Draw(g.t, "style"),
			Submitted:          g.now, Recovery: g.chance("recovery", 30),
		}
	case 3, 4, 5, 6, 7:
		return g.addTask(app)
	case 8, 9:
		return CompleteTask{g.stamp(), app, g.task(app)}
	case 10:
		return RemoveTask{g.stamp(), app, g.task(app)}
	case 11:
		return CompleteApp{g.stamp(), app}
	case 12:
		return FailApp{g.stamp(), app, g.text()}
	case 13:
		return KillApp{g.stamp(), app}
	case 14:
		return RemoveApp{g.stamp(), app}
	case 15, 16:
		return SetCrew{
			g.stamp(), app, g.pick("crew", "c0", "c1", ""), g.pick("uid", "u", "u", "u", "v"),
			int32(rapid.IntRange(0, 3).Draw(g.t, "wanted")), g.chance("whole", 5),
			Rank{Ranked: g.chance("ranked", 20)},
		}
	}
	return g.addTask(app)
}

func (g *generator) engine() Event {
	app := g.app()
	task := g.task(app)
	why := rapid.SampledFrom([]Termination{
		NotTerminated, StoppedByRM, Timeout, PreemptedByEngine, PlaceholderReplaced,
	}).Draw(g.t, "why")
	switch rapid.IntRange(0, 7).Draw(g.t, "engine") {
	case 0:
		return AppAccepted{g.stamp(), app, g.pick("queue", "", "root.default", "root.other")}
	case 1:
		return AppRejected{g.stamp(), app, g.text()}
	case 2, 3:
		state := rapid.SampledFrom([]AppState{
			AppStateCompleted, AppStateCompleted, AppStateFailing, AppStateFailed, AppStateResuming, AppStateRunning, "?",
		}).Draw(g.t, "state")
		return AppEnded{g.stamp(), app, state, g.text()}
	case 4:
		return allocated(g.stamp(), app, task, g.node(), g.chance("swapped", 50))
	case 5:
		return Released{g.stamp(), app, task, why, g.text(), g.task(app), g.node()}
	case 6:
		return AskReleased{g.stamp(), app, task, why, g.text()}
	}
	return AskRejected{g.stamp(), app, task, g.text()}
}

func (g *generator) executor() Event {
	app := g.app()
	task := g.task(app)
	switch rapid.IntRange(0, 5).Draw(g.t, "executor") {
	case 0:
		return BindDone{g.stamp(), app, task, g.node()}
	case 1:
		return BindFailed{g.stamp(), app, task, g.text(), g.chance("refused", 70), g.node()}
	case 2:
		return NodeLost{g.stamp(), app, task, g.text(), g.node()}
	case 3:
		if g.chance("for now", 50) {
			return PlaceholderDelayed{g.stamp(), app, g.text()}
		}
		return PlaceholderFailed{g.stamp(), app, g.text()}
	case 4:
		return DeleteFailed{g.stamp(), app, task, g.text(), g.chance("refused", 50)}
	}
	return PodFailed{g.stamp(), app, task}
}

// RandomLedger draws a ledger that has seen some events; for the tests outside
// of the package.
func RandomLedger(t *rapid.T) *Ledger {
	g := &generator{t: t, now: genStart}
	l := New()
	for range rapid.IntRange(1, 100).Draw(t, "steps") {
		l.Step(g.event(l))
	}
	return l
}

// allocated says that the engine chose a node, which is of an instance type of its own.
func allocated(at Stamp, app, task, node string, swapped bool) Allocated {
	return Allocated{Stamp: at, AppID: app, TaskID: task, Node: node, InstanceType: "type-" + node, Swapped: swapped}
}
