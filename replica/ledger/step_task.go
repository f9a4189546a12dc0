package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"time"
)

// addTask adds a pod, or takes over what a pod that is known says.
func (s *step) addTask(e AddTask) {
	if e.ID == "" {
		s.refuse("a task of application %s has no ID", e.AppID)
		return
	}
	s.task = e.ID
	if s.l.TaskByID(e.ID) != nil {
		s.withTask(e.AppID, e.ID, func(n *entry, t *Task) { s.observe(n, t, e) })
		return
	}
	s.withApp(e.AppID, func(n *entry) {
		t := s.begin(&Task{
			AppID: e.AppID, ID: e.ID, Namespace: e.Namespace, Name: e.Name, State: TaskStateNew,
			Placeholder: e.Placeholder, TaskGroup: e.TaskGroup, Resources: cloneMap(e.Resources),
			Submitted: e.Submitted, Trace: e.Trace,
		})
		switch {
		case e.Terminated:
			s.lose(t)
			s.moveTask(n, t, completeTask)
		case e.Node != "":
			s.originated(n, t)
			s.assigned(n, t, e.Node)
		default:
			s.originated(n, t)
			s.admit(n, t)
		}
	})
}

// begin puts a new record of a task in place of whatever was there.
func (s *step) begin(t *Task) *Task {
	key := Key{AppID: t.AppID, TaskID: t.ID}
	if n := s.l.apps[t.AppID]; n != nil {
		s.account(n, t.ID, t)
	}
	s.l.putTask(key, t)
	s.record(Change{Key: key, Task: t})
	return t
}

// beginAnew begins a task again that has failed.
func (s *step) beginAnew(failed *Task, retries uint32) *Task {
	return s.begin(&Task{
		AppID: failed.AppID, ID: failed.ID, Namespace: failed.Namespace, Name: failed.Name, State: TaskStateNew,
		Placeholder: failed.Placeholder, TaskGroup: failed.TaskGroup, Resources: failed.Resources,
		Submitted: failed.Submitted, Retries: retries, Avoid: failed.Avoid, Trace: failed.Trace, Unknown: failed.Unknown,
	})
}

// ReasonApplicationChanged is the reason of Events on pods whose labels name
// another application than before.
const ReasonApplicationChanged = "ApplicationChanged"

// observe takes over what the pod of a known task says, but for its application.
func (s *step) observe(n *entry, t *Task, e AddTask) {
	if e.AppID != t.AppID && !e.Terminated && !t.State.Terminal() {
		s.effect(ReportTask{Task: t, Warning: true, Reason: ReasonApplicationChanged, Message: fmt.Sprintf(
			"the pod now names application %s: it stays with %s, for which it was submitted", e.AppID, t.AppID)})
	}
	s.observePod(n, t, e)
	if t = n.tasks[e.ID]; len(e.Resources) > 0 {
		s.resize(n, t, e.Resources)
	}
}

func (s *step) observePod(n *entry, t *Task, e AddTask) {
	switch {
	case e.Terminated:
		s.complete(n, t)
	case e.Node != "" && t.State != TaskStateKilling:
		s.onNode(n, t, e.Node)
	}
}

// onNode takes over that the pod of a known task is assigned.
func (s *step) onNode(n *entry, t *Task, node string) {
	switch t.State {
	case TaskStateAllocated:
		s.bound(n, t, node)
	case TaskStateBound:
		if t.Node != node {
			s.rebind(n, t, node)
		}
	case TaskStateNew, TaskStateScheduling:
		if t.State == TaskStateScheduling {
			s.effect(Release{Task: t, Termination: StoppedByRM})
		}
		s.assigned(n, t, node)
	case TaskStateFailed:
		// Given up, but bound: an attempt that was under way came through, or
		// somebody else did it. It takes room on its node.
		s.assigned(n, s.beginAnew(t, 0), node)
	}
}

// assigned takes over a pod that somebody has bound: it goes through all states
// to Bound, and the engine learns of the allocation. Where its application has
// no use for it, it is killed at once.
func (s *step) assigned(n *entry, t *Task, node string) {
	for _, by := range []taskTrigger{initTask, submitTask, taskAllocated, taskBound} {
		if _, ok := taskTable[by][n.tasks[t.ID].State]; ok {
			s.moveTask(n, t, by)
		}
	}
	task := s.editTask(n, t)
	task.Node, task.Allocated, task.Bound = node, s.at, s.at
	task.FailPod, task.Retries, task.Reason, task.Message, task.Avoid = false, 0, "", "", nil
	s.schedule(task, 0)
	s.effect(Restore{App: n.app, Task: task})
	switch {
	case n.app.State == AppStateKilling, task.Placeholder && !s.wantsHolds(n):
		s.kill(n, task, StoppedByRM)
	case task.Placeholder:
		s.startGangTimer(n)
		s.held(n, task)
	}
}

