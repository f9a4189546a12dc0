package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Reason is what is in the way of a pod, in one word.
type Reason string

// The reasons.
const (
	// Bound says that the pod has a node: nothing is in its way.
	Bound Reason = "Bound"
	// Ended says that the pod, or its task, is over.
	Ended Reason = "Ended"
	// Preempted says that the engine takes, or took, the pod's place.
	Preempted Reason = "Preempted"
	// NotFound says that there is no such pod.
	NotFound Reason = "NotFound"
	// OtherScheduler and Ignored say that the pod is not scheduled here.
	OtherScheduler Reason = "OtherScheduler"
	Ignored        Reason = "Ignored"
	// Deleting says that the pod is being deleted before it got a node.
	Deleting Reason = "Deleting"
	// Gated says that the pod has scheduling gates.
	Gated Reason = "SchedulingGated"
	// NotReported says that no app manager has reported the pod: it waits for the object that it
	// belongs to, or that object is suspended.
	NotReported Reason = "NotReported"
	// ApplicationRejected and ApplicationEnded say so of its application.
	ApplicationRejected Reason = "ApplicationRejected"
	ApplicationEnded    Reason = "ApplicationEnded"
	// ApplicationNotAccepted says that the engine has not taken the application yet.
	ApplicationNotAccepted Reason = "ApplicationNotAccepted"
	// GangIncomplete says that the gang of the application, or the task group of the pod, is not
	// complete, GangResuming that it was given up and that its placeholders are still there, and
	// PlaceholderStays that one cannot be deleted whose place the pod is to take.
	GangIncomplete   Reason = "GangIncomplete"
	GangResuming     Reason = "GangResuming"
	PlaceholderStays Reason = "PlaceholderStays"
	// Binding says that the pod has a place and is being bound, BindingFailed that this was tried
	// in vain and will be again.
	Binding       Reason = "Binding"
	BindingFailed Reason = "BindingFailed"
	// RunningApplications says that a queue, a user or a group has as many running applications as
	// they may have.
	RunningApplications Reason = "RunningApplications"
	// QueueQuota and UserLimit say that the pod is beyond what a queue on its path, or its user or
	// group there, has left.
	QueueQuota Reason = "QueueQuota"
	UserLimit  Reason = "UserLimit"
	// Backoff says that the application waits after too many requests that fit nowhere.
	Backoff Reason = "Backoff"
	// NoNode says that no node takes the pod now.
	NoNode Reason = "NoNode"
	// Turn says that nodes would take the pod, and that others come first.
	Turn Reason = "Turn"
)

// Explanation is the answer.
type Explanation struct {
	Pod         string `json:"pod,omitempty"` // namespace/name
	Task        string `json:"task,omitempty"`
	Application string `json:"application,omitempty"`
	// Queue is where the application is, or would like to be.
	Queue            string `json:"queue,omitempty"`
	User             string `json:"user,omitempty"`
	TaskState        string `json:"taskState,omitempty"`
	ApplicationState string `json:"applicationState,omitempty"`

	Reason  Reason `json:"reason"`
	Message string `json:"message"`
	// Unblock is what would let the pod go on, the easiest first; empty if nobody can do anything.
	Unblock []string `json:"unblock,omitempty"`
	// Since is when the pod began to wait, for its application's stage or for a place.
	Since *time.Time `json:"since,omitempty"`
	// Deadline is until when the gang has time.
	Deadline *time.Time `json:"deadline,omitempty"`
	// Placeholder is why the oldest placeholder that has no node waits, if the pod waits for it.
	Placeholder *Explanation `json:"placeholder,omitempty"`
	// For is the pod that took, or takes, the place of one that is preempted.
	For *Party `json:"for,omitempty"`
	// Estimate is of how long the pod may have to wait.
	Estimate *Estimate `json:"estimate,omitempty"`

	Requests map[string]string `json:"requests,omitempty"`
	Limits   []Limit           `json:"limits,omitempty"`
	Gang     []Group           `json:"gang,omitempty"`
	Nodes    *Nodes            `json:"nodes,omitempty"`
	Order    *Order            `json:"order,omitempty"`
	// Reserved is the node that is kept for the pod.
	Reserved string `json:"reserved,omitempty"`
}

