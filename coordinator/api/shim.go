package api

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Objects are those of the API server that a replica knows. They must not be changed.
type Objects struct {
	Nodes           []*v1.Node
	Pods            []*v1.Pod
	PriorityClasses []*schedulingv1.PriorityClass
}

// What follows is the shim's part of a state dump, in the form in which YuniKorn's shim gives it
// (pkg/cache/external/scheduler_cache_dao.go). What is not kept of an object is missing: see package
// kube.

type shimCache struct {
	Statistics      shimStatistics           `json:"statistics"`
	Nodes           map[string]shimNode      `json:"nodes,omitempty"`
	Pods            map[string]shimPod       `json:"pods,omitempty"`
	PriorityClasses map[string]shimPriority  `json:"priorityClasses,omitempty"`
	Scheduling      map[string]shimPlacement `json:"schedulingState,omitempty"`
}

type shimStatistics struct {
	Nodes                 int            `json:"nodes,omitempty"`
	Pods                  int            `json:"pods,omitempty"`
	PriorityClasses       int            `json:"priorityClasses,omitempty"`
	Assumed               int            `json:"assumed,omitempty"`
	InProgressAllocations int            `json:"inProgressAllocations,omitempty"`
	PodsAssigned          int            `json:"podsAssigned,omitempty"`
	Phases                map[string]int `json:"phases,omitempty"`
}

type shimNode struct {
	Name        string             `json:"name"`
	UID         types.UID          `json:"uid,omitempty"`
	Info        v1.NodeSystemInfo  `json:"nodeInfo"`
	Created     time.Time          `json:"creationTimestamp"`
	Annotations map[string]string  `json:"annotations,omitempty"`
	Labels      map[string]string  `json:"labels,omitempty"`
	PodCIDRs    []string           `json:"podCIDRs,omitempty"`
	Taints      []v1.Taint         `json:"taints,omitempty"`
	Addresses   []v1.NodeAddress   `json:"addresses,omitempty"`
	Allocatable v1.ResourceList    `json:"allocatable,omitempty"`
	Capacity    v1.ResourceList    `json:"capacity,omitempty"`
	Conditions  []v1.NodeCondition `json:"conditions,omitempty"`
}

type shimPod struct {
	Namespace         string               `json:"namespace"`
	Name              string               `json:"name"`
	GenerateName      string               `json:"generateName,omitempty"`
	UID               types.UID            `json:"uid,omitempty"`
	Created           time.Time            `json:"creationTimestamp"`
	Annotations       map[string]string    `json:"annotations,omitempty"`
	Labels            map[string]string    `json:"labels,omitempty"`
	NodeName          string               `json:"nodeName,omitempty"`
	Affinity          *v1.Affinity         `json:"affinity,omitempty"`
	NodeSelector      map[string]string    `json:"nodeSelector,omitempty"`
	PriorityClassName string               `json:"priorityClassName,omitempty"`
	Priority          *int32               `json:"priority,omitempty"`
	PreemptionPolicy  *v1.PreemptionPolicy `json:"preemptionPolicy,omitempty"`
	SchedulerName     string               `json:"schedulerName,omitempty"`
	Tolerations       []v1.Toleration      `json:"tolerations,omitempty"`
	Containers        []shimContainer      `json:"containers,omitempty"`
	Status            v1.PodStatus         `json:"status"`
}

type shimContainer struct {
	Name      string                  `json:"name"`
	Resources v1.ResourceRequirements `json:"resources"`
}

type shimPriority struct {
	Name             string               `json:"name"`
	Annotations      map[string]string    `json:"annotations,omitempty"`
	Labels           map[string]string    `json:"labels,omitempty"`
	Value            int32                `json:"value"`
	GlobalDefault    bool                 `json:"globalDefault,omitempty"`
	PreemptionPolicy *v1.PreemptionPolicy `json:"preemptionPolicy,omitempty"`
}

