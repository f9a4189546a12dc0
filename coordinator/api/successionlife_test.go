package api_test

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// nowhere is a node that there is not.
const nowhere = "nowhere"

// group is a task group whose placeholders run on one node.
func group(name string, members int32, node string) v1alpha1.TaskGroup {
	return v1alpha1.TaskGroup{
		Name: name, MinMember: members, NodeSelector: map[string]string{v1.LabelHostname: node},
		MinResource: map[string]resource.Quantity{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")},
	}
}

func (l *lead) addApp(id, queue, user string, edit ...func(*ledger.AddApp)) {
	e := ledger.AddApp{
		Stamp: now(), ID: id, Manager: "general", Queue: queue, User: user, Groups: []string{"dev"},
		Tags: map[string]string{"namespace": "default"}, Submitted: now().At,
	}
	for _, f := range edit {
		f(&e)
	}
	l.push(e)
}

func gang(style ledger.GangStyle, seconds int64, groups ...v1alpha1.TaskGroup) func(*ledger.AddApp) {
	return func(e *ledger.AddApp) { e.Style, e.PlaceholderTimeout, e.TaskGroups = style, seconds, groups }
}

// add adds a pod to an application.
func (l *lead) add(app, name, cpu, group string, edit ...func(*v1.Pod)) {
	l.addTask(app, l.newPod(name, cpu, edit...), group, false)
}

// gone removes the pod of a task.
func (l *lead) gone(app, task string) { l.removePod(&ledger.Task{AppID: app, ID: task}) }

// is waits until the ledger says something of an application.
func (l *lead) is(t *testing.T, app, what string, says func(*ledger.App, func(task string) *ledger.Task) bool) {
	t.Helper()
	ok := false
	err := until(app+": "+what, func() bool {
		l.Read(t.Context(), func(state *ledger.Ledger) {
			of := state.App(app)
			ok = of != nil && says(of, func(id string) *ledger.Task { return state.Task(app, id) })
		})
		return ok
	})
	if err != nil {
		t.Fatal(err)
	}
}

func inState(state ledger.AppState) func(*ledger.App, func(string) *ledger.Task) bool {
	return func(app *ledger.App, _ func(string) *ledger.Task) bool { return app.State == state }
}

func (l *lead) bound(t *testing.T, app, task string) {
	t.Helper()
	l.is(t, app, task+" is bound", func(_ *ledger.App, of func(string) *ledger.Task) bool {
		found := of(task)
		return found != nil && found.State == ledger.TaskStateBound
	})
}

// live is what happens while a lead leads.
func (l *lead) live(t *testing.T, generation int) {
	if generation == 0 {
		l.begin(t)
		l.beginGangs(t)
		l.end(t)
	} else {
		l.goOn(t, generation)
	}
	l.comeAndGo(t, generation)
}

// begin begins applications without gangs.
func (l *lead) begin(t *testing.T) {
	l.addApp("plain", "root.a", "alice")
	l.add("plain", "runs", "1", "", on("n1"))
	l.bound(t, "plain", "runs")
	l.add("plain", "waits", "3500m", "", on("n1"))
	l.addApp("small", "root.small", "alice")
	l.add("small", "quota", "2", "", on("big"))
	l.addApp("dynamic", "", "carol")
	l.add("dynamic", "there", "400m", "", daemon("n3"))
	l.bound(t, "dynamic", "there")
	l.add("dynamic", "daemon", "300m", "", daemon("n3"))
	l.add("dynamic", "stranded", "1", "", on(nowhere))
	l.addApp("idle", "root.g", "alice") // it has never had a pod
	l.addApp("empty", "root.g", "alice")
	l.add("empty", "passes", "100m", "", on("big"))
	l.bound(t, "empty", "passes")
	l.gone("empty", "passes")
}

// stuck are the applications whose pods do not go when they are deleted: their stages last.
var stuck = map[string]bool{"gang-resumes": true, "gang-fails": true, "gang-is-killed": true}

// beginGangs begins a gang for each stage. That of Accepted none is in which a record could be: an
// application with a gang reserves as soon as it is accepted. For the core those that reserve are
// Accepted.
func (l *lead) beginGangs(t *testing.T) {
	for _, g := range []struct {
		id     string
		style  ledger.GangStyle
		limit  int64
		groups []v1alpha1.TaskGroup
		real   int
		state  ledger.AppState
	}{
		{"gang-waits", ledger.Hard, 0, []v1alpha1.TaskGroup{group("g", 2, nowhere)}, 1, ledger.AppStateReserving},
		{"gang-reserves", ledger.Soft, 0, []v1alpha1.TaskGroup{group("g", 2, "big"), group("h", 1, nowhere)}, 1, ledger.AppStateReserving},
		{"gang-runs", ledger.Soft, 0, []v1alpha1.TaskGroup{group("g", 5, "big")}, 1, ledger.AppStateRunning},
		{"gang-replaced", ledger.Hard, 0, []v1alpha1.TaskGroup{group("g", 2, "big")}, 2, ledger.AppStateRunning},
		{"gang-late", ledger.Soft, 1, []v1alpha1.TaskGroup{group("g", 1, "big"), group("h", 1, nowhere)}, 1, ledger.AppStateRunning},
		{"gang-failed", ledger.Hard, 1, []v1alpha1.TaskGroup{group("g", 1, "big"), group("h", 1, nowhere)}, 1, ledger.AppStateFailed},
		{"gang-resumes", ledger.Soft, 1, []v1alpha1.TaskGroup{group("g", 1, "big"), group("h", 1, nowhere)}, 1, ledger.AppStateResuming},
		{"gang-fails", ledger.Hard, 1, []v1alpha1.TaskGroup{group("g", 1, "big"), group("h", 1, nowhere)}, 1, ledger.AppStateFailing},
		{"gang-is-killed", ledger.Soft, 0, []v1alpha1.TaskGroup{group("g", 1, "big"), group("h", 1, nowhere)}, 1, ledger.AppStateReserving},
		{"gang-done", ledger.Hard, 0, []v1alpha1.TaskGroup{group("g", 1, "big")}, 1, ledger.AppStateRunning},
	} {
		l.addApp(g.id, "root.g", "bob", gang(g.style, g.limit, g.groups...))
		for i := range g.real {
			l.add(g.id, fmt.Sprintf("%s-%d", g.id, i), "500m", "g", on("big"))
		}
		l.is(t, g.id, string(g.state), inState(g.state))
		for i := range g.real {
			if g.state == ledger.AppStateRunning {
				l.bound(t, g.id, fmt.Sprintf("%s-%d", g.id, i))
			}
		}
	}
	held := func(n int32) func(*ledger.App, func(string) *ledger.Task) bool {
		return func(app *ledger.App, _ func(string) *ledger.Task) bool { return app.Gang[0].Bound == n }
	}
	l.is(t, "gang-reserves", "two are held", held(2))
	l.is(t, "gang-is-killed", "one is held", held(1))
	l.push(ledger.KillApp{Stamp: now(), AppID: "gang-is-killed"})
	l.is(t, "gang-is-killed", "is being killed", inState(ledger.AppStateKilling))
	l.gone("gang-done", "gang-done-0")
	l.push(ledger.CompleteApp{Stamp: now(), AppID: "gang-done"})
	l.is(t, "gang-done", "completed", inState(ledger.AppStateCompleted))
}

// end has applications come to each of their ends.
func (l *lead) end(t *testing.T) {
	l.addApp("rejected", "root.a", "mallory")
	l.is(t, "rejected", "rejected", inState(ledger.AppStateRejected))
	for _, id := range []string{"completed", "killed", "failed"} {
		l.addApp(id, "root.a", "alice")
		l.add(id, id+"-pod", "100m", "", on("big"))
		l.bound(t, id, id+"-pod")
	}
	l.push(ledger.KillApp{Stamp: now(), AppID: "killed"})
	l.push(ledger.FailApp{Stamp: now(), AppID: "failed", Message: "it had to"})
	l.gone("completed", "completed-pod")
	l.gone("failed", "failed-pod")
	l.push(ledger.CompleteApp{Stamp: now(), AppID: "completed"})
	l.is(t, "completed", "completed", inState(ledger.AppStateCompleted))
	l.is(t, "killed", "killed", inState(ledger.AppStateKilled))
	l.is(t, "failed", "failed", inState(ledger.AppStateFailed))
}

// goOn has what was there go on: a placeholder that another lead has made is replaced.
func (l *lead) goOn(t *testing.T, generation int) {
	next := fmt.Sprintf("gang-runs-%d", generation)
	l.add("gang-runs", next, "500m", "g", on("big"))
	l.bound(t, "gang-runs", next)
}

const (
	loadApps = 8
	loadPods = 10
)

// comeAndGo has pods of many applications come and go: those with an odd number are of the
// present generation.
func (l *lead) comeAndGo(t *testing.T, generation int) {
	name := func(i, k, generation int) string { return fmt.Sprintf("load-%d-%d-%d", i, k, generation*(k%2)) }
	for i := range loadApps {
		app := fmt.Sprintf("load-%d", i)
		if generation == 0 {
			l.addApp(app, "root.g", "alice")
		}
		for k := range loadPods {
			if generation > 0 && k%2 == 0 {
				continue
			}
			if generation > 0 {
				l.gone(app, name(i, k, generation-1))
			}
			l.add(app, name(i, k, generation), "50m", "", on("big"))
		}
	}
	for i := range loadApps {
		for k := range loadPods {
			l.bound(t, fmt.Sprintf("load-%d", i), name(i, k, generation))
		}
	}
}
