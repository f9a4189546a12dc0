package standby

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/failpoint"
)

// suspected is what the gates of managers tell while this replica does not lead.
func (s *Standby) suspected(app, uid string, pod *v1.Pod) {
	if pod == nil {
		s.noteTask(app, uid)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect(uid, suspect{app, pod.Namespace, pod.Name})
}

// pods is where gates put the pods that app managers report to a lead, which read the
// informer on goroutines of their own. What they report may be old by then: a version
// that others have passed, or a pod that is gone, of which nobody would take it back. So
// a report is the occasion only to tell of the pod as it is.
type pods struct{ s *Standby }

func (p pods) SetPod(pod *v1.Pod)     { p.s.cfg.Cluster.Tell(pod.Namespace, pod.Name) }
func (p pods) Pod(uid string) *v1.Pod { return p.s.preds.Pod(uid) }

// follower keeps engine and predicates in step with the informers.
type follower struct{ s *Standby }

func (f follower) SetNode(node *v1.Node) {
	f.s.preds.SetNode(node)
	if err := f.s.engine.SetNode(node); err != nil {
		f.s.log.Error("engine refused a node", "node", node.Name, "err", err)
	}
}

func (f follower) RemoveNode(name string) {
	if err := f.s.engine.RemoveNode(name); err != nil {
		f.s.log.Error("engine did not let a node go", "node", name, "err", err)
	}
	f.s.preds.RemoveNode(name)
}

func (f follower) SetPod(pod *v1.Pod) {
	f.s.notePod(pod)
	if workload.Terminated(pod) {
		f.drop(pod)
		return
	}
	if pod.Spec.NodeName != "" && failpoint.Off(failpoint.RecoveryGuard) {
		return
	}
	f.s.preds.SetPod(pod)
	if pod.Spec.NodeName != "" && f.s.foreign(pod) {
		if err := f.s.engine.SetForeign(pod); err != nil {
			f.s.log.Error("engine did not count a pod", "pod", cache.MetaObjectToName(pod).String(), "err", err)
		}
	}
}

func (f follower) RemovePod(pod *v1.Pod) {
	f.s.notePod(pod)
	f.s.staff.gone(pod)
	f.drop(pod)
}

func (f follower) drop(pod *v1.Pod) {
	f.s.preds.RemovePod(string(pod.UID))
	if f.s.foreign(pod) {
		if err := f.s.engine.RemoveForeign(string(pod.UID)); err != nil {
			f.s.log.Error("engine did not let a pod go", "pod", cache.MetaObjectToName(pod).String(), "err", err)
		}
	}
}

func (f follower) Configure(configuration map[string]string, err error) {
	f.s.configure(configuration, err)
}

// foreign reports whether a pod occupies a node without being ours to schedule. One
// that asks to be ignored since it became a task is known to the engine as that.
func (s *Standby) foreign(pod *v1.Pod) bool { return !workload.Ours(pod, s.cfg.SchedulerName) }
