package coordinator

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// recoverer is an app manager that can say what exists.
type recoverer interface {
	Name() string
	protocol.Recoverable
}

// reconciliation turns what the app managers list into the events that bring a
// ledger in agreement with the cluster: applications and tasks the ledger does
// not know are added, bound pods confirm or override intents, tasks whose pod
// has vanished complete. Kubernetes decides what exists and what is bound; the
// ledger keeps intent, order, stage and deadlines.
//
// pods are all pods of the cluster, and taskOf says which task a pod is, if it
// is one. Pods that are not assigned are left to the managers' handlers, which
// see every pod when they start.
func reconciliation(l *ledger.Ledger, managers []recoverer, pods []*v1.Pod, taskOf func(*v1.Pod) (protocol.TaskMetadata, bool), now time.Time) ([]ledger.Event, error) {
	stamp := ledger.Stamp{At: ledger.At(now)}
	var events []ledger.Event

	for _, manager := range managers {
		apps, err := manager.ListApplications()
		if err != nil {
			return nil, fmt.Errorf("listing the applications of %s: %w", manager.Name(), err)
		}
		var added []ledger.AddApp
		for _, meta := range apps {
			if app := l.App(meta.ApplicationID); app != nil && !app.State.Terminal() {
				continue
			}
			added = append(added, appEvent(stamp, manager.Name(), &meta, true))
		}
		slices.SortFunc(added, func(a, b ledger.AddApp) int {
			if a.Submitted != b.Submitted {
				return int(min(1, max(-1, a.Submitted-b.Submitted)))
			}
			return compare(a.ID, b.ID)
		})
		for _, event := range added {
			events = append(events, event)
		}
	}

	exists := make(map[string]bool, len(pods))
	for _, pod := range pods {
		exists[string(pod.UID)] = true
		meta, ours := taskOf(pod)
		if !ours || pod.Spec.NodeName == "" {
			continue
		}
		if terminated(pod) {
			events = append(events, ledger.CompleteTask{Stamp: stamp, AppID: meta.ApplicationID, TaskID: meta.TaskID})
			continue
		}
		for _, manager := range managers {
			if allocation := manager.GetExistingAllocation(pod); allocation != nil {
				events = append(events, taskEvent(stamp, &meta))
				break
			}
		}
	}

	for app := range l.Apps() {
		for task := range l.Tasks(app.ID) {
			if !exists[task.ID] {
				events = append(events, ledger.RemoveTask{Stamp: stamp, AppID: app.ID, TaskID: task.ID})
			}
		}
	}
	return events, nil
}

// idle completes the applications of a manager that run without any task: the
// engine completes an application after its last allocation, and a new engine,
// which has seen none, never would.
func idle(l *ledger.Ledger, manager string, now time.Time) (events []ledger.Event) {
	for app := range l.Apps() {
		if app.Manager != manager || app.State != ledger.AppStateRunning {
			continue
		}
		busy := false
		for task := range l.Tasks(app.ID) {
			busy = busy || !task.State.Terminal()
		}
		if !busy {
			events = append(events, ledger.AppEnded{
				Stamp: ledger.Stamp{At: ledger.At(now)}, AppID: app.ID, State: ledger.AppStateCompleted,
			})
		}
	}
	return events
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