// admit does with a new task what its application's state asks for.
func (s *step) admit(n *entry, t *Task) {
	if t.FailPod {
		return // Its pod is on its way out.
	}
	switch n.app.State {
	case AppStateSubmitted, AppStateRecovering:
	case AppStateReserving:
		switch {
		case !t.Placeholder:
		case n.bereft():
			s.kill(n, t, StoppedByRM) // It was on its way when the gang was given up.
		default:
			s.ask(n, t)
		}
	default:
		if t.Placeholder {
			s.kill(n, t, StoppedByRM) // The gang runs or has given up.
			return
		}
		s.admitReal(n, t)
	}
}

// admitReal is admit for a task that is no placeholder, once its application
// does not wait for any.
func (s *step) admitReal(n *entry, t *Task) {
	switch n.app.State {
	case AppStateRunning:
		if n.mayAsk(t) {
			s.ask(n, t)
		}
	case AppStateRejected, AppStateFailing, AppStateFailed, AppStateKilling, AppStateKilled, AppStateCompleted:
		reason, message := n.app.over()
		s.failPod(n, t, reason, message)
	}
}

// ask requests an allocation.
func (s *step) ask(n *entry, t *Task) {
	s.moveTask(n, t, initTask)
	task := s.moveTask(n, n.tasks[t.ID], submitTask)
	if !task.HeldBack() {
		s.effect(Ask{App: n.app, Task: task})
	}
	for _, told := range scheduling(task) {
		s.effect(told)
	}
}

// allocated notes the engine's choice and has it carried out.
func (s *step) allocated(e Allocated) {
	n := s.l.ownerOf(e.TaskID)
	if n == nil || n.app == nil {
		s.refuse("task %s of application %s is not known", e.TaskID, e.AppID)
		s.effect(Release{Task: &Task{AppID: e.AppID, ID: e.TaskID, Node: e.Node}, Termination: StoppedByRM})
		return
	}
	s.task = e.TaskID
	t := n.tasks[e.TaskID]
	switch {
	case e.Node == "":
		s.refuse("the allocation of task %s names no node", t.ID)
	case t.State == TaskStateScheduling && !t.FailPod:
		task := s.place(n, t, e.Node)
		task.InstanceType, task.Swapped = e.InstanceType, e.Swapped
		if n.app.binds(task) {
			s.bind(task)
		}
		if task.Placeholder {
			s.startGangTimer(n)
		}
	case t.State == TaskStateAllocated || t.State == TaskStateBound:
		switch {
		case t.Node != e.Node:
			s.refuse("task %s has an allocation on %s, not on %s", t.ID, t.Node, e.Node)
		case t.InstanceType != e.InstanceType:
			s.editTask(n, t).InstanceType = e.InstanceType
		}
	default:
		s.refuse("task %s is %s", t.ID, t.State)
		s.effect(Release{Task: t, Termination: StoppedByRM})
	}
}

// place notes on which node a task is to be.
func (s *step) place(n *entry, t *Task, node string) *Task {
	task := s.moveTask(n, t, taskAllocated)
	task.Node, task.Allocated = node, s.at
	if len(task.Avoid) == 0 {
		task.Retries = 0
	}
	s.schedule(task, 0)
	return task
}

// bind has the pod of an allocation bound.
func (s *step) bind(t *Task) {
	s.effect(Bind{Task: t})
	s.effect(scheduled(t))
}

// bindDone takes over that a bind came through, even one that nobody waits for
// any more.
func (s *step) bindDone(n *entry, t *Task, node string) {
	if t.State == TaskStateKilling || t.Node == "" && node == "" {
		s.refuse("task %s is %s, not waiting for a bind", t.ID, t.State)
		return
	}
	s.onNode(n, t, cmp.Or(node, t.Node))
}

// bound notes that the pod of an allocation is assigned.
func (s *step) bound(n *entry, t *Task, node string) {
	if node != t.Node {
		s.rebind(n, t, node)
	}
	task := s.moveTask(n, t, taskBound)
	if task.Holder != "" { // somebody did not wait
		s.unclaim(n, task)
		task.Holder, task.Elsewhere = "", false
		s.effect(Restore{App: n.app, Task: task})
	}
	task.Bound, task.Retries, task.Message, task.Avoid = s.at, 0, "", nil
	s.schedule(task, 0)
	s.effect(bindSuccessful(task))
	s.held(n, task)
}