// Limit is one on the path of the pod: of a queue, or of a user or group in a queue.
type Limit struct {
	Kind  string `json:"kind"` // queue, user or group
	Name  string `json:"name,omitempty"`
	Queue string `json:"queue"`
	// Short are the resources of which less is left than the pod requests.
	Short     []string  `json:"short,omitempty"`
	Resources []Measure `json:"resources,omitempty"`
	// never says that the pod alone is beyond it.
	never bool
	// Running and MaxRunning count applications; there is no limit if it is zero.
	Running    int    `json:"runningApplications,omitempty"`
	MaxRunning uint64 `json:"maxRunningApplications,omitempty"`
}

// Measure is one resource of a limit.
type Measure struct {
	Resource   string `json:"resource"`
	Asked      string `json:"asked,omitempty"`
	Used       string `json:"used"`
	Max        string `json:"max,omitempty"`
	Guaranteed string `json:"guaranteed,omitempty"`
}

// Group is a task group of a gang.
type Group struct {
	Name     string `json:"name"`
	Wanted   int32  `json:"wanted"`
	Bound    int32  `json:"bound"`
	Replaced int32  `json:"replaced,omitempty"`
	TimedOut int32  `json:"timedOut,omitempty"`
}

// Nodes says what nodes have against the pod.
type Nodes struct {
	Total int `json:"total"`
	Fit   int `json:"fit"`
	// Reasons are sorted, the most frequent first.
	Reasons []NodeReason `json:"reasons,omitempty"`
}

// NodeReason is one of them.
type NodeReason struct {
	Reason  string `json:"reason"`
	Nodes   int    `json:"nodes"`
	Example string `json:"example,omitempty"`
}

// Order is the place of the pod among those that wait.
type Order struct {
	Policy   string `json:"policy"` // of the queue: fifo or fair
	Priority int32  `json:"priority"`
	// Submitted is that of the application.
	Submitted *time.Time `json:"submitted,omitempty"`
	// Applications of the queue come before that of the pod, and Pods of its own application
	// before the pod.
	Applications int `json:"applicationsAhead"`
	Pods         int `json:"podsAhead"`
}

// Party is a pod that something was done for.
type Party struct {
	Pod         string `json:"pod"` // namespace/name
	Application string `json:"application"`
	Queue       string `json:"queue,omitempty"`
	User        string `json:"user,omitempty"`
}

// Explain answers.
func Explain(f Facts) Explanation {
	x := f.figures()
	if !f.first(&x, (*Facts).preempted, (*Facts).podItself, (*Facts).known, (*Facts).application, (*Facts).stage, (*Facts).placed) {
		f.place(&x)
	}
	return x
}

// Unplaced answers for a task of which the engine has an ask and for which it has no place, from
// what the engine knows alone. That is Explain's answer as long as pod and records have nothing
// to say.
func Unplaced(f Facts) Explanation {
	x := f.figures()
	f.place(&x)
	return x
}

// place looks at what keeps the engine from giving the pod a place.
func (f *Facts) place(x *Explanation) {
	if !f.first(x, (*Facts).runningApplications, (*Facts).quota, (*Facts).nodes, (*Facts).backoff) {
		f.turn(x)
	}
}

// first looks until something is in the way, and reports whether anything is.
func (f *Facts) first(x *Explanation, looks ...func(*Facts, *Explanation) bool) bool {
	for _, look := range looks {
		if look(f, x) {
			return true
		}
	}
	return false
}

func (x *Explanation) because(reason Reason, format string, args ...any) bool {
	x.Reason, x.Message = reason, fmt.Sprintf(format, args...)
	return true
}

func (x *Explanation) unblock(format string, args ...any) {
	x.Unblock = append(x.Unblock, fmt.Sprintf(format, args...))
}

// preempted looks at a pod whose place the engine has taken.
func (f *Facts) preempted(x *Explanation) bool {
	if f.Task == nil || f.Task.Termination != ledger.PreemptedByEngine || f.Task.Placeholder {
		return false
	}
	if f.For != nil {
		x.For = &Party{Pod: f.For.Task.Namespace + "/" + f.For.Task.Name, Application: f.For.Task.AppID}
		if app := f.For.App; app != nil {
			x.For.Queue, x.For.User = cmp.Or(app.PlacedQueue, app.Queue), app.User
		}
	}
	x.unblock("have the pod's queue guaranteed what it needs, or give the pod a higher priority")
	return x.because(Preempted, "%s", cmp.Or(f.Task.Message, "the engine has taken the pod's place for another one"))
}

