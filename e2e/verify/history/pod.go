package history

import (
	"cmp"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// EpochAnnotation is where a Binding, and through it the pod, says which epoch
// of the coordinator sent it.
const EpochAnnotation = "understudy.dev/epoch"

// Pod is what the checks need to know of a pod at one revision.
type Pod struct {
	UID       string
	Namespace string
	Name      string
	// Scheduler is spec.schedulerName; AppID is empty where the pod opted out
	// of application management.
	Scheduler string
	AppID     string
	// Placeholder says that the pod holds the place of another one.
	Placeholder bool
	// Queue is the one that the pod asks for, empty if none.
	Queue string
	Node  string
	Phase v1.PodPhase
	// Epoch is the value of EpochAnnotation, zero if there is none.
	Epoch uint64
	// Restarts is the sum over the pod's containers.
	Restarts int32
	// Deleting reports a deletion timestamp.
	Deleting bool
	// Requests is what the pod occupies: cpu in millicores, everything else
	// in its own unit. Histories share the map; do not write to it.
	Requests map[v1.ResourceName]int64
}

// Terminal reports whether the pod has given its node's resources back.
func (p *Pod) Terminal() bool { return p.Phase == v1.PodSucceeded || p.Phase == v1.PodFailed }

// Kind says what an event did to its object.
type Kind uint8

// The kinds of event. Base marks what existed when the recording began.
const (
	Base Kind = iota
	Added
	Changed
	Gone
)

func (k Kind) String() string {
	return [...]string{"base", "added", "changed", "gone"}[k]
}

// PodEvent is the state of a pod after one change.
type PodEvent struct {
	// At is the local time of receipt.
	At time.Time
	// Revision is the etcd revision of the change. A Base event carries the
	// revision of the pod's last change.
	Revision uint64
	Kind     Kind
	Pod      *Pod
}

// NodeEvent is a node's allocatable capacity after one change, in the units of
// Pod.Requests.
type NodeEvent struct {
	At          time.Time
	Revision    uint64
	Kind        Kind
	Name        string
	Allocatable map[v1.ResourceName]int64
}

// Gap is a range of revisions that the history lacks.
type Gap struct {
	At     time.Time
	What   string
	After  uint64
	Until  uint64
	Reason string
}

// FromPod takes over what the checks need. Requests equal to those of prev, the
// state before, are shared with it. A pod stays of the application, and of the queue,
// that it was first seen with: labels can be edited, and say nothing after that.
func FromPod(p *v1.Pod, prev *Pod) *Pod {
	out := &Pod{
		UID:       string(p.UID),
		Namespace: p.Namespace,
		Name:      p.Name,
		Scheduler: p.Spec.SchedulerName,
		AppID:     appID(p),
		Queue:     queue(p),
		Node:      p.Spec.NodeName,
		Phase:     p.Status.Phase,
		Deleting:  p.DeletionTimestamp != nil,

		Placeholder: p.Annotations["yunikorn.apache.org/placeholder"] == "true",
	}
	if prev != nil {
		out.AppID, out.Queue = prev.AppID, prev.Queue
	}
	// A value that is not a number counts as none: the check then names the pod.
	out.Epoch, _ = strconv.ParseUint(p.Annotations[EpochAnnotation], 10, 64)
	for i := range p.Status.ContainerStatuses {
		out.Restarts += p.Status.ContainerStatuses[i].RestartCount
	}
	out.Requests = amounts(resource.PodRequests(p, resource.PodResourcesOptions{}))
	out.Requests[v1.ResourcePods] = 1
	if prev != nil && equalAmounts(prev.Requests, out.Requests) {
		out.Requests = prev.Requests
	}
	return out
}

// same reports whether nothing changed that a check looks at.
func (p *Pod) same(q *Pod) bool {
	return p.Node == q.Node && p.Phase == q.Phase && p.Epoch == q.Epoch &&
		p.Restarts == q.Restarts && p.Deleting == q.Deleting && p.AppID == q.AppID && p.Queue == q.Queue &&
		equalAmounts(p.Requests, q.Requests)
}

// appID reads the application of a pod in the order that YuniKorn documents.
func appID(p *v1.Pod) string {
	if p.Annotations["yunikorn.apache.org/ignore-application"] == "true" {
		return ""
	}
	for _, id := range []string{
		p.Labels["yunikorn.apache.org/app-id"],
		p.Annotations["yunikorn.apache.org/app-id"],
		p.Labels["applicationId"],
		p.Labels["spark-app-selector"],
	} {
		if id != "" {
			return id
		}
	}
	return "yunikorn-" + p.Namespace + "-autogen"
}

// queue reads the queue of a pod in the order that YuniKorn documents.
func queue(p *v1.Pod) string {
	return cmp.Or(p.Labels["yunikorn.apache.org/queue"], p.Annotations["yunikorn.apache.org/queue"], p.Labels["queue"])
}

func amounts(list v1.ResourceList) map[v1.ResourceName]int64 {
	out := make(map[v1.ResourceName]int64, len(list)+1)
	for name, q := range list {
		if name == v1.ResourceCPU {
			out[name] = q.MilliValue()
		} else {
			out[name] = q.Value()
		}
	}
	return out
}

func equalAmounts(a, b map[v1.ResourceName]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}
