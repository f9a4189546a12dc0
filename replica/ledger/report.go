package ledger

import (
	"cmp"
	"fmt"
	"strings"
)

// Reasons of the Events that accompany a pod, named and worded as YuniKorn's
// shim does (pkg/cache/task.go and application.go), since tools look for them.
const (
	reasonScheduling     = "Scheduling"
	reasonScheduled      = "Scheduled"
	reasonBindSuccessful = "PodBindSuccessful"
	reasonTaskCompleted  = "TaskCompleted"
	reasonFailedBinding  = "FailedBinding"
	reasonFailedDelete   = "FailedDelete"
)

// The reasons of pods that fail because their application is over; the first two are
// YuniKorn's.
const (
	ReasonApplicationRejected  = "ApplicationRejected"
	ReasonApplicationFailed    = "ApplicationFailed"
	ReasonApplicationCompleted = "ApplicationCompleted"
	ReasonApplicationKilled    = "ApplicationKilled"
)

// ReasonTaskRejected is the reason of pods whose requests the engine refuses for good;
// it is YuniKorn's.
const ReasonTaskRejected = "TaskRejected"

// over says why the pods of an application that is over, and were never placed, fail.
func (a *App) over() (reason, message string) {
	switch a.State {
	case AppStateRejected:
		reason, message = ReasonApplicationRejected, a.Message
	case AppStateFailing, AppStateFailed:
		return ReasonApplicationFailed, a.whyFailed(a.Message)
	case AppStateKilling, AppStateKilled:
		reason = ReasonApplicationKilled
	default:
		reason = ReasonApplicationCompleted
	}
	return reason, cmp.Or(message, fmt.Sprintf("application %s is %s", a.ID, a.State))
}

func (a *App) whyFailed(why string) string {
	return fmt.Sprintf("Application %s scheduling failed, reason: %s", a.ID, why)
}

// PreemptedFor says that a pod has to make room for another one. The record of the one that goes
// keeps it.
func PreemptedFor(t *Task) string {
	return fmt.Sprintf("preempted to make room for pod %s of application %s, allocation key %s", t.alias(), t.AppID, t.ID)
}

// Preemptor is the ID of the task for which this one was preempted, empty if that is not known.
func (t *Task) Preemptor() string {
	if t.Termination != PreemptedByEngine {
		return ""
	}
	_, id, _ := strings.Cut(t.Message, ", allocation key ")
	return id
}

// alias is what Events call a pod.
func (t *Task) alias() string { return t.Namespace + "/" + t.Name }

// scheduling tells that a pod is asked for, and that it is one of a gang.
func scheduling(t *Task) []Effect {
	told := []Effect{ReportTask{
		Task: t, Reason: reasonScheduling, Message: fmt.Sprintf("%s is queued and waiting for allocation", t.alias()),
	}}
	if !t.Placeholder && t.TaskGroup != "" {
		told = append(told, ReportTask{Task: t, Reason: ReasonGang, Action: "TaskGroupMatch", Message: fmt.Sprintf(
			"Pod belongs to the taskGroup %s, it will be scheduled as a gang member", t.TaskGroup)})
	}
	return told
}

// scheduled tells where a pod is to be bound, bindSuccessful where it has been.
func scheduled(t *Task) ReportTask {
	return ReportTask{
		Task: t, Reason: reasonScheduled, Message: fmt.Sprintf("Successfully assigned %s to node %s", t.alias(), t.Node),
	}
}

func bindSuccessful(t *Task) ReportTask {
	return ReportTask{
		Task: t, Reason: reasonBindSuccessful, Message: fmt.Sprintf("Pod %s is successfully bound to node %s", t.alias(), t.Node),
	}
}

// rejection tells why a task will not be scheduled.
func rejection(t *Task) ReportTask {
	return ReportTask{Task: t, Warning: true, Reason: ReasonTaskRejected, Message: t.Message, Condition: ReasonTaskRejected}
}

// reportFailed tells the users of all pods that wait why they do so in vain.
func (s *step) reportFailed(n *entry, why string) {
	for _, t := range n.sorted() {
		if t.Placeholder || t.Node != "" || t.State.Terminal() || t.State == TaskStateKilling {
			continue
		}
		s.effect(ReportTask{
			Task: t, Warning: true, Reason: ReasonApplicationFailed, Message: n.app.whyFailed(why),
		})
	}
}