// podItself looks at what the pod says of itself.
func (f *Facts) podItself(x *Explanation) bool {
	pod := f.Pod
	switch {
	case pod == nil && f.Task == nil:
		return x.because(NotFound, "there is no such pod, and no record of one")
	case pod == nil:
		return x.because(Ended, "the pod is gone; its task is %s%s", f.Task.State, colon(f.Task.Message))
	case workload.Terminated(pod):
		return x.because(Ended, "the pod has ended: %s%s", pod.Status.Phase, colon(cmp.Or(pod.Status.Message, pod.Status.Reason)))
	case pod.Spec.NodeName != "":
		return x.because(Bound, "the pod is on node %s", pod.Spec.NodeName)
	case pod.Spec.SchedulerName != f.SchedulerName:
		x.unblock("create the pod with schedulerName %s", f.SchedulerName)
		return x.because(OtherScheduler, "the pod is for the scheduler %s, not for %s", pod.Spec.SchedulerName, f.SchedulerName)
	case pod.DeletionTimestamp != nil:
		return x.because(Deleting, "the pod is being deleted, and kept by its finalizers: %s", strings.Join(pod.Finalizers, ", "))
	case len(pod.Spec.SchedulingGates) > 0:
		gates := make([]string, len(pod.Spec.SchedulingGates))
		for i, g := range pod.Spec.SchedulingGates {
			gates[i] = g.Name
		}
		x.unblock("whoever has set the scheduling gates takes them off")
		return x.because(Gated, "the pod has scheduling gates: %s", strings.Join(gates, ", "))
	case f.Task == nil && !workload.Ours(pod, f.SchedulerName):
		x.unblock("create the pod without the annotation %s", workload.AnnotationIgnore)
		return x.because(Ignored, "the annotation %s has the pod ignored", workload.AnnotationIgnore)
	}
	return false
}

// known looks for the records of the pod.
func (f *Facts) known(x *Explanation) bool {
	if f.Task != nil && f.App != nil {
		return false
	}
	x.unblock("if a custom resource owns the pod: look whether it exists and is not suspended")
	return x.because(NotReported, "no app manager has reported the pod yet")
}

// application looks at applications that have ended, or not begun.
func (f *Facts) application(x *Explanation) bool {
	why := colon(f.App.Message)
	switch f.App.State {
	case ledger.AppStateRejected:
		x.unblock("make room for the application %s in its queue's configuration, and create the pod anew", f.App.ID)
		return x.because(ApplicationRejected, "application %s was rejected%s", f.App.ID, why)
	case ledger.AppStateCompleted, ledger.AppStateFailing, ledger.AppStateFailed, ledger.AppStateKilling, ledger.AppStateKilled:
		x.unblock("create the pod anew, or with another application ID")
		return x.because(ApplicationEnded, "application %s is %s%s", f.App.ID, f.App.State, why)
	case ledger.AppStateNew, ledger.AppStateSubmitted, ledger.AppStateRecovering:
		return x.because(ApplicationNotAccepted, "application %s has not been accepted yet: it is %s", f.App.ID, f.App.State)
	}
	return false
}

// placed looks at a task that has a place, or has ended while its pod has not.
func (f *Facts) placed(x *Explanation) bool {
	t := f.Task
	switch {
	case t.State.Terminal() || t.State == ledger.TaskStateKilling || t.State == ledger.TaskStateRejected || t.FailPod:
		return x.because(Ended, "the task is %s%s", t.State, colon(cmp.Or(t.Message, t.Reason)))
	case t.Node != "" && t.Retries > 0:
		x.unblock("look at the Events of the pod: another node is chosen when this one refuses for good")
		return x.because(BindingFailed, "the pod is to be bound to %s; %d attempts failed%s", t.Node, t.Retries, colon(t.Message))
	case t.Holder != "":
		return x.because(Binding, "the pod is to be bound to %s once the placeholder is gone that holds its place", t.Node)
	case t.Node != "":
		return x.because(Binding, "the pod is being bound to %s", t.Node)
	}
	return false
}

