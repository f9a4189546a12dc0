package engine_test

import (
	"maps"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/engine"
)

func list(kv ...string) v1.ResourceList {
	out := v1.ResourceList{}
	for i := 0; i < len(kv); i += 2 {
		out[v1.ResourceName(kv[i])] = resource.MustParse(kv[i+1])
	}
	return out
}

func requests(name string, l v1.ResourceList) v1.Container {
	return v1.Container{Name: name, Resources: v1.ResourceRequirements{Requests: l}}
}

func TestResourcesOf(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	sidecar := requests("sidecar", list("cpu", "200m"))
	sidecar.RestartPolicy = &always
	for _, tt := range []struct {
		name string
		pod  v1.Pod
		want map[string]int64
	}{
		{"best effort still takes one pod", v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{}}}}, map[string]int64{"pods": 1}},
		{
			"containers add up, each resource in its unit",
			v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{
				requests("a", list("cpu", "1500m", "memory", "1Gi", "ephemeral-storage", "2Gi", "hugepages-2Mi", "4Mi", "x.com/gpu", "2")),
				requests("b", list("cpu", "1", "memory", "1M")),
			}}},
			map[string]int64{"vcore": 2500, "memory": 1<<30 + 1e6, "ephemeral-storage": 2 << 30, "hugepages-2Mi": 4 << 20, "x.com/gpu": 2, "pods": 1},
		},
		{
			"an init container may want more than all others",
			v1.Pod{Spec: v1.PodSpec{
				InitContainers: []v1.Container{requests("init", list("cpu", "3"))},
				Containers:     []v1.Container{requests("a", list("cpu", "1", "memory", "1"))},
			}},
			map[string]int64{"vcore": 3000, "memory": 1, "pods": 1},
		},
		{
			"a sidecar runs beside both",
			v1.Pod{Spec: v1.PodSpec{
				InitContainers: []v1.Container{sidecar, requests("init", list("cpu", "3"))},
				Containers:     []v1.Container{requests("a", list("cpu", "1"))},
			}},
			map[string]int64{"vcore": 3200, "pods": 1},
		},
		{
			"overhead",
			v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{requests("a", list("cpu", "1"))}, Overhead: list("cpu", "250m", "memory", "10")}},
			map[string]int64{"vcore": 1250, "memory": 10, "pods": 1},
		},
		{
			"the pod level wins",
			v1.Pod{Spec: v1.PodSpec{
				Resources:  &v1.ResourceRequirements{Requests: list("cpu", "4")},
				Containers: []v1.Container{requests("a", list("cpu", "1", "memory", "5"))},
			}},
			map[string]int64{"vcore": 4000, "memory": 5, "pods": 1},
		},
		{
			"a pod being shrunk holds what it has",
			v1.Pod{
				Spec: v1.PodSpec{Containers: []v1.Container{requests("a", list("cpu", "1"))}},
				Status: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{
					Name: "a", AllocatedResources: list("cpu", "2"), Resources: &v1.ResourceRequirements{Requests: list("cpu", "2")},
				}}},
			},
			map[string]int64{"vcore": 2000, "pods": 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := engine.ResourcesOf(&tt.pod); !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAllocatableOf(t *testing.T) {
	n := &v1.Node{Status: v1.NodeStatus{
		Capacity:    list("cpu", "8"),
		Allocatable: list("cpu", "7500m", "memory", "1Ki", "pods", "110", "x.com/gpu", "1"),
	}}
	want := map[string]int64{"vcore": 7500, "memory": 1024, "pods": 110, "x.com/gpu": 1}
	if got := engine.AllocatableOf(n); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
