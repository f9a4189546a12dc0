package standby

import (
	"cmp"
	"errors"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// finding is a task over which the ledger and the cluster do not agree yet.
type finding struct {
	// key names the application that the task belongs to; if the ledger knows neither,
	// the one that the pod names.
	key ledger.Key
	// pod is nil if it is gone.
	pod *v1.Pod
}

// inventory is an app manager that knows its applications by their pods.
type inventory interface {
	Name() string
	Task(pod *v1.Pod) (protocol.TaskMetadata, bool)
	// Applications describes those that have an assigned pod among pods, by what
	// the pod says; owner names that of a pod which has one already.
	Applications(pods []*v1.Pod, owner func(*v1.Pod) string) map[string]protocol.ApplicationMetadata
}

// reconciliation turns findings into the events that bring a ledger in
// agreement with the cluster: applications and tasks the ledger does not know
// are added, bound pods confirm or override intents, tasks whose pod has vanished
// complete. Kubernetes decides what exists and what is bound; the ledger keeps
// intent, order, stage and deadlines.
//
// Pods that are not assigned are returned, for the manager's handlers.
func reconciliation(l *ledger.Ledger, manager inventory, findings []finding, now time.Time) (events []ledger.Event, unassigned []*v1.Pod) {
	stamp := ledger.Stamp{At: ledger.At(now)}
	ours := func(pod *v1.Pod) bool {
		_, is := manager.Task(pod)
		return is || l.TaskByID(string(pod.UID)) != nil // whatever it says of itself by now
	}
	pods, owner := make([]*v1.Pod, 0, len(findings)), make(map[types.UID]string, len(findings))
	for _, f := range findings {
		if f.pod != nil && ours(f.pod) {
			pods = append(pods, f.pod)
			owner[f.pod.UID] = f.key.AppID
		}
	}
	for range l.Doubles() {
		events = append(events, ledger.RemoveDoubles{Stamp: stamp})
		break // one event removes all
	}
	var added []ledger.AddApp
	for _, meta := range manager.Applications(pods, func(pod *v1.Pod) string { return owner[pod.UID] }) {
		if app := l.App(meta.ApplicationID); app != nil && !app.State.Terminal() {
			continue
		}
		added = append(added, managers.AppEvent(stamp, manager.Name(), &meta, true))
	}
	slices.SortFunc(added, func(a, b ledger.AddApp) int {
		return cmp.Or(cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	for _, event := range added {
		events = append(events, event)
	}
	for _, f := range findings {
		if f.pod == nil {
			events = append(events, ledger.RemoveTask{Stamp: stamp, AppID: f.key.AppID, TaskID: f.key.TaskID})
			continue
		}
		meta, _ := manager.Task(f.pod)
		meta.ApplicationID, meta.TaskID, meta.Pod = f.key.AppID, f.key.TaskID, f.pod
		switch {
		case !ours(f.pod):
		case f.pod.Spec.NodeName == "" && !workload.Over(f.pod):
			unassigned = append(unassigned, f.pod)
		case workload.Over(f.pod) && l.App(f.key.AppID) == nil:
			events = append(events, ledger.RemoveTask{Stamp: stamp, AppID: f.key.AppID, TaskID: f.key.TaskID})
		case workload.Over(f.pod):
			events = append(events, ledger.CompleteTask{Stamp: stamp, AppID: meta.ApplicationID, TaskID: meta.TaskID})
		default:
			events = append(events, managers.TaskEvent(stamp, &meta))
		}
	}
	return events, unassigned
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

// idle completes the applications of a manager that run, or wait for a gang, without
// any task: the engine completes an application after its last allocation, and a new
// engine, which has seen none, never would.
func idle(l *ledger.Ledger, manager string, now time.Time) (events []ledger.Event) {
	for app := range l.Apps() {
		waits := app.State == ledger.AppStateRunning || app.State == ledger.AppStateReserving
		if app.Manager == manager && waits && l.Live(app.ID) == 0 {
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
