package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// PathExplain answers why pods wait: with the query pod=NAMESPACE/NAME, application=ID, or
// queue=NAME for all that wait there and below; root is everything.
const PathExplain = "/api/v1/explain"

// maxExplained bounds how many groups of waiting pods an answer has.
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
	WaitingFor
}

// QueueExplanation says what the pods wait for that are in a queue or below it.
type QueueExplanation struct {
	Queue string `json:"queue"`
	WaitingFor
}

// WaitingFor says for what pods wait.
type WaitingFor struct {
	// Waiting has the pods that wait, those for the same reason together: at most 20 reasons,
	// those of the oldest pods.
	Waiting []WaitingPods `json:"waiting,omitempty"`
	// More are pods that wait for other reasons.
	More int `json:"more,omitempty"`
}

// WaitingPods are pods that wait for the same reason, but for its figures, and the oldest of them.
type WaitingPods struct {
	Pods int `json:"pods"`
	explain.Explanation
}

// explain answers from what this replica has.
func (a *API) explain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	pod, app, queue := query.Get("pod"), query.Get("application"), query.Get("queue")
	switch {
	case len(slices.DeleteFunc([]string{pod, app, queue}, func(s string) bool { return s == "" })) != 1:
		apiv1.BadRequest("one of pod=NAMESPACE/NAME, application=ID and queue=NAME is needed").Write(w)
	case app != "":
		a.explainApplication(w, r, app)
	case queue != "":
		a.explainQueue(w, r, queue)
	default:
		namespace, name, ok := strings.Cut(pod, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			apiv1.BadRequest("a pod is NAMESPACE/NAME").Write(w)
			return
		}
		a.explainPod(w, r, namespace, name)
	}
}

