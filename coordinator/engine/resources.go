package engine

import (
	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// podsResource is the engine's name for the number of pods.
const podsResource = string(v1.ResourcePods)

// ResourcesOf returns what a pod takes of its node, by requests.Of, in the engine's
// units: "vcore" in millicores, "memory" in bytes, one of "pods", anything else
// under its Kubernetes name in its own unit.
func ResourcesOf(pod *v1.Pod) map[string]int64 {
	out := units(requests.Of(pod))
	out[podsResource] = 1
	return out
}

// AllocatableOf returns what pods may take of a node, in the engine's units.
func AllocatableOf(node *v1.Node) map[string]int64 { return units(node.Status.Allocatable) }

func units(list v1.ResourceList) map[string]int64 {
	out := make(map[string]int64, len(list)+1)
	for name, q := range list {
		k, v := unit(string(name), q)
		out[k] = v
	}
	return out
}

func unit(name string, q resource.Quantity) (string, int64) {
	if name == string(v1.ResourceCPU) {
		return sicommon.CPU, q.MilliValue()
	}
	return name, q.Value()
}

// gangTotal returns what all placeholders of the groups take together.
func gangTotal(groups []v1alpha1.TaskGroup) map[string]int64 {
	out := make(map[string]int64)
	for i := range groups {
		g := &groups[i]
		n := int64(g.MinMember)
		for name, q := range g.MinResource {
			k, v := unit(name, q)
			out[k] += v * n
		}
		out[podsResource] += n
	}
	return out
}

func toSI(res map[string]int64) *si.Resource {
	out := &si.Resource{Resources: make(map[string]*si.Quantity, len(res))}
	for k, v := range res {
		out.Resources[k] = &si.Quantity{Value: v}
	}
	return out
}
