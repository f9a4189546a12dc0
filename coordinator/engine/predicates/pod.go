package predicates

import (
	"maps"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/kubernetes/pkg/scheduler/framework"
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

	own    atomic.Pointer[ownState]
	shared atomic.Pointer[sharedState]
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
	info.CalculateResource()
	return &podEntry{pod: pod, info: info}
}

// sameToOthers reports whether the new version differs in nothing that the
// pod's own placement or that of other pods depends on. Most updates are such:
// conditions, IP addresses, container states.
func (e *podEntry) sameToOthers(pod *v1.Pod) bool {
	old := e.pod
	if old == pod {
		return true
	}
	return old.Spec.NodeName == pod.Spec.NodeName &&
		terminated(old) == terminated(pod) &&
		(old.DeletionTimestamp == nil) == (pod.DeletionTimestamp == nil) &&
		maps.Equal(old.Labels, pod.Labels) &&
		sameSpec(old, pod) &&
		sameResources(e.info, pod)
}

// sameSpec compares specs; the API server counts their versions.
func sameSpec(a, b *v1.Pod) bool {
	if a.Generation != 0 && a.Generation == b.Generation {
		return true
	}
	return equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

// sameResources compares what the pods occupy, which an in-place resize
// changes through the status as well.
func sameResources(known *framework.PodInfo, pod *v1.Pod) bool {
	x := known.CalculateResource().Resource
	y := (&framework.PodInfo{Pod: pod}).CalculateResource().Resource
	return x.GetMilliCPU() == y.GetMilliCPU() && x.GetMemory() == y.GetMemory() &&
		x.GetEphemeralStorage() == y.GetEphemeralStorage() &&
		maps.Equal(x.GetScalarResources(), y.GetScalarResources())
}

// replace swaps in a version for which sameToOthers holds, so that the old
// object can be freed.
func (e *podEntry) replace(pod *v1.Pod) {
	e.pod = pod
	if err := e.info.Update(pod); err == nil {
		e.info.CalculateResource()
	}
}
