package predicates

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// nodeIndex keeps the lists of nodes that plugins ask for.
type nodeIndex struct {
	all []fwk.NodeInfo
	// How many counted pods have a required anti-affinity term that is scoped
	// to the hostname, and one that is not. A pod may have both.
	hostRepel, wideRepel int
	// How many counted pods have any inter-pod term.
	affine int
	// claims counts by how many counted pods each claim is used, by namespace and name.
	claims map[string]int
}

func (x *nodeIndex) add(info *framework.NodeInfo) { x.all = append(x.all, info) }

func (x *nodeIndex) remove(info *framework.NodeInfo) {
	x.all = slices.DeleteFunc(x.all, func(n fwk.NodeInfo) bool { return n == fwk.NodeInfo(info) })
}

// counted takes note of a pod that begins (1) or ceases (-1) to count, and
// reports whether that changes what anti-affinity other pods must obey beyond
// the pod's own node.
func (x *nodeIndex) counted(pod *v1.Pod, by int) bool {
	a := pod.Spec.Affinity
	if a == nil || (a.PodAffinity == nil && a.PodAntiAffinity == nil) {
		return false
	}
	x.affine += by
	if a.PodAntiAffinity == nil {
		return false
	}
	host, wide := false, false
	for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if t.TopologyKey == v1.LabelHostname {
			host = true
		} else {
			wide = true
		}
	}
	before := x.hostRepel > 0
	if host {
		x.hostRepel += by
	}
	if wide {
		x.wideRepel += by
	}
	return wide || before != (x.hostRepel > 0)
}

// claimed takes note of a pod that begins (1) or ceases (-1) to count.
func (x *nodeIndex) claimed(pod *v1.Pod, by int) {
	for i := range pod.Spec.Volumes {
		source := pod.Spec.Volumes[i].PersistentVolumeClaim
		if source == nil {
			continue
		}
		key := pod.Namespace + "/" + source.ClaimName
		if x.claims[key] += by; x.claims[key] == 0 {
			delete(x.claims, key)
		}
	}
}

// repelled reports whether any pod has a required anti-affinity term.
func (x *nodeIndex) repelled() bool { return x.hostRepel > 0 || x.wideRepel > 0 }

// sharedLister shows the cache to plugins. They call it with Cache.mu held for
// reading.
type sharedLister struct{ c *Cache }

func (l sharedLister) NodeInfos() fwk.NodeInfoLister       { return nodeLister(l) }
func (l sharedLister) StorageInfos() fwk.StorageInfoLister { return storageLister(l) }

// Pod groups of the scheduler's own gang scheduling play no part here.
func (l sharedLister) PodGroupStates() fwk.PodGroupStateLister                   { return nil }
func (l sharedLister) PodGroups() fwk.PodGroupLister                             { return nil }
func (l sharedLister) CompositePodGroupStates() fwk.CompositePodGroupStateLister { return nil }
func (l sharedLister) CompositePodGroups() fwk.CompositePodGroupLister           { return nil }

type nodeLister struct{ c *Cache }

func (l nodeLister) List() ([]fwk.NodeInfo, error) { return l.c.index.all, nil }

func (l nodeLister) Get(name string) (fwk.NodeInfo, error) {
	if n := l.c.nodes[name]; n != nil && n.known() {
		return n.info, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownNode, name)
}

func (l nodeLister) HavePodsWithAffinityList() ([]fwk.NodeInfo, error) {
	return l.where(l.c.index.affine > 0, func(n fwk.NodeInfo) bool { return len(n.GetPodsWithAffinity()) > 0 })
}

func (l nodeLister) HavePodsWithRequiredAntiAffinityList() ([]fwk.NodeInfo, error) {
	return l.where(l.c.index.repelled(), func(n fwk.NodeInfo) bool { return len(n.GetPodsWithRequiredAntiAffinity()) > 0 })
}

func (l nodeLister) HavePodsWithRequiredNonHostScopedAntiAffinityList() ([]fwk.NodeInfo, error) {
	return l.where(l.c.index.wideRepel > 0, func(n fwk.NodeInfo) bool {
		for _, p := range n.GetPodsWithRequiredAntiAffinity() {
			for _, t := range p.GetRequiredAntiAffinityTerms() {
				if t.TopologyKey != v1.LabelHostname {
					return true
				}
			}
		}
		return false
	})
}

func (l nodeLister) where(any bool, match func(fwk.NodeInfo) bool) ([]fwk.NodeInfo, error) {
	if !any {
		return nil, nil
	}
	var out []fwk.NodeInfo
	for _, n := range l.c.index.all {
		if match(n) {
			out = append(out, n)
		}
	}
	return out, nil
}

type storageLister struct{ c *Cache }

func (l storageLister) IsPVCUsedByPods(key string) bool { return l.c.index.claims[key] > 0 }
