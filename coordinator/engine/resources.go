package engine

import (
	"maps"

	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// podsResource is the engine's name for the number of pods.
const podsResource = string(v1.ResourcePods)

// ResourcesOf returns what a pod takes of its node, by requests.Of, in the engine's
// units: "vcore" in millicores, "memory" in bytes, one of "pods", anything else
// under its Kubernetes name in its own unit. What is more than any node can have is
// ledger.Most.
func ResourcesOf(pod *v1.Pod) map[string]int64 {
	out := units(requests.Of(pod), requests.Asked)
	out[podsResource] = 1
	return out
}

// AllocatableOf returns what pods may take of a node, in the engine's units.
func AllocatableOf(node *v1.Node) map[string]int64 {
	return units(node.Status.Allocatable, requests.Offered)
}

func units(list v1.ResourceList, amount func(v1.ResourceName, resource.Quantity) int64) map[string]int64 {
	out := make(map[string]int64, len(list)+1)
	for name, q := range list {
		out[unit(string(name))] = amount(name, q)
	}
	return out
}

// unit returns the engine's name of a resource.
func unit(name string) string {
	if name == string(v1.ResourceCPU) {
		return sicommon.CPU
	}
	return name
}

// bounded returns what a task counts with, whatever its record says.
func bounded(res map[string]int64) map[string]int64 {
	within := true
	for _, v := range res {
		within = within && v <= ledger.Most
	}
	if within {
		return res
	}
	out := maps.Clone(res)
	for name, v := range out {
		out[name] = ledger.Bounded(v)
	}
	return out
}

// gangTotal returns what all placeholders of the groups take together.
func gangTotal(groups []v1alpha1.TaskGroup) map[string]int64 {
	out := make(map[string]int64)
	for i := range groups {
		for name, amount := range MinResourceOf(&groups[i]) {
			out[name] = requests.Sum(out[name], requests.Times(amount, int64(groups[i].MinMember)))
		}
	}
	return out
}

// MinResourceOf returns what one placeholder of a group takes, as ResourcesOf does.
func MinResourceOf(group *v1alpha1.TaskGroup) map[string]int64 {
	out := make(map[string]int64, len(group.MinResource)+1)
	for name, q := range group.MinResource {
		out[unit(name)] = requests.Asked(v1.ResourceName(name), q)
	}
	out[podsResource] = 1
	return out
}

func toSI(res map[string]int64) *si.Resource {
	out := &si.Resource{Resources: make(map[string]*si.Quantity, len(res))}
	for k, v := range res {
		out.Resources[k] = &si.Quantity{Value: v}
	}
	return out
}
