package tasks

import (
	"runtime/debug"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// handlers is what the pod informer calls.
type handlers struct{ t *Tasks }

func (h handlers) OnAdd(obj any, initial bool) {
	if pod, ok := obj.(*v1.Pod); ok {
		h.t.safely(pod, func() { h.t.added(pod, initial) })
	}
}

func (h handlers) OnUpdate(before, after any) {
	old, okOld := before.(*v1.Pod)
	pod, ok := after.(*v1.Pod)
	if ok && okOld {
		h.t.safely(pod, func() { h.t.updated(old, pod) })
	}
}

// OnDelete also gets a DeletedFinalStateUnknown: the deletion was missed, and noticed
// by a new listing.
func (h handlers) OnDelete(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	if pod, ok := obj.(*v1.Pod); ok {
		h.t.safely(pod, func() { h.t.deleted(pod) })
	}
}

// safely handles a change of a pod. One over which the owner panics is skipped and named.
func (t *Tasks) safely(pod *v1.Pod, change func()) {
	defer func() {
		if reason := recover(); reason != nil {
			t.deps.Log.Error("the app manager panicked over a pod, which is skipped", "pod", pod.Namespace+"/"+pod.Name,
				"err", reason, "stack", string(debug.Stack()))
		}
	}()
	t.Do(change)
}

// added handles a pod that is not reported yet. replayed says that it may have been
// known for long, so that a predecessor may have reported it.
func (t *Tasks) added(pod *v1.Pod, replayed bool) {
	if !workload.Ours(pod, t.deps.SchedulerName) {
		return
	}
	name := t.owner.Names(pod)
	if name == "" {
		return
	}
	if workload.Over(pod) {
		// The ledger finds a task by its own ID.
		t.deps.Protocol.NotifyTaskComplete(workload.AppID(pod), string(pod.UID))
		return
	}
	if pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) > 0 {
		return // the API server would refuse to bind it
	}
	app, known := t.owner.Describe(name, pod)
	if !known {
		if t.waiting[name] == nil {
			t.waiting[name] = make(map[types.UID]*v1.Pod)
		}
		t.waiting[name][pod.UID] = pod
		return
	}
	t.report(name, app, pod, replayed)
}

func (t *Tasks) report(name string, app protocol.ApplicationMetadata, pod *v1.Pod, replayed bool) {
	task, found := t.parse(pod)
	task.ApplicationID = app.ApplicationID
	begins, has := true, false
	if replayed || task.Placeholder {
		begins, has = t.begins(task)
	}
	if len(found) > 0 && pod.Spec.NodeName == "" && !has {
		t.deps.Problems(pod, found)
	}
	if begins {
		t.deps.Protocol.AddApplication(&protocol.AddApplicationRequest{Metadata: app})
	}
	if g, ok := t.owner.(Grouper); ok {
		g.Reports(name, task.ApplicationID)
	}
	t.deps.Protocol.AddTask(&protocol.AddTaskRequest{Metadata: task})
	t.reported[pod.UID] = task.ApplicationID
	t.owner.Reported(name, task.ApplicationID, pod)
}

// begins reports whether a pod begins its application, and whether it has been reported
// before. One that has ended is begun anew by a pod that was no part of it, but never by
// a placeholder that is late.
func (t *Tasks) begins(task protocol.TaskMetadata) (begins, has bool) {
	app := t.deps.Protocol.GetApplication(task.ApplicationID)
	if app == nil {
		return true, false
	}
	_, err := app.GetTask(task.TaskID)
	has = err == nil
	return managers.Ended(app.GetApplicationState()) && !has && !task.Placeholder, has
}

func (t *Tasks) updated(old, pod *v1.Pod) {
	if old.UID != pod.UID { // another pod took the name between two listings
		t.deleted(old)
		t.added(pod, false)
		return
	}
	app, known := t.reported[pod.UID]
	switch {
	case !known:
		t.forgo(old)
		if !workload.Over(old) {
			t.added(pod, false)
		}
	case workload.Over(pod):
		if !workload.Over(old) {
			t.deps.Protocol.NotifyTaskComplete(app, string(pod.UID))
		}
	case old.Spec.NodeName != pod.Spec.NodeName || !requests.Same(old, pod):
		task, _ := t.parse(pod)
		task.ApplicationID = app
		t.deps.Protocol.AddTask(&protocol.AddTaskRequest{Metadata: task})
	case workload.AppID(old) != workload.AppID(pod) && workload.AppID(pod) != app:
		// It stays what it is: who takes the report tells the user so.
		task, _ := t.parse(pod)
		t.deps.Protocol.AddTask(&protocol.AddTaskRequest{Metadata: task})
	}
}

func (t *Tasks) deleted(pod *v1.Pod) {
	t.forgo(pod)
	app, known := t.reported[pod.UID]
	if !known {
		if !workload.Ours(pod, t.deps.SchedulerName) || t.owner.Names(pod) == "" {
			return
		}
		app = workload.AppID(pod)
	}
	delete(t.reported, pod.UID)
	if g, ok := t.owner.(Grouper); ok && known {
		g.Left(t.owner.Names(pod))
	}
	t.deps.Protocol.NotifyTaskComplete(app, string(pod.UID))
	t.deps.Protocol.RemoveTask(app, string(pod.UID))
}

// forgo has a pod wait no more.
func (t *Tasks) forgo(pod *v1.Pod) {
	name := t.owner.Names(pod)
	delete(t.waiting[name], pod.UID)
	if len(t.waiting[name]) == 0 {
		delete(t.waiting, name)
	}
}
