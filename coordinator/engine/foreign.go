package engine

import (
	"maps"
	"strconv"

	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// foreign is a pod of another scheduler.
type foreign struct {
	node     string
	res      map[string]int64
	tags     map[string]string
	priority int32
	sent     bool
}

// SetForeign counts a pod of another scheduler on its node. One that is not
// assigned, or has terminated, is not counted.
func (e *Engine) SetForeign(pod *v1.Pod) error {
	uid := string(pod.UID)
	if pod.Spec.NodeName == "" || workload.Terminated(pod) {
		return e.RemoveForeign(uid)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	if e.tasks[uid] != nil {
		return nil // counted as a task, whatever it says of itself by now
	}
	res := ResourcesOf(pod)
	f := e.foreign[uid]
	if f != nil && f.sent && maps.Equal(f.res, res) {
		return nil
	}
	if f == nil {
		f = &foreign{node: pod.Spec.NodeName, tags: foreignTags(pod), priority: priorityOf(pod)}
		e.foreign[uid] = f
	}
	f.res = res
	if n := e.nodes[f.node]; n == nil || !n.accepted {
		e.absent(f.node).foreign[uid] = true
		return nil // sent by nodeAccepted
	}
	return e.sendForeign(uid, f)
}

// RemoveForeign takes the pod off its node again.
func (e *Engine) RemoveForeign(uid string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	return e.removeForeign(uid)
}

func (e *Engine) removeForeign(uid string) error {
	f := e.foreign[uid]
	if f == nil {
		return nil
	}
	delete(e.foreign, uid)
	e.present(f.node, func(w *absentees) { delete(w.foreign, uid) })
	if !f.sent {
		return nil
	}
	return e.sendForeignRelease(uid)
}

func foreignTags(pod *v1.Pod) map[string]string {
	tags := podTags(pod.Namespace, pod.Name, nil)
	tags[sicommon.Foreign] = sicommon.AllocTypeDefault
	if created := pod.CreationTimestamp; !created.IsZero() {
		tags[sicommon.CreationTime] = strconv.FormatInt(created.Unix(), 10)
	}
	for _, owner := range pod.OwnerReferences {
		if owner.Kind == "Node" { // a static pod is there whatever happens
			tags[sicommon.Foreign] = sicommon.AllocTypeStatic
		}
	}
	return tags
}

func (e *Engine) sendForeign(uid string, f *foreign) error {
	f.sent = true
	alloc := &si.Allocation{
		AllocationKey: uid, NodeID: f.node, AllocationTags: f.tags,
		ResourcePerAlloc: toSI(f.res), Priority: f.priority,
	}
	return e.sendAllocations(&si.AllocationRequest{RmID: e.cfg.RMID, Allocations: []*si.Allocation{alloc}})
}

func (e *Engine) sendForeignRelease(uid string) error {
	return e.sendAllocations(&si.AllocationRequest{
		RmID: e.cfg.RMID,
		Releases: &si.AllocationReleasesRequest{AllocationsToRelease: []*si.AllocationRelease{{
			AllocationKey: uid, TerminationType: si.TerminationType_STOPPED_BY_RM,
		}}},
	})
}
