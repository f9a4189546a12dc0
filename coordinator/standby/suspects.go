package standby

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// suspect says where to look for a task.
type suspect struct {
	app             string // that the pod named last, for a task that the ledger does not know
	namespace, name string // of its pod; empty if only the ledger knows
}

// suspect notes that a task has to be looked at, as long as this replica does
// not lead. s.mu is held.
func (s *Standby) suspect(uid string, at suspect) {
	if s.led {
		return
	}
	if known, ok := s.suspects[uid]; ok && at.name == "" {
		at.namespace, at.name = known.namespace, known.name
	}
	s.suspects[uid] = at
}

// notePod notes a change of a pod that may be a task.
func (s *Standby) notePod(pod *v1.Pod) {
	if pod.Spec.SchedulerName != s.cfg.SchedulerName {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect(string(pod.UID), suspect{workload.AppID(pod), pod.Namespace, pod.Name})
}

// noteTask does the same where only the task is known.
func (s *Standby) noteTask(app, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect(uid, suspect{app: app})
}

// settleBatch is how many suspects are looked at before others get to tell of
// changes. A look takes some tens of microseconds.
const settleBatch = 64

// settle drops the suspects over which ledger and cluster agree.
func (s *Standby) settle() {
	s.mu.Lock()
	uids := slices.Collect(maps.Keys(s.suspects))
	s.mu.Unlock()
	for batch := range slices.Chunk(uids, settleBatch) {
		s.cfg.View.Read(func(l *ledger.Ledger) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, uid := range batch {
				at, ok := s.suspects[uid]
				if !ok || s.led {
					continue
				}
				if _, agrees := s.look(l, uid, at); agrees {
					delete(s.suspects, uid)
				}
			}
		})
	}
}

// look compares a task of the ledger with its pod.
func (s *Standby) look(l *ledger.Ledger, uid string, at suspect) (finding, bool) {
	task := l.TaskByID(uid)
	if task != nil {
		at.app = task.AppID // whatever the labels of its pod say by now
	}
	if at.name == "" && task != nil {
		at.namespace, at.name = task.Namespace, task.Name
	}
	f := finding{ledger.Key{AppID: at.app, TaskID: uid}, task != nil, s.pod(uid, at)}
	// Without its application a task means nothing, whatever its record says.
	orphan := task != nil && l.App(at.app) == nil
	return f, !orphan && agree(task, f.pod, s.cfg.SchedulerName)
}

// pod returns the pod of a suspect, nil if it is gone. Where nothing tells its name any
// more, as when the mirror has lost its record, whoever remembers pods by UID is asked: all
// but those that have terminated, which need no record.
func (s *Standby) pod(uid string, at suspect) *v1.Pod {
	if at.name == "" {
		return s.remembered(uid)
	}
	if pod := s.cfg.Cluster.Pod(at.namespace, at.name); pod != nil && string(pod.UID) == uid {
		return pod
	}
	return nil
}

// agree reports whether a task is as its pod says; either may be nil.
func agree(task *ledger.Task, pod *v1.Pod, schedulerName string) bool {
	switch {
	case pod == nil:
		return task == nil
	case task == nil && !workload.Ours(pod, schedulerName):
		return true // not a task of ours; one that is stays one, whatever its pod says later
	case workload.Over(pod):
		return task == nil || task.State.Terminal()
	case pod.Spec.NodeName == "":
		return task != nil || !bindable(pod)
	case task == nil:
		return false
	case task.State == ledger.TaskStateKilling && task.DeletePod:
		return task.Node == pod.Spec.NodeName
	default:
		return task.State == ledger.TaskStateBound && task.Node == pod.Spec.NodeName &&
			maps.Equal(task.Resources, engine.ResourcesOf(pod))
	}
}

// bindable reports whether the API server would take a binding of the pod.
func bindable(pod *v1.Pod) bool {
	return pod.DeletionTimestamp == nil && len(pod.Spec.SchedulingGates) == 0
}
