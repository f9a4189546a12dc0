package api

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// PathExplain answers why pods wait: with the query pod=NAMESPACE/NAME or application=ID.
const PathExplain = "/api/v1/explain"

// maxExplained bounds how many pods of an application are explained. Those that request the same
// for the same task group count as one.
const maxExplained = 20

// ApplicationExplanation says what the pods of an application wait for.
type ApplicationExplanation struct {
	Application string     `json:"application"`
	Queue       string     `json:"queue,omitempty"`
	User        string     `json:"user,omitempty"`
	State       string     `json:"state"`
	Message     string     `json:"message,omitempty"`
	Since       *time.Time `json:"since,omitempty"`
	// Tasks counts its pods by state.
	Tasks map[string]int  `json:"tasks,omitempty"`
	Gang  []explain.Group `json:"gang,omitempty"`
	// Waiting has the oldest pod of each kind that waits; at most 20 are looked at.
	Waiting []WaitingPods `json:"waiting,omitempty"`
}

// WaitingPods are pods that request the same for the same task group, and the oldest of them.
type WaitingPods struct {
	Pods int `json:"pods"`
	explain.Explanation
}

// explain answers from what this replica has.
func (a *API) explain(w http.ResponseWriter, r *http.Request) {
	pod, app := r.URL.Query().Get("pod"), r.URL.Query().Get("application")
	switch {
	case (pod == "") == (app == ""):
		badRequest("one of pod=NAMESPACE/NAME and application=ID is needed").write(w)
	case app != "":
		a.explainApplication(w, r, app)
	default:
		namespace, name, ok := strings.Cut(pod, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			badRequest("a pod is NAMESPACE/NAME").write(w)
			return
		}
		a.explainPod(w, r, namespace, name)
	}
}

func (a *API) explainPod(w http.ResponseWriter, r *http.Request, namespace, name string) {
	pod := a.source.Pod(namespace, name)
	var found records
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) { found = recordsOf(l, taskOf(l, pod, namespace, name)) }) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	if pod == nil && found.task == nil {
		notFound(fmt.Sprintf("pod %s/%s is not known", namespace, name)).write(w)
		return
	}
	a.core.turns.write(w, r, func() any { return explain.Explain(a.facts(found, pod)) })
}

// records are those that concern one pod.
type records struct {
	task *ledger.Task
	app  *ledger.App
	// placeholder is the oldest of the application's that has no node, nil if there is none.
	placeholder *ledger.Task
}

// taskOf finds the task of a pod, which may be gone.
func taskOf(l *ledger.Ledger, pod *v1.Pod, namespace, name string) *ledger.Task {
	if pod != nil {
		return l.TaskByID(string(pod.UID))
	}
	var newest *ledger.Task
	for app := range l.Apps() {
		for task := range l.Tasks(app.ID) {
			if task.Namespace == namespace && task.Name == name && (newest == nil || newest.Submitted < task.Submitted) {
				newest = task
			}
		}
	}
	return newest
}

func recordsOf(l *ledger.Ledger, task *ledger.Task) records {
	found := records{task: task}
	if task == nil {
		return found
	}
	found.app = l.App(task.AppID)
	if found.app == nil || found.app.State != ledger.AppStateReserving || task.Placeholder {
		return found
	}
	for t := range l.Tasks(task.AppID) {
		if t.Placeholder && waits(t) {
			found.placeholder = t
			break
		}
	}
	return found
}

func waits(t *ledger.Task) bool {
	return t.Node == "" && !t.State.Terminal() && !t.FailPod && !t.DeletePod
}

// facts puts together what is known of a pod. Only the engine of a lead knows more than the
// records.
func (a *API) facts(of records, pod *v1.Pod) explain.Facts {
	f := explain.Facts{Now: time.Now(), SchedulerName: a.cfg.SchedulerName, Pod: pod, Task: of.task, App: of.app}
	if of.task == nil {
		return f
	}
	if engine := a.source.Engine(); engine != nil && a.source.Standing().Leads {
		f.Core = engine.Explain(of.task.AppID, of.task.ID)
	}
	if holder := of.placeholder; holder != nil {
		first := a.facts(records{task: holder, app: of.app}, a.source.Pod(holder.Namespace, holder.Name))
		f.Placeholder = &first
	}
	return f
}

func (a *API) explainApplication(w http.ResponseWriter, r *http.Request, id string) {
	var x ApplicationExplanation
	var kinds []*waitingKind
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		if app := l.App(id); app != nil {
			x, kinds = summaryOf(l, app), kindsOf(l, app)
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	if x.Application == "" {
		notFound(fmt.Sprintf("application %s is not known", id)).write(w)
		return
	}
	a.core.turns.write(w, r, func() any {
		for _, kind := range kinds {
			pod := a.source.Pod(kind.oldest.task.Namespace, kind.oldest.task.Name)
			x.Waiting = append(x.Waiting, WaitingPods{kind.pods, explain.Explain(a.facts(kind.oldest, pod))})
		}
		return x
	})
}

func summaryOf(l *ledger.Ledger, app *ledger.App) ApplicationExplanation {
	x := ApplicationExplanation{
		Application: app.ID, Queue: cmp.Or(app.PlacedQueue, app.Queue), User: app.User, State: string(app.State),
		Message: app.Message, Tasks: make(map[string]int), Gang: explain.GroupsOf(app),
	}
	if n := len(app.StateLog); n > 0 {
		since := app.StateLog[n-1].At.Time()
		x.Since = &since
	}
	for task := range l.Tasks(app.ID) {
		x.Tasks[string(task.State)]++
	}
	return x
}

// waitingKind are pods of one kind that wait.
type waitingKind struct {
	oldest records
	pods   int
}

// kindsOf returns the kinds of pods of an application that wait, in the order of their oldest.
func kindsOf(l *ledger.Ledger, app *ledger.App) []*waitingKind {
	known := make(map[string]*waitingKind)
	for task := range l.Tasks(app.ID) {
		if !waits(task) {
			continue
		}
		shape := fmt.Sprintf("%v %s", task.Placeholder, task.TaskGroup)
		for _, name := range slices.Sorted(maps.Keys(task.Resources)) {
			shape += fmt.Sprintf(" %s=%d", name, task.Resources[name])
		}
		kind := known[shape]
		if kind == nil {
			kind = &waitingKind{}
			known[shape] = kind
		}
		if kind.pods++; kind.oldest.task == nil || older(task, kind.oldest.task) {
			kind.oldest.task = task
		}
	}
	kinds := slices.SortedFunc(maps.Values(known), func(a, b *waitingKind) int {
		if older(a.oldest.task, b.oldest.task) {
			return -1
		}
		return 1
	})
	kinds = kinds[:min(len(kinds), maxExplained)]
	for _, kind := range kinds {
		kind.oldest = recordsOf(l, kind.oldest.task)
	}
	return kinds
}

func older(a, b *ledger.Task) bool {
	return cmp.Or(cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID)) < 0
}
