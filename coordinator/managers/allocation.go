package managers

import (
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/protocol"
)

// Allocation returns what an assigned pod holds as a task, as GetExistingAllocation has
// to. resources returns what a pod requests, in the engine's units; nil leaves it out.
func Allocation(task protocol.TaskMetadata, resources func(*v1.Pod) map[string]int64) *si.Allocation {
	allocation := &si.Allocation{
		AllocationKey: task.TaskID,
		NodeID:        task.Pod.Spec.NodeName,
		ApplicationID: task.ApplicationID,
		TaskGroupName: task.TaskGroupName,
		Placeholder:   task.Placeholder,
	}
	if priority := task.Pod.Spec.Priority; priority != nil {
		allocation.Priority = *priority
	}
	if resources != nil {
		allocation.ResourcePerAlloc = &si.Resource{Resources: make(map[string]*si.Quantity)}
		for name, value := range resources(task.Pod) {
			allocation.ResourcePerAlloc.Resources[name] = &si.Quantity{Value: value}
		}
	}
	return allocation
}
