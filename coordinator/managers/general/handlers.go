package general

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/failpoint"
)

// handlers is what the pod informer calls. It is a type of its own so that the
// methods are not part of Manager.
type handlers struct{ g *Manager }

func (h handlers) OnAdd(obj any, initial bool) {
	if pod, ok := obj.(*v1.Pod); ok {
		h.g.locked(func() { h.g.added(pod, initial) })
	}
}

func (h handlers) OnUpdate(before, after any) {
	old, okOld := before.(*v1.Pod)
	pod, ok := after.(*v1.Pod)
	if ok && okOld {
		h.g.locked(func() { h.g.updated(old, pod) })
	}
}

// OnDelete also gets a DeletedFinalStateUnknown: the deletion was missed, and
// noticed by a new listing.
func (h handlers) OnDelete(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	if pod, ok := obj.(*v1.Pod); ok {
		h.g.locked(func() { h.g.deleted(pod) })
	}
}

// locked runs handle unless the manager has been stopped.
func (g *Manager) locked(handle func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	g.handling.Store(true)
	failpoint.Hit(failpoint.ManagerHandle)
	handle()
	g.handling.Store(false)
	g.handled.Add(1)
}

// Progress reports whether a change of a pod is being handled, and how many have been.
// It does not wait.
func (g *Manager) Progress() (busy bool, done uint64) {
	done = g.handled.Load()
	return g.handling.Load(), done
}

// added handles a pod that is seen for the first time. initial says that it
// existed before the manager started, so that its task may well be known.
func (g *Manager) added(pod *v1.Pod, initial bool) { g.take(pod, pod, initial) }

// take reports a pod, and its application as another pod describes it, or this one.
func (g *Manager) take(pod, describes *v1.Pod, initial bool) {
	if !initial {
		g.live = nil
	}
	if pod.Spec.SchedulerName != g.SchedulerName {
		return
	}
	// Labels may have been edited since a predecessor reported the pod. One that is
	// new has been reported by nobody, and most are: do not ask.
	owner := ""
	if initial {
		owner = g.owner(pod.UID)
	}
	if owner == "" && !g.ours(pod) {
		return
	}
	if workload.Over(pod) {
		if owner == "" {
			owner = g.appID(pod)
		}
		g.Protocol.NotifyTaskComplete(owner, string(pod.UID))
		return
	}
	if pod.Spec.NodeName == "" && len(pod.Spec.SchedulingGates) > 0 {
		return // the API server would refuse to bind it
	}
	task, found := g.parse(pod)
	if owner != "" {
		task.ApplicationID = owner
	}
	// A late placeholder must not begin an application anew that has ended.
	if !task.Placeholder || g.Protocol.GetApplication(task.ApplicationID) == nil {
		begins, waits := !initial || !g.known(task), pod.Spec.NodeName == ""
		if begins || waits {
			app, more := workload.ParseApplication(describes, g.Cluster.Namespace(pod.Namespace), g.UserLabel)
			app.ApplicationID = task.ApplicationID
			if describes == pod {
				found = append(found, more...)
			}
			if len(found) > 0 && waits && (begins || !g.has(task)) {
				g.Problems(pod, found)
			}
			if begins {
				g.begin(app, initial)
			}
		}
	}
	g.report(task)
	g.reported[pod.UID] = task.ApplicationID
}

// begin reports an application.
func (g *Manager) begin(app protocol.ApplicationMetadata, initial bool) {
	g.Protocol.AddApplication(&protocol.AddApplicationRequest{Metadata: app})
	if initial && g.live != nil {
		g.live[app.ApplicationID] = true
	}
}

// has reports whether a task has been reported before, if only by a predecessor,
// who then has also told what could not be read of its pod.
func (g *Manager) has(task protocol.TaskMetadata) bool {
	app := g.Protocol.GetApplication(task.ApplicationID)
	if app == nil {
		return false
	}
	_, err := app.GetTask(task.TaskID)
	return err == nil
}

// known reports whether the application of a task needs no report: it is live,
// or it has ended with this task in it. To report one that has ended would
// begin it anew, which a replay of old pods must not do.
func (g *Manager) known(task protocol.TaskMetadata) bool {
	id := task.ApplicationID
	if g.live[id] {
		return true
	}
	app := g.Protocol.GetApplication(id)
	if app == nil {
		return false
	}
	if !managers.Ended(app.GetApplicationState()) {
		if g.live != nil {
			g.live[id] = true
		}
		return true
	}
	_, err := app.GetTask(task.TaskID)
	return err == nil
}

func (g *Manager) updated(old, pod *v1.Pod) {
	if old.UID != pod.UID { // another pod took the name between two listings
		g.deleted(old)
		g.added(pod, false)
		return
	}
	app, known := g.reported[pod.UID]
	switch {
	case workload.Over(pod):
		if !known {
			app = g.appID(pod)
		}
		if !workload.Over(old) && pod.Spec.SchedulerName == g.SchedulerName {
			g.Protocol.NotifyTaskComplete(app, string(pod.UID))
		}
	case !known:
		g.added(pod, false)
	case old.Spec.NodeName != pod.Spec.NodeName || !requests.Same(old, pod):
		task, _ := g.parse(pod)
		task.ApplicationID = app
		g.report(task)
	case g.appID(old) != g.appID(pod) && g.appID(pod) != app:
		// It stays what it is: who takes the report tells the user so.
		task, _ := g.parse(pod)
		g.report(task)
	}
}

func (g *Manager) deleted(pod *v1.Pod) {
	app, known := g.reported[pod.UID]
	if !known {
		if pod.Spec.SchedulerName != g.SchedulerName {
			return
		}
		app = g.appID(pod)
	}
	delete(g.reported, pod.UID)
	g.Protocol.NotifyTaskComplete(app, string(pod.UID))
	g.Protocol.RemoveTask(app, string(pod.UID))
}
