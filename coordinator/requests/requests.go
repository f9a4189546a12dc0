// Package requests says what pods request of their nodes, and whether that has
// changed.
package requests

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Of returns what a pod takes of its node. It counts containers, init containers
// and sidecars as the scheduler does, the overhead, requests at pod level, and
// for a pod that is being resized the larger of what it has and what it asked
// for. The list belongs to the caller.
func Of(pod *v1.Pod) v1.ResourceList {
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: statusCounts(pod),
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
}

// statusCounts reports whether the status of a pod can say anything else than its spec. Of
// most pods it cannot before their kubelet has started them, and to look costs three times
// as much as the spec alone.
func statusCounts(pod *v1.Pod) bool {
	return pod.Status.Resources != nil ||
		slices.ContainsFunc(pod.Status.ContainerStatuses, hasResources) ||
		slices.ContainsFunc(pod.Status.InitContainerStatuses, hasResources) ||
		resourcehelper.IsPodResizeInfeasible(pod)
}

func hasResources(s v1.ContainerStatus) bool {
	return s.Resources != nil || s.AllocatedResources != nil
}

// Same reports whether two versions of a pod take the same. Most versions differ
// in nothing that counts, which is seen without computing anything: Of makes a
// dozen maps, and every replica sees every version of every pod.
func Same(a, b *v1.Pod) bool {
	return sameInputs(a, b) || equality.Semantic.DeepEqual(Of(a), Of(b))
}

// sameInputs compares all that Of looks at.
func sameInputs(a, b *v1.Pod) bool {
	return sameContainers(a.Spec.Containers, b.Spec.Containers) &&
		sameContainers(a.Spec.InitContainers, b.Spec.InitContainers) &&
		sameRequests(a.Spec.Resources, b.Spec.Resources) &&
		sameList(a.Spec.Overhead, b.Spec.Overhead) &&
		sameStatuses(a.Status.ContainerStatuses, b.Status.ContainerStatuses) &&
		sameStatuses(a.Status.InitContainerStatuses, b.Status.InitContainerStatuses) &&
		sameRequests(a.Status.Resources, b.Status.Resources) &&
		sameList(a.Status.AllocatedResources, b.Status.AllocatedResources) &&
		resourcehelper.IsPodResizeInfeasible(a) == resourcehelper.IsPodResizeInfeasible(b)
}

func sameContainers(a, b []v1.Container) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Name != y.Name || !equalOrNil(x.RestartPolicy, y.RestartPolicy) ||
			!sameList(x.Resources.Requests, y.Resources.Requests) {
			return false
		}
	}
	return true
}

func sameStatuses(a, b []v1.ContainerStatus) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Name != y.Name || !sameList(x.AllocatedResources, y.AllocatedResources) || !sameRequests(x.Resources, y.Resources) {
			return false
		}
	}
	return true
}

func sameRequests(a, b *v1.ResourceRequirements) bool {
	if a == nil || b == nil {
		return a == b
	}
	return sameList(a.Requests, b.Requests)
}

// sameList compares lists; none at all is not the same as an empty one.
func sameList(a, b v1.ResourceList) bool {
	return (a == nil) == (b == nil) && maps.EqualFunc(a, b, func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })
}

func equalOrNil[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
