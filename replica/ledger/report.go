package ledger

import "fmt"

// Reasons of the Events that accompany a pod, named and worded as YuniKorn's
// shim does (pkg/cache/task.go and application.go), since tools look for them.
const (
	reasonScheduling        = "Scheduling"
	reasonScheduled         = "Scheduled"
	reasonBindSuccessful    = "PodBindSuccessful"
	reasonTaskCompleted     = "TaskCompleted"
	reasonApplicationFailed = "ApplicationFailed"
)

// alias is what Events call a pod.
func (t *Task) alias() string { return t.Namespace + "/" + t.Name }

// report tells the user of a pod how it goes on.
func (s *step) report(t *Task, reason, format string, args ...any) {
	s.effect(ReportTask{Task: t, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// reportFailed tells the users of all pods that wait why they do so in vain.
func (s *step) reportFailed(n *entry, why string) {
	for _, t := range n.sorted() {
		if t.Placeholder || t.Node != "" || t.State.Terminal() || t.State == TaskStateKilling {
			continue
		}
		s.effect(ReportTask{
			Task: t, Warning: true, Reason: reasonApplicationFailed,
			Message: fmt.Sprintf("Application %s scheduling failed, reason: %s", n.app.ID, why),
		})
	}
}