// rebind tells the engine that the pod is on another node than it chose:
// Kubernetes decides what is bound.
func (s *step) rebind(n *entry, t *Task, node string) {
	old := *t
	s.effect(Release{Task: &old, Termination: StoppedByRM})
	task := s.editTask(n, t)
	task.Node, task.InstanceType = node, ""
	s.effect(Restore{App: n.app, Task: task})
}

func (s *step) bindFailed(n *entry, t *Task, e BindFailed) {
	switch {
	case !t.isOn(e.Node):
		s.refuse("task %s is on %q, not on %s", t.ID, t.Node, e.Node)
	case !n.app.binds(t):
		s.refuse("task %s is %s, not waiting for a bind", t.ID, t.State)
	case e.Refused:
		s.bindRefused(n, t, e.Message)
	default:
		s.failedAttempt(n, t, reasonFailedBinding, e.Message, backoffLimit)
	}
}

// failedAttempt plans the next attempt, after limit at most, and tells why the last one
// failed, once for each reason.
func (s *step) failedAttempt(n *entry, t *Task, reason, message string, limit time.Duration) {
	task := s.editTask(n, t)
	if task.Message != message {
		task.Message = message
		s.effect(ReportTask{Task: task, Warning: true, Reason: reason, Message: message})
	}
	s.retry(task, limit)
}

// isOn reports whether a task is on a node; empty stands for the one that it is on.
func (t *Task) isOn(node string) bool { return node == "" || node == t.Node }

// nodeLost gives an allocation back whose node is gone before the pod was bound:
// the task fails, and starts anew.
func (s *step) nodeLost(n *entry, t *Task, node, message string) {
	if t.State != TaskStateAllocated {
		s.refuse("task %s is %s, not waiting for a bind", t.ID, t.State)
		return
	}
	if !t.isOn(node) {
		s.refuse("task %s is on %s, not on %s", t.ID, t.Node, node)
		return
	}
	s.unclaim(n, t)
	failed := s.moveTask(n, t, taskFail)
	old := *failed
	s.effect(Release{Task: &old, Termination: StoppedByRM})
	if message != "" {
		s.effect(ReportTask{Task: &old, Warning: true, Reason: reasonFailedBinding, Message: message})
	}
	retries := failed.Retries + 1
	if len(failed.Avoid) > 0 {
		retries = failed.Retries // which counts refusals
	}
	anew := s.beginAnew(failed, retries)
	s.avoidFor(anew)
	s.admit(n, anew)
}

// released carries out what the engine says of an allocation.
func (s *step) released(n *entry, t *Task, e Released) {
	why, message := e.Termination, e.Message
	switch {
	case t.State == TaskStateKilling && why == PlaceholderReplaced:
		s.vacate(n, t, e.For, e.Node)
	case t.State.Terminal() || t.State == TaskStateKilling:
		// It confirms what we asked for.
	case why == StoppedByRM || why == NotTerminated:
		if t.State == TaskStateAllocated {
			s.nodeLost(n, t, "", "") // The engine took the node away.
		}
	case why == Timeout && t.Placeholder && n.app.State == AppStateReserving:
		s.gangTimeout(n)
	case n.app.awaits(t): // The engine wants its place, and nobody has to be deleted for that.
		s.giveBack(n, t, why)
	case t.State == TaskStateAllocated || t.State == TaskStateBound:
		s.countGang(n, t, why)
		if why == PlaceholderReplaced {
			s.vacate(n, t, e.For, e.Node)
		}
		s.kill(n, t, why)
		if message != "" && !t.Placeholder {
			killed := s.editTask(n, n.tasks[t.ID])
			killed.Message = message // for who asks when the pod and its Events are gone
			s.effect(ReportTask{Task: killed, Warning: true, Reason: "Preempted", Message: message})
		}
	case t.State == TaskStateScheduling:
		s.askReleased(n, t, why, message)
	default:
		s.refuse("task %s is %s and has no allocation to release", t.ID, t.State)
	}
}

// askReleased follows the engine in giving up an ask of its own accord: a
// placeholder ends, and with a time-out the gang; a real task asks again.
func (s *step) askReleased(n *entry, t *Task, why Termination, _ string) {
	switch {
	case t.State != TaskStateScheduling || t.FailPod || why == StoppedByRM || why == NotTerminated:
	case !t.Placeholder:
		if !t.HeldBack() {
			s.effect(Ask{App: n.app, Task: t})
		}
	case why == Timeout && n.app.State == AppStateReserving:
		s.gangTimeout(n)
	default:
		s.countGang(n, t, why)
		s.kill(n, t, why)
	}
}

