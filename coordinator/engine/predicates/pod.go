package predicates

import (
	"maps"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// podEntry is one pod and where it counts. Fields are guarded by Cache.mu; the
// derived ones are computed on first use under its read side, where doing it
// twice is harmless.
type podEntry struct {
	pod  *v1.Pod
	info *framework.PodInfo
	// node is where the pod counts, empty for nowhere; assumed says that this
	// is a decision the API server has not shown yet.
	node    string
	assumed bool
	// boundless says of which resources the pod asks for more than any node has.
	boundless []string

	own    atomic.Pointer[ownState]
	shared atomic.Pointer[sharedState]

	volumes atomic.Pointer[volumeState]
}

func newPodEntry(pod *v1.Pod) *podEntry {
	// An affinity term that does not parse matches nothing; kube-scheduler
	// ignores the error for existing pods too. The pod itself is refused when
	// it asks for a node.
	info, _ := framework.NewPodInfo(pod)
	if info == nil {
		info = &framework.PodInfo{Pod: pod}
	}
	// Computed now, under the write lock, because the plugins would compute it
	// on first use, under the read lock.
	return &podEntry{pod: pod, info: info, boundless: boundPod(info)}
}

// samePlacement reports whether the new version differs in nothing that a placement
// depends on, but for its labels and the node it is bound to. Most updates are such:
// a binding, conditions, IP addresses, container states.
func (e *podEntry) samePlacement(pod *v1.Pod) bool {
	old := e.pod
	return old == pod ||
		workload.Terminated(old) == workload.Terminated(pod) &&
			(old.DeletionTimestamp == nil) == (pod.DeletionTimestamp == nil) &&
			sameSpec(old, pod) && requests.Same(old, pod)
}

// sameSpec compares specs; the API server counts their versions, and does not
// count a binding. Of a pod of another scheduler there may be nothing to see until it
// is bound (coordinator/kube trims it), whatever the version.
func sameSpec(a, b *v1.Pod) bool {
	shown := (len(a.Spec.Containers) > 0) == (len(b.Spec.Containers) > 0)
	if a.Generation != 0 && a.Generation == b.Generation && shown {
		return true
	}
	return equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

// replace swaps in a version for which samePlacement holds, so that the old object
// can be freed. It reports whether its labels are others.
func (c *Cache) replace(e *podEntry, pod *v1.Pod) (relabelled bool) {
	relabelled = !maps.Equal(e.pod.Labels, pod.Labels)
	if relabelled || e.pod.Spec.NodeName != pod.Spec.NodeName {
		e.own.Store(nil)
		c.signatures.give(e.shared.Swap(nil))
	}
	e.pod = pod
	// Not by its Update, which would have the resources computed again.
	e.info.Pod = pod
	return relabelled
}
