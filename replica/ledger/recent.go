package ledger

import "fmt"

// Recent returns what the users of pods may not have been told, in order of submission: what
// was decided since then, and what went wrong and is not over. A lead dies with what it was
// about to tell, and records do not say what it has told, so that whoever tells this must be
// able to be told twice. What records do not keep is not told again: ends, what is told of a
// gang as a whole, and that labels or the phase of a pod could not be changed.
func (l *Ledger) Recent(since Time) []Effect {
	var effects []Effect
	tell := func(t *Task, warning bool, reason, format string, args ...any) {
		effects = append(effects, ReportTask{Task: t, Warning: warning, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	for _, n := range l.sorted() {
		for _, t := range n.sorted() {
			switch {
			case t.FailPod:
				tell(t, true, t.Reason, "%s", t.Message)
			case t.State == TaskStateFailed && t.Message != "" && t.Reason == "":
				effects = append(effects, rejection(t))
			case t.DeletePod && t.Retries > 0:
				tell(t, true, reasonFailedDelete, "%s", t.Message)
			case t.State == TaskStateAllocated && t.Retries > 0 && t.Message != "":
				tell(t, true, reasonFailedBinding, "%s", t.Message)
			}
			if t.State == TaskStateScheduling && !t.FailPod && t.Submitted >= since {
				effects = append(effects, scheduling(t)...)
			}
			// What somebody else has bound has both times at once.
			if (n.app.binds(t) || t.State == TaskStateBound) && t.Allocated >= since && t.Allocated != t.Bound {
				effects = append(effects, scheduled(t))
			}
			if t.State == TaskStateBound && t.Bound >= since && t.Allocated != t.Bound {
				effects = append(effects, bindSuccessful(t))
			}
		}
	}
	return effects
}
