package standby

import (
	"cmp"
	"errors"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// finding is a task over which the ledger and the cluster do not agree yet.
type finding struct {
	// key names the application that the task belongs to, as a record says; without a
	// record, recorded false, as the pod says.
	key      ledger.Key
	recorded bool
	// pod is nil if it is gone.
	pod *v1.Pod
}

// reconciliation turns findings into the events that bring a ledger in
// agreement with the cluster: applications and tasks the ledger does not know
// are added, as their managers say; bound pods confirm or override intents, tasks whose
// pod has vanished complete. Kubernetes decides what exists and what is bound; the ledger
// keeps intent, order, stage and deadlines.
//
// Pods that are not assigned are returned, for the managers to report, and how many
// pods have a node and no manager that knows them.
func reconciliation(
	l *ledger.Ledger, st staff, schedulerName string, findings []finding, now time.Time,
) (events []ledger.Event, unassigned []*v1.Pod, unknown int) {
	stamp := ledger.Stamp{At: ledger.At(now)}
	var ask []*v1.Pod
	for _, f := range findings {
		if asks(l, f, schedulerName) {
			ask = append(ask, f.pod)
		}
	}
	allocations := st.allocations(ask)
	for range l.Doubles() {
		events = append(events, ledger.RemoveDoubles{Stamp: stamp})
		break // one event removes all
	}
	missing := make(map[string]missingApp)
	var tasks []ledger.Event
	for _, f := range findings {
		task := l.TaskByID(f.key.TaskID)
		switch {
		case f.pod == nil:
			tasks = append(tasks, ledger.RemoveTask{Stamp: stamp, AppID: f.key.AppID, TaskID: f.key.TaskID})
		case task == nil && !workload.Ours(f.pod, schedulerName):
		case f.pod.Spec.NodeName == "" && !workload.Over(f.pod):
			if hold, ok := reserves(l, f.pod); ok {
				tasks = append(tasks, managers.TaskEvent(stamp, &hold))
				continue
			}
			unassigned = append(unassigned, f.pod)
		case workload.Over(f.pod) && l.App(f.key.AppID) == nil:
			tasks = append(tasks, ledger.RemoveTask{Stamp: stamp, AppID: f.key.AppID, TaskID: f.key.TaskID})
		case workload.Over(f.pod):
			tasks = append(tasks, ledger.CompleteTask{Stamp: stamp, AppID: f.key.AppID, TaskID: f.key.TaskID})
		default:
			meta, by := recorded(f, task), (*member)(nil)
			if h, ok := allocations[f.pod.UID]; ok {
				by, meta = h.by, h.task
			} else if asks(l, f, schedulerName) {
				unknown++
				continue
			}
			named := meta.ApplicationID
			if f.recorded { // whatever the pod says of itself by now
				meta.ApplicationID = f.key.AppID
			}
			if app := l.App(meta.ApplicationID); by != nil && (app == nil || app.State.Terminal()) {
				missing[meta.ApplicationID] = missingApp{by, named}
			}
			tasks = append(tasks, managers.TaskEvent(stamp, &meta))
		}
	}
	added := st.applications(missing, stamp)
	slices.SortFunc(added, func(a, b ledger.AddApp) int {
		return cmp.Or(cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	for _, event := range added {
		events = append(events, event)
	}
	return append(events, tasks...), unassigned, unknown
}

// reserves returns the task of a placeholder that waits and that the ledger lacks, of an
// application that it has. It counts at once: else the lead would have another one made before
// its manager reports it.
func reserves(l *ledger.Ledger, pod *v1.Pod) (protocol.TaskMetadata, bool) {
	meta, _ := workload.ParseTask(pod)
	if !meta.Placeholder || l.TaskByID(meta.TaskID) != nil {
		return meta, false
	}
	app := l.App(meta.ApplicationID)
	return meta, app != nil && !app.State.Terminal()
}

// asks reports whether a manager has to be asked for what is found: a pod that has a node,
// and a task that the ledger lacks, or whose application it lacks or has for ended.
func asks(l *ledger.Ledger, f finding, schedulerName string) bool {
	if f.pod == nil || f.pod.Spec.NodeName == "" || workload.Over(f.pod) {
		return false
	}
	task := l.TaskByID(f.key.TaskID)
	if task == nil {
		return workload.Ours(f.pod, schedulerName) || f.recorded
	}
	app := l.App(task.AppID)
	return app == nil || app.State.Terminal()
}

// recorded is the task of a finding as the ledger has it, which may be nil.
func recorded(f finding, task *ledger.Task) protocol.TaskMetadata {
	meta := protocol.TaskMetadata{ApplicationID: f.key.AppID, TaskID: f.key.TaskID, Pod: f.pod}
	if task != nil {
		meta.Placeholder, meta.TaskGroupName = task.Placeholder, task.TaskGroup
	}
	return meta
}

// repairs returns the changes that put right, once the ledger agrees with the
// cluster, what could not be read in etcd. What the ledger has is written again:
// recovered from the cluster, or known from before. Garbage about what does not
// exist is deleted; what a newer version wrote about it is left to newer versions.
func repairs(l *ledger.Ledger, refused []view.Refused, keys record.Keys) (changes []ledger.Change) {
	for _, r := range refused {
		path, err := keys.Parse(r.Key)
		if err != nil || path.Kind != record.KindApp && path.Kind != record.KindTask {
			continue
		}
		change := ledger.Change{Key: path.Key}
		if path.Kind == record.KindApp {
			change.App = l.App(path.Key.AppID)
		} else {
			change.Task = l.Task(path.Key.AppID, path.Key.TaskID)
		}
		if !change.Deleted() || !errors.Is(r.Err, record.ErrNewerSchema) {
			changes = append(changes, change)
		}
	}
	return changes
}

// idle completes the gangs that reserve without any task: a new engine is told of such a
// gang with its first allocation, and would never complete one that has none. Other
// applications it completes as any engine does, once they have been without pods for a while.
// A gang that a resource describes may reserve before its pods come, and its manager ends it.
// So may one whose pod has been reported and is to be told of.
func idle(l *ledger.Ledger, st staff, now time.Time) (events []ledger.Event) {
	for app := range l.Apps() {
		if app.State == ledger.AppStateReserving && l.Live(app.ID) == 0 && !st.describes(app.Manager) && !st.expects(app.ID) {
			events = append(events, ledger.AppEnded{
				Stamp: ledger.Stamp{At: ledger.At(now)}, AppID: app.ID, State: ledger.AppStateCompleted,
			})
		}
	}
	return events
}

// inOrder sorts findings, so that every replica steps them in the same order: the pods
// of an application from the oldest on, which is the one that it began with.
func inOrder(findings []finding) {
	slices.SortFunc(findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.key.AppID, b.key.AppID), cmp.Compare(a.created(), b.created()), cmp.Compare(a.key.TaskID, b.key.TaskID))
	})
}

// created is when the pod was, in seconds; zero if it is gone.
func (f finding) created() int64 {
	if f.pod == nil || f.pod.CreationTimestamp.IsZero() {
		return 0
	}
	return f.pod.CreationTimestamp.Unix()
}