func (a *API) explainPod(w http.ResponseWriter, r *http.Request, namespace, name string) {
	pod := a.source.Pod(namespace, name)
	var found records
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		task := taskOf(l, pod, namespace, name)
		found = recordsOf(l, task, stagesOf(l, task))
		if found.app != nil && waits(task) {
			found.estimate = explain.Estimated(l, apiv1.QueueOf(found.app))
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	if pod == nil && found.task == nil {
		apiv1.NotFound("pod %s/%s is not known", namespace, name).Write(w)
		return
	}
	a.core.turns.write(w, r, func() any { return explain.Explain(a.asking().facts(found, pod)) })
}

// records are those that concern one pod.
type records struct {
	task *ledger.Task
	app  *ledger.App
	// stage is for what the pod waits, as the ledger says, empty for nothing.
	stage string
	// placeholder is the oldest of the application's that has no node, nil if there is none, or
	// if the pod does not wait for it.
	placeholder *ledger.Task
	// preemptor is the pod for which this one was preempted, nil if that is not known.
	preemptor *explain.Other
	estimate  *explain.Estimate
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

// stages is what the ledger says of an application whose pods wait for a stage.
type stages struct {
	why         map[string]string // by task
	placeholder *ledger.Task
}

func stagesOf(l *ledger.Ledger, of *ledger.Task) (s stages) {
	if of == nil {
		return s
	}
	waiting := l.WaitingIn(of.AppID)
	s.why = make(map[string]string, len(waiting))
	for _, w := range waiting {
		s.why[w.Task.ID] = w.Why
	}
	if app := l.App(of.AppID); app == nil || app.State != ledger.AppStateReserving || len(waiting) == 0 {
		return s
	}
	for t := range l.Tasks(of.AppID) {
		if t.Placeholder && waits(t) && (s.placeholder == nil || older(t, s.placeholder)) {
			s.placeholder = t
		}
	}
	return s
}

func recordsOf(l *ledger.Ledger, task *ledger.Task, in stages) records {
	if task == nil {
		return records{}
	}
	found := records{task: task, app: l.App(task.AppID), stage: in.why[task.ID]}
	if found.stage != "" {
		found.placeholder = in.placeholder
	}
	if other := l.TaskByID(task.Preemptor()); other != nil {
		found.preemptor = &explain.Other{Task: other, App: l.App(other.AppID)}
	}
	return found
}

func waits(t *ledger.Task) bool {
	return t.Node == "" && !t.State.Terminal() && !t.FailPod && !t.DeletePod
}

// asking looks at pods, and at what they share once.
type asking struct {
	api *API
	now time.Time
	// core is what a lead's engine says, nil where there is none: only that knows more than the
	// records.
	core func(appID, taskID string) *explain.Core
}

func (a *API) asking() asking {
	asks := asking{api: a, now: time.Now()}
	if engine := a.source.Engine(); engine != nil && a.source.Standing().Leads {
		asks.core = engine.Explaining()
	}
	return asks
}

// facts puts together what is known of a pod.
func (a asking) facts(of records, pod *v1.Pod) explain.Facts {
	f := explain.Facts{
		Now: a.now, SchedulerName: a.api.cfg.SchedulerName, Pod: pod, Task: of.task, App: of.app,
		Stage: of.stage, For: of.preemptor, Estimate: of.estimate,
	}
	if of.task == nil {
		return f
	}
	if a.core != nil {
		f.Core = a.core(of.task.AppID, of.task.ID)
	}
	if holder := of.placeholder; holder != nil {
		first := a.facts(records{task: holder, app: of.app}, a.api.source.Pod(holder.Namespace, holder.Name))
		f.Placeholder = &first
	}
	return f
}

func (a *API) explainApplication(w http.ResponseWriter, r *http.Request, id string) {
	var x ApplicationExplanation
	var waiting []records
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		if app := l.App(id); app != nil {
			x, waiting = summaryOf(l, app), waitingIn(l, app, nil)
			estimate := explain.Estimated(l, apiv1.QueueOf(app))
			for i := range waiting {
				waiting[i].estimate = estimate
			}
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	if x.Application == "" {
		apiv1.NotFound("application %s is not known", id).Write(w)
		return
	}
	a.core.turns.write(w, r, func() any {
		x.WaitingFor = a.grouped(waiting)
		return x
	})
}

// explainQueue answers with all that waits in a queue, or below it.
func (a *API) explainQueue(w http.ResponseWriter, r *http.Request, queue string) {
	var waiting []records
	known := queue == "root"
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		for app := range l.Apps() {
			if in := apiv1.QueueOf(app); in == queue || strings.HasPrefix(in, queue+".") || queue == "root" {
				known = true
				waiting = waitingIn(l, app, waiting)
			}
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	if !known {
		apiv1.NotFound("there is no application in queue %s", queue).Write(w)
		return
	}
	a.core.turns.write(w, r, func() any { return QueueExplanation{queue, a.grouped(waiting)} })
}

func summaryOf(l *ledger.Ledger, app *ledger.App) ApplicationExplanation {
	x := ApplicationExplanation{
		Application: app.ID, Queue: apiv1.QueueOf(app), User: app.User, State: string(app.State),
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

// waitingIn adds the pods of an application that wait.
func waitingIn(l *ledger.Ledger, app *ledger.App, to []records) []records {
	var in *stages
	for task := range l.Tasks(app.ID) {
		if !waits(task) {
			continue
		}
		if in == nil {
			found := stagesOf(l, task)
			in = &found
		}
		to = append(to, recordsOf(l, task, *in))
	}
	return to
}

// grouped explains pods, and puts those together that wait for the same.
func (a *API) grouped(waiting []records) (x WaitingFor) {
	slices.SortFunc(waiting, func(a, b records) int { return compareAge(a.task, b.task) })
	asks := a.asking()
	places := make(map[string]int)
	for _, of := range waiting {
		why := explain.Explain(asks.facts(of, a.source.Pod(of.task.Namespace, of.task.Name)))
		kind := string(why.Reason) + explain.Kind(why.Message)
		i, known := places[kind]
		switch {
		case known:
			x.Waiting[i].Pods++
		case len(x.Waiting) < maxExplained:
			places[kind] = len(x.Waiting)
			x.Waiting = append(x.Waiting, WaitingPods{1, why})
		default:
			x.More++
		}
	}
	return x
}

func older(a, b *ledger.Task) bool { return compareAge(a, b) < 0 }

func compareAge(a, b *ledger.Task) int {
	return cmp.Or(cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID))
}
