package kube

import (
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// trimmer cuts objects down before an informer stores them. The object has just
// been decoded and belongs to nobody else yet. Trimming twice changes nothing.
//
// A pod keeps all that filter plugins read of a pod in its state, its metadata,
// and what in-place resizing reports:
//
//   - One to be scheduled here and not assigned yet keeps its whole spec.
//   - An assigned one loses what only the kubelet reads of its containers.
//   - One of another scheduler also loses its annotations, and as long as it is
//     not assigned its spec: it takes nothing and no plugin looks at it.
//   - A terminated one keeps only who and where it was.
//
// One in the replicas' namespace keeps what proves the death of a replica, and in which
// epoch it was marked as that of the lead.
type trimmer struct{ schedulerName, namespace string }

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func (t trimmer) trim(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		DropWritten(object)
	}
	switch o := obj.(type) {
	case *v1.Pod:
		t.pod(o)
	case *v1.Node:
		o.Status.Images, o.Status.VolumesInUse, o.Status.VolumesAttached, o.Status.Config = nil, nil, nil, nil
	}
	return obj, nil
}

// DropWritten takes from an object what says who wrote which part of it, and what was
// applied: nobody here reads it, and it is often most of the object.
func DropWritten(object metav1.Object) {
	object.SetManagedFields(nil)
	if annotations := object.GetAnnotations(); annotations[lastApplied] != "" {
		annotations = maps.Clone(annotations)
		delete(annotations, lastApplied)
		object.SetAnnotations(annotations)
	}
}

func (t trimmer) pod(pod *v1.Pod) {
	foreign := pod.Spec.SchedulerName != t.schedulerName
	assigned := pod.Spec.NodeName != ""
	ended := workload.Terminated(pod)
	if foreign && t.schedulerName != "" {
		pod.Annotations = t.marked(pod)
	}
	proofs := t.proofs(pod)
	switch {
	case ended || foreign && !assigned:
		pod.Spec = v1.PodSpec{
			NodeName: pod.Spec.NodeName, SchedulerName: pod.Spec.SchedulerName,
			Priority: pod.Spec.Priority, PriorityClassName: pod.Spec.PriorityClassName,
			SchedulingGroup: pod.Spec.SchedulingGroup,
		}
		pod.Status = v1.PodStatus{
			Phase: pod.Status.Phase, StartTime: pod.Status.StartTime, Reason: pod.Status.Reason, ContainerStatuses: proofs,
		}
		return
	case assigned:
		trimContainers(pod.Spec.Containers)
		trimContainers(pod.Spec.InitContainers)
		pod.Spec.EphemeralContainers = nil // they take no resources
		if foreign {
			trimForeign(&pod.Spec)
		}
	}
	status := &pod.Status
	status.ContainerStatuses = append(trimStatuses(status.ContainerStatuses), proofs...)
	status.InitContainerStatuses = trimStatuses(status.InitContainerStatuses)
	status.EphemeralContainerStatuses = nil
	status.Message, status.HostIP, status.HostIPs, status.PodIP, status.PodIPs = "", "", nil, "", nil
	status.Conditions = trimConditions(status.Conditions)
}

// marked leaves what a lead has written on its pod.
func (t trimmer) marked(pod *v1.Pod) map[string]string {
	epoch, ok := pod.Annotations[EpochAnnotation]
	if !ok || pod.Namespace != t.namespace || pod.Labels[RoleLabel] == "" {
		return nil
	}
	return map[string]string{EpochAnnotation: epoch}
}

// trimContainers leaves what a container takes of its node. It works in place.
func trimContainers(containers []v1.Container) {
	for i := range containers {
		c := &containers[i]
		containers[i] = v1.Container{
			Name: c.Name, Image: c.Image, Ports: c.Ports, Resources: c.Resources,
			ResizePolicy: c.ResizePolicy, RestartPolicy: c.RestartPolicy,
		}
	}
}

// trimForeign leaves what the presence of a pod means for others: resources and
// ports, affinity terms that others must respect, volumes that count on the
// node. How the pod itself came to be placed does not matter any more.
func trimForeign(spec *v1.PodSpec) {
	spec.NodeSelector, spec.Tolerations, spec.TopologySpreadConstraints = nil, nil, nil
	spec.SecurityContext, spec.ImagePullSecrets, spec.HostAliases, spec.DNSConfig = nil, nil, nil, nil
	volumes := make([]v1.Volume, 0, len(spec.Volumes))
	for _, v := range spec.Volumes {
		if v.Secret == nil && v.ConfigMap == nil && v.Projected == nil && v.EmptyDir == nil && v.DownwardAPI == nil && v.HostPath == nil {
			volumes = append(volumes, v)
		}
	}
	spec.Volumes = nil
	if len(volumes) > 0 {
		spec.Volumes = volumes
	}
}

// proofs returns, of the states of a pod's containers, those that prove the death of
// a replica, in statuses of their own without a name.
func (t trimmer) proofs(pod *v1.Pod) []v1.ContainerStatus {
	if pod.Namespace != t.namespace {
		return nil
	}
	var proofs []v1.ContainerStatus
	for _, incarnation := range deaths(pod) {
		proofs = append(proofs, v1.ContainerStatus{State: v1.ContainerState{
			Terminated: &v1.ContainerStateTerminated{Message: TerminationMessage(incarnation)},
		}})
	}
	return proofs
}

// trimStatuses leaves what in-place resizing reports.
func trimStatuses(statuses []v1.ContainerStatus) []v1.ContainerStatus {
	out := make([]v1.ContainerStatus, 0, len(statuses))
	for i := range statuses {
		if s := &statuses[i]; s.Resources != nil || len(s.AllocatedResources) > 0 {
			out = append(out, v1.ContainerStatus{Name: s.Name, Resources: s.Resources, AllocatedResources: s.AllocatedResources})
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// trimConditions leaves the conditions that say how a resize, a disruption or
// the scheduling of a pod stands, without their history.
func trimConditions(conditions []v1.PodCondition) []v1.PodCondition {
	out := make([]v1.PodCondition, 0, 1)
	for _, c := range conditions {
		switch c.Type {
		case v1.PodResizePending, v1.PodResizeInProgress, v1.DisruptionTarget, v1.PodScheduled:
			c.LastProbeTime, c.LastTransitionTime = metav1.Time{}, metav1.Time{}
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
