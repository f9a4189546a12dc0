package requests_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/coordinator/requests"
)

// change is one edit of a pod.
type change func(*rapid.T, *v1.Pod)

func list(t *rapid.T) v1.ResourceList {
	if rapid.Bool().Draw(t, "none") {
		return nil
	}
	l := v1.ResourceList{}
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, "example.com/gpu"} {
		if n := rapid.Int64Range(0, 3).Draw(t, string(name)); n > 0 {
			l[name] = *resource.NewQuantity(n-1, resource.DecimalSI)
		}
	}
	return l
}

func requirements(t *rapid.T) *v1.ResourceRequirements {
	if rapid.Bool().Draw(t, "nil") {
		return nil
	}
	return &v1.ResourceRequirements{Requests: list(t)}
}

// inputs are the parts of a pod that decide what it takes; at is a container of
// either kind.
func inputs(spec []v1.Container, status []v1.ContainerStatus, at int) []change {
	return []change{
		func(t *rapid.T, _ *v1.Pod) { spec[at].Resources.Requests = list(t) },
		func(t *rapid.T, _ *v1.Pod) {
			always := v1.ContainerRestartPolicyAlways
			spec[at].RestartPolicy = rapid.SampledFrom([]*v1.ContainerRestartPolicy{nil, &always}).Draw(t, "policy")
		},
		func(t *rapid.T, _ *v1.Pod) { status[at].AllocatedResources = list(t) },
		func(t *rapid.T, _ *v1.Pod) { status[at].Resources = requirements(t) },
		func(t *rapid.T, _ *v1.Pod) {
			status[at].Name = rapid.SampledFrom([]string{"c0", "i1", ""}).Draw(t, "name")
		},
	}
}

func edit(t *rapid.T, p *v1.Pod) {
	changes := []change{
		func(t *rapid.T, p *v1.Pod) { p.Spec.Resources = requirements(t) },
		func(t *rapid.T, p *v1.Pod) { p.Spec.Overhead = list(t) },
		func(t *rapid.T, p *v1.Pod) { p.Status.Resources = requirements(t) },
		func(t *rapid.T, p *v1.Pod) { p.Status.AllocatedResources = list(t) },
		func(t *rapid.T, p *v1.Pod) {
			p.Status.Conditions = []v1.PodCondition{{
				Type:   v1.PodResizePending,
				Reason: rapid.SampledFrom([]string{v1.PodReasonInfeasible, v1.PodReasonDeferred}).Draw(t, "reason"),
			}}
		},
		func(*rapid.T, *v1.Pod) {
			p.Spec.NodeName, p.Status.Phase, p.Status.PodIP = "n", v1.PodRunning, "10.0.0.1"
		},
	}
	for at := range 2 {
		changes = append(changes, inputs(p.Spec.Containers, p.Status.ContainerStatuses, at)...)
		changes = append(changes, inputs(p.Spec.InitContainers, p.Status.InitContainerStatuses, at)...)
	}
	rapid.SampledFrom(changes).Draw(t, "change")(t, p)
}

// Whatever differs between two versions, Same says what computing both would.
func TestSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &v1.Pod{
			Spec: v1.PodSpec{
				Containers:     []v1.Container{{Name: "c0"}, {Name: "c1"}},
				InitContainers: []v1.Container{{Name: "i0"}, {Name: "i1"}},
			},
			Status: v1.PodStatus{
				ContainerStatuses:     []v1.ContainerStatus{{Name: "c0"}, {Name: "c1"}},
				InitContainerStatuses: []v1.ContainerStatus{{Name: "i0"}, {Name: "i1"}},
			},
		}
		for range rapid.IntRange(0, 6).Draw(t, "before") {
			edit(t, a)
		}
		b := a.DeepCopy()
		for range rapid.IntRange(0, 2).Draw(t, "between") {
			edit(t, b)
		}
		if same, want := requests.Same(a, b), equality.Semantic.DeepEqual(requests.Of(a), requests.Of(b)); same != want {
			t.Fatalf("Same is %v for %v and %v", same, requests.Of(a), requests.Of(b))
		}
	})
}