// askRejected ends a task that the engine will never place. A gang can not be
// complete without its placeholder.
func (s *step) askRejected(n *entry, t *Task, message string) {
	switch {
	case t.State != TaskStateScheduling || t.FailPod:
		s.refuse("task %s is %s, not asked for", t.ID, t.State)
	case t.Placeholder && n.app.State == AppStateReserving:
		s.failGang(n, "PlaceholderCreateFailed", message)
	case t.Placeholder:
		s.kill(n, t, StoppedByRM)
	default:
		s.rejectTask(n, t, message)
	}
}

// rejectTask ends a task that will not be scheduled, and says why. As in YuniKorn its
// pod stays: if it failed, its controller would make another, which is like it.
func (s *step) rejectTask(n *entry, t *Task, message string) {
	wasAsked := t.State == TaskStateScheduling
	if s.moveTask(n, t, taskRejected) == nil {
		return
	}
	s.refuseCrew(n, t, message)
	task := s.moveTask(n, t, taskFail)
	task.Message = message
	s.schedule(task, 0)
	if wasAsked {
		s.effect(Release{Task: task, Termination: StoppedByRM})
	}
	s.effect(rejection(task))
}

// kill has a pod deleted; the task ends when the pod is gone.
func (s *step) kill(n *entry, t *Task, why Termination) {
	if t.State == TaskStateKilling || t.State.Terminal() {
		return
	}
	s.unheld(n, t)
	s.lose(t)
	wasAsked := t.State == TaskStateScheduling || t.Holder != ""
	if t.State == TaskStateNew {
		s.moveTask(n, t, initTask)
	}
	task := s.moveTask(n, t, killTask)
	s.leaveHold(n, task)
	task.Termination, task.DeletePod, task.FailPod, task.Retries = why, true, false, 0
	s.schedule(task, 0)
	if wasAsked {
		s.effect(Release{Task: task, Termination: why})
	}
	s.effect(DeletePod{Task: task})
}

// lose notes that a placeholder is gone, or going: see replaceHold.
func (s *step) lose(t *Task) {
	if t.keptHold() {
		s.lost = append(s.lost, t)
	}
}

// resize takes over requests that were changed in place.
func (s *step) resize(n *entry, t *Task, resources map[string]int64) {
	if t.State.Terminal() || maps.Equal(t.Resources, resources) {
		return
	}
	task := s.editTask(n, t)
	task.Resources = cloneMap(resources)
	switch {
	case task.Holder != "": // The engine is told with its place.
	case task.Node != "":
		s.effect(Restore{App: n.app, Task: task})
	case task.State == TaskStateScheduling && !task.FailPod && !task.HeldBack():
		s.effect(Ask{App: n.app, Task: task})
	}
}

// complete ends a task whose pod has ended or is gone.
func (s *step) complete(n *entry, t *Task) {
	if t.State.Terminal() {
		return
	}
	s.unheld(n, t)
	s.end(n, t)
	if task := n.tasks[t.ID]; task.State == TaskStateCompleted && task.Node != "" {
		s.effect(ReportTask{Task: task, Reason: reasonTaskCompleted, Message: fmt.Sprintf("Task %s is completed", task.alias())})
	}
}

// end moves a live task to its end and gives its allocation back.
func (s *step) end(n *entry, t *Task) {
	by := completeTask
	if t.State == TaskStateKilling {
		by = taskKilled
	}
	s.lose(t)
	holds := t.Node != "" || t.State == TaskStateScheduling
	s.inherit(n, t)
	task := s.moveTask(n, t, by)
	s.leaveHold(n, task)
	task.DeletePod, task.FailPod = false, false
	if task.Termination == NotTerminated {
		task.Termination = StoppedByRM
	}
	s.schedule(task, 0)
	if holds {
		s.effect(Release{Task: task, Termination: task.Termination})
	}
}

// removeOrphan forgets a task whose application is not known. It reports whether
// there is one.
func (s *step) removeOrphan(taskID string) bool {
	n := s.l.ownerOf(taskID)
	if n == nil || n.app != nil {
		return false
	}
	s.dropTask(n.tasks[taskID])
	return true
}

// removeTask forgets a task; a live one is completed first.
func (s *step) removeTask(n *entry, t *Task) {
	if !t.State.Terminal() {
		s.complete(n, t)
	}
	s.dropTask(n.tasks[t.ID])
}
