package ledger

import "time"

// AvoidLimit bounds Task.Avoid.
const AvoidLimit = 32

// refusalsPerNode is how often a binding is tried that is refused for good, before
// the decision is taken anew: what refuses it may be about to change.
const refusalsPerNode = 3

// The pause before nodes that have refused a pod are tried again, if no other takes
// it, doubles from forgiveFirst to forgiveLimit.
const (
	forgiveFirst = 15 * time.Second
	forgiveLimit = 15 * time.Minute
)

// HeldBack reports whether the task is not asked for until its next attempt: more
// nodes have refused it than are remembered.
func (t *Task) HeldBack() bool { return t.NextAttempt != 0 && len(t.Avoid) >= AvoidLimit }

// Avoids returns the nodes that the task must not be placed on for now: those that
// have refused it, until its next attempt.
func (t *Task) Avoids() []string {
	if t.State != TaskStateScheduling || t.NextAttempt == 0 {
		return nil
	}
	return t.Avoid
}

// bindRefused notes that the API server refuses a binding for good. After some tries
// the node is given back, and the task asks for another one.
func (s *step) bindRefused(n *entry, t *Task, message string) {
	s.failedAttempt(n, t, "FailedBinding", message, backoffLimit)
	t = n.tasks[t.ID]
	if t.Retries%refusalsPerNode != 0 {
		return
	}
	failed := s.moveTask(n, t, taskFail)
	old := *failed
	s.schedule(failed, 0)
	s.effect(Release{Task: &old, Termination: StoppedByRM})
	anew := s.beginAnew(failed, failed.Retries)
	anew.Message = message // which has been told
	anew.Avoid = avoiding(failed.Avoid, failed.Node)
	s.avoidFor(anew)
	s.admit(n, anew)
}

// avoiding adds a node to those that a task avoids; the oldest makes room.
func avoiding(nodes []string, node string) []string {
	var all []string
	for _, known := range nodes {
		if known != node {
			all = append(all, known)
		}
	}
	all = append(all, node)
	return all[max(0, len(all)-AvoidLimit):]
}

// avoidFor sets until when a task avoids the nodes that have refused it. Each refusal
// of a node that is on the list already, or has no room on it, doubles that time.
func (s *step) avoidFor(t *Task) {
	if len(t.Avoid) == 0 {
		return
	}
	again := int(t.Retries/refusalsPerNode) - len(t.Avoid)
	s.schedule(t, s.at.Add(doubled(forgiveFirst, forgiveLimit, again)))
}