// stage looks at a pod that waits for a stage of its application or of its task group.
func (f *Facts) stage(x *Explanation) bool {
	if f.Stage == "" {
		return false
	}
	reason := GangIncomplete
	switch {
	case f.App.State == ledger.AppStateResuming:
		reason = GangResuming
	case f.Task.Holder != "":
		reason = PlaceholderStays
	case f.App.State == ledger.AppStateReserving:
		if at := f.App.PlaceholderDeadline; at != 0 {
			deadline := at.Time()
			x.Deadline = &deadline
		}
		if f.Placeholder != nil {
			first := Explain(*f.Placeholder)
			x.Placeholder, x.Unblock = &first, append(x.Unblock, first.Unblock...)
		}
	}
	return x.because(reason, "%s", f.Stage)
}

// runningApplications looks at an application that may not begin to run.
func (f *Facts) runningApplications(x *Explanation) bool {
	if f.Core == nil || f.Core.ApplicationState != "Accepted" || f.Task.Placeholder {
		return false
	}
	for _, l := range x.Limits {
		if l.MaxRunning > 0 && uint64(max(0, l.Running)) >= l.MaxRunning {
			x.unblock("an application of %s ends, or its limit of %d is raised", l.who(), l.MaxRunning)
			return x.because(RunningApplications, "%s has %d running applications of %d that it may have", l.who(), l.Running, l.MaxRunning)
		}
	}
	return false
}

// who names the holder of a limit.
func (l *Limit) who() string {
	if l.Kind == KindQueue {
		return "queue " + l.Queue
	}
	return fmt.Sprintf("%s %s in queue %s", l.Kind, l.Name, l.Queue)
}

// quota looks at quotas of queues and limits of users. The one nearest to the pod is named.
func (f *Facts) quota(x *Explanation) bool {
	for i := range x.Limits {
		l := &x.Limits[i]
		if len(l.Short) == 0 {
			continue
		}
		reason := UserLimit
		if l.Kind == KindQueue {
			reason = QueueQuota
		}
		var parts []string
		for _, m := range l.Resources {
			if slices.Contains(l.Short, m.Resource) {
				parts = append(parts, fmt.Sprintf("%s: asked %s, used %s of %s", m.Resource, m.Asked, m.Used, m.Max))
			}
		}
		if l.never {
			x.unblock("request less, or raise the limit: the pod alone is beyond it")
		} else {
			x.unblock("pods of %s end, or its limit is raised", l.who())
		}
		return x.because(reason, "%s has not enough left; %s", l.who(), strings.Join(parts, "; "))
	}
	return false
}

func (f *Facts) backoff(x *Explanation) bool {
	if f.Core == nil || !f.Core.BackoffUntil.After(f.Now) {
		return false
	}
	return x.because(Backoff, "too many requests of application %s fit nowhere: it is tried again at %s", f.App.ID, f.Core.BackoffUntil.Format(time.RFC3339))
}

func (f *Facts) nodes(x *Explanation) bool {
	if f.Core == nil || x.Nodes == nil || x.Nodes.Fit > 0 {
		return false
	}
	var parts []string
	for _, r := range x.Nodes.Reasons {
		parts = append(parts, fmt.Sprintf("%d %s", r.Nodes, r.Reason))
	}
	message := fmt.Sprintf("0/%d nodes are available%s", x.Nodes.Total, colon(strings.Join(parts, ", ")))
	if len(f.Task.Avoid) > 0 {
		message += fmt.Sprintf("; these have refused the pod for good, and are avoided for a while: %s", strings.Join(f.Task.Avoid, ", "))
	}
	if x.Nodes.Total == 0 {
		x.unblock("add a node")
	} else {
		x.unblock("free room on a node or add one; a reason that is not about room has to be mended in the pod or on the node")
	}
	return x.because(NoNode, "%s", message)
}

func (f *Facts) turn(x *Explanation) {
	switch {
	case f.Core == nil:
		x.because(Turn, "the pod waits for a place; only who leads knows more")
	case !f.Core.Asked:
		x.because(Turn, "the engine is being asked for a place")
	case x.Reserved != "":
		x.because(Turn, "node %s is reserved for the pod until it has room", x.Reserved)
	case x.Order != nil && x.Order.Applications+x.Order.Pods > 0:
		x.because(Turn, "a node would take the pod; %d applications of its queue and %d pods of its own application come first",
			x.Order.Applications, x.Order.Pods)
	default:
		x.because(Turn, "a node would take the pod, and it is its turn")
	}
}

// colon returns text after a colon, and nothing for nothing.
func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// podName returns namespace/name.
func podName(pod *v1.Pod) string { return pod.Namespace + "/" + pod.Name }