type shimPlacement struct {
	UID types.UID `json:"uid,omitempty"`
	// AssignedNode is where the pod is or is to be, InProgressNode where it is being bound.
	AssignedNode    string `json:"assignedNode,omitempty"`
	Assumed         bool   `json:"assumed,omitempty"`
	AllVolumesBound bool   `json:"allVolumesBound,omitempty"`
	InProgressNode  string `json:"inProgressNode,omitempty"`
}

// placements is what the ledger says of where pods are, by their UID.
func placements(ctx context.Context, source Source) map[types.UID]*ledger.Task {
	placed := make(map[types.UID]*ledger.Task)
	source.Read(ctx, func(l *ledger.Ledger) {
		for app := range l.Apps() {
			for task := range l.Tasks(app.ID) {
				if task.Placed() {
					placed[types.UID(task.ID)] = task
				}
			}
		}
	})
	return placed
}

// shim puts the shim's part together.
func shim(known Objects, placed map[types.UID]*ledger.Task) shimCache {
	cache := shimCache{
		Nodes: make(map[string]shimNode), Pods: make(map[string]shimPod), PriorityClasses: make(map[string]shimPriority),
		Scheduling: make(map[string]shimPlacement),
		Statistics: shimStatistics{
			Nodes: len(known.Nodes), Pods: len(known.Pods), PriorityClasses: len(known.PriorityClasses), Phases: make(map[string]int),
		},
	}
	for _, n := range known.Nodes {
		cache.Nodes[n.Name] = shimNode{
			Name: n.Name, UID: n.UID, Info: n.Status.NodeInfo, Created: n.CreationTimestamp.Time, Annotations: n.Annotations,
			Labels: n.Labels, PodCIDRs: n.Spec.PodCIDRs, Taints: n.Spec.Taints, Addresses: n.Status.Addresses,
			Allocatable: n.Status.Allocatable, Capacity: n.Status.Capacity, Conditions: n.Status.Conditions,
		}
	}
	for _, c := range known.PriorityClasses {
		cache.PriorityClasses[c.Name] = shimPriority{
			Name: c.Name, Annotations: c.Annotations, Labels: c.Labels, Value: c.Value, GlobalDefault: c.GlobalDefault,
			PreemptionPolicy: c.PreemptionPolicy,
		}
	}
	for _, p := range known.Pods {
		name := p.Namespace + "/" + p.Name
		cache.Pods[name] = shimPodOf(p)
		cache.Statistics.Phases[string(p.Status.Phase)]++
		at := shimPlacement{UID: p.UID, AssignedNode: p.Spec.NodeName, AllVolumesBound: p.Spec.NodeName != ""}
		if task := placed[p.UID]; task != nil && at.AssignedNode == "" {
			at.AssignedNode, at.Assumed, at.InProgressNode = task.Node, true, task.Node
			cache.Statistics.Assumed++
			cache.Statistics.InProgressAllocations++
		}
		if at.AssignedNode != "" {
			cache.Statistics.PodsAssigned++
		}
		cache.Scheduling[name] = at
	}
	return cache
}

func shimPodOf(p *v1.Pod) shimPod {
	out := shimPod{
		Namespace: p.Namespace, Name: p.Name, GenerateName: p.GenerateName, UID: p.UID, Created: p.CreationTimestamp.Time,
		Annotations: p.Annotations, Labels: p.Labels, NodeName: p.Spec.NodeName, Affinity: p.Spec.Affinity,
		NodeSelector: p.Spec.NodeSelector, PriorityClassName: p.Spec.PriorityClassName, Priority: p.Spec.Priority,
		PreemptionPolicy: p.Spec.PreemptionPolicy, SchedulerName: p.Spec.SchedulerName, Tolerations: p.Spec.Tolerations,
		Status: p.Status,
	}
	for i := range p.Spec.Containers {
		out.Containers = append(out.Containers, shimContainer{p.Spec.Containers[i].Name, p.Spec.Containers[i].Resources})
	}
	return out
}
