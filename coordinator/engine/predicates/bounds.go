package predicates

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// The scheduler framework counts in int64 and does not look whether a quantity,
// or a sum, is one. What pods and nodes count with is therefore bounded as it is
// for the engine, and a pod that asks for more than any node can have is refused
// before the framework computes what it would take.

// boundNode bounds what a node offers.
func boundNode(info *framework.NodeInfo) {
	bound(info.Allocatable, info.Node().Status.Allocatable, requests.Offered)
}

// boundPod computes what a pod takes, for as long as info exists. It returns, for
// each resource of which the pod asks for more than any node has, the framework's
// words for what a node lacks.
func boundPod(info *framework.PodInfo) (boundless []string) {
	list := requests.Of(info.Pod)
	if res, ok := info.CalculateResource().Resource.(*framework.Resource); ok {
		bound(res, list, requests.Asked)
	}
	for name, q := range list {
		if requests.Asked(name, q) == ledger.Most {
			boundless = append(boundless, "Insufficient "+string(name))
		}
	}
	slices.Sort(boundless)
	return boundless
}

func bound(res *framework.Resource, list v1.ResourceList, amount func(v1.ResourceName, resource.Quantity) int64) {
	for name, q := range list {
		v := amount(name, q)
		if v < ledger.Most-1 {
			continue // as the framework has it
		}
		switch name {
		case v1.ResourceCPU:
			res.MilliCPU = v
		case v1.ResourceMemory:
			res.Memory = v
		case v1.ResourceEphemeralStorage:
			res.EphemeralStorage = v
		case v1.ResourcePods:
			res.AllowedPodNumber = int(v)
		default:
			res.SetScalar(name, v)
		}
	}
}