// Each input counts by itself.
func TestEachInputCounts(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	one := func() v1.ResourceList { return v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")} }
	two := func() v1.ResourceList { return v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")} }
	for name, tt := range map[string]struct{ given, change func(*v1.Pod) }{
		"container":          {change: func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests = two() }},
		"one container more": {change: func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) }},
		"init container":     {change: func(p *v1.Pod) { p.Spec.InitContainers[0].Resources.Requests = two() }},
		"sidecar":            {change: func(p *v1.Pod) { p.Spec.InitContainers[0].RestartPolicy = &always }},
		"pod":                {change: func(p *v1.Pod) { p.Spec.Resources = &v1.ResourceRequirements{Requests: two()} }},
		"overhead":           {change: func(p *v1.Pod) { p.Spec.Overhead = one() }},
		"allocated":          {change: func(p *v1.Pod) { p.Status.ContainerStatuses[0].AllocatedResources = two() }},
		"actuated":           {change: func(p *v1.Pod) { p.Status.ContainerStatuses[0].Resources = &v1.ResourceRequirements{Requests: two()} }},
		"init, allocated":    {change: func(p *v1.Pod) { p.Status.InitContainerStatuses[0].AllocatedResources = two() }},
		"whose status it is": {
			given:  func(p *v1.Pod) { p.Status.ContainerStatuses[0].AllocatedResources = two() },
			change: func(p *v1.Pod) { p.Status.ContainerStatuses[0].Name = "another" },
		},
		"pod, actuated": {
			given:  func(p *v1.Pod) { p.Spec.Resources = &v1.ResourceRequirements{Requests: one()} },
			change: func(p *v1.Pod) { p.Status.Resources = &v1.ResourceRequirements{Requests: two()} },
		},
		"pod, allocated": {
			given:  func(p *v1.Pod) { p.Status.Resources = &v1.ResourceRequirements{Requests: one()} },
			change: func(p *v1.Pod) { p.Status.AllocatedResources = two() },
		},
		"infeasible": {
			given: func(p *v1.Pod) {
				p.Spec.Containers[0].Resources.Requests = two()
				p.Status.ContainerStatuses[0].AllocatedResources = one()
			},
			change: func(p *v1.Pod) {
				p.Status.Conditions = []v1.PodCondition{{Type: v1.PodResizePending, Reason: v1.PodReasonInfeasible}}
			},
		},
		"an empty list is not none": {
			given: func(p *v1.Pod) {
				p.Status.Resources = &v1.ResourceRequirements{Requests: one()}
				p.Status.ContainerStatuses[0].AllocatedResources = two()
			},
			change: func(p *v1.Pod) { p.Status.AllocatedResources = v1.ResourceList{} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &v1.Pod{
				Spec: v1.PodSpec{
					Containers:     []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: one()}}},
					InitContainers: []v1.Container{{Name: "i", Resources: v1.ResourceRequirements{Requests: one()}}},
				},
				Status: v1.PodStatus{
					ContainerStatuses:     []v1.ContainerStatus{{Name: "c"}},
					InitContainerStatuses: []v1.ContainerStatus{{Name: "i"}},
				},
			}
			if tt.given != nil {
				tt.given(a)
			}
			b := a.DeepCopy()
			tt.change(b)
			if equality.Semantic.DeepEqual(requests.Of(a), requests.Of(b)) {
				t.Fatalf("the example does not count: %v", requests.Of(a))
			}
			if requests.Same(a, b) {
				t.Errorf("the same, with %v and %v", requests.Of(a), requests.Of(b))
			}
		})
	}
}

// The usual update costs no memory.
func TestSameDoesNotAllocate(t *testing.T) {
	cpu := v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m"), v1.ResourceMemory: resource.MustParse("128Mi")}
	a := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: cpu}}}}}
	b := a.DeepCopy()
	b.Spec.NodeName, b.Status.Phase = "n", v1.PodRunning
	if n := testing.AllocsPerRun(100, func() {
		if !requests.Same(a, b) {
			t.Fatal("not the same")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
