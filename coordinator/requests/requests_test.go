package requests_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
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

// What each kind of pod takes, in the terms of users.
func TestOf(t *testing.T) {
	cpus := func(n string) v1.ResourceList { return v1.ResourceList{v1.ResourceCPU: resource.MustParse(n)} }
	asks := func(n string) v1.ResourceRequirements { return v1.ResourceRequirements{Requests: cpus(n)} }
	always := v1.ContainerRestartPolicyAlways
	init := func(n string) v1.Container { return v1.Container{Name: "i" + n, Resources: asks(n)} }
	sidecar := func(n string) v1.Container {
		c := init(n)
		c.Name, c.RestartPolicy = "s"+n, &always
		return c
	}
	// resized is a pod that asks for spec by now, was given allocated and uses actual.
	resized := func(spec, allocated, actual, reason string) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: asks(spec)}}}}
		used := asks(actual)
		p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", AllocatedResources: cpus(allocated), Resources: &used}}
		if reason != "" {
			p.Status.Conditions = []v1.PodCondition{{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: reason}}
		}
		return p
	}
	pod := func(inits []v1.Container, containers ...string) *v1.Pod {
		p := &v1.Pod{Spec: v1.PodSpec{InitContainers: inits}}
		for _, n := range containers {
			p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "c" + n, Resources: asks(n)})
		}
		return p
	}
	with := func(p *v1.Pod, edit func(*v1.Pod)) *v1.Pod { edit(p); return p }
	for name, tt := range map[string]struct {
		pod  *v1.Pod
		want string
	}{
		"containers side by side":                {pod(nil, "1", "2"), "3"},
		"init containers one after the other":    {pod([]v1.Container{init("2"), init("5")}, "1", "2"), "5"},
		"init containers that need less":         {pod([]v1.Container{init("2")}, "1", "2"), "3"},
		"a sidecar beside the containers":        {pod([]v1.Container{sidecar("1")}, "2"), "3"},
		"a sidecar beside later init containers": {pod([]v1.Container{sidecar("1"), init("5")}, "2"), "6"},
		"a sidecar after an init container":      {pod([]v1.Container{init("5"), sidecar("1")}, "2"), "5"},
		"overhead":                               {with(pod(nil, "1"), func(p *v1.Pod) { p.Spec.Overhead = cpus("250m") }), "1250m"},
		"requests of the pod instead":            {with(pod(nil, "1", "2"), func(p *v1.Pod) { r := asks("4"); p.Spec.Resources = &r }), "4"},
		"requests of the pod, and overhead":      {with(pod(nil, "1"), func(p *v1.Pod) { r := asks("4"); p.Spec.Resources, p.Spec.Overhead = &r, cpus("1") }), "5"},
		"requests of the pod for something else": {with(pod(nil, "1"), func(p *v1.Pod) { p.Spec.Resources = &v1.ResourceRequirements{} }), "1"},
		"no requests":                            {&v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}, "0"},
		"asks for more, not looked at yet":       {resized("3", "1", "1", ""), "3"},
		"asks for more, has to wait for room":    {resized("3", "1", "1", v1.PodReasonDeferred), "3"},
		"asks for more than the node has":        {resized("30", "1", "1", v1.PodReasonInfeasible), "1"},
		"was given more, is being resized":       {resized("3", "3", "1", ""), "3"},
		"asks for less, not looked at yet":       {resized("1", "3", "3", ""), "3"},
		"was to have less, still uses more":      {resized("1", "1", "3", ""), "3"},
		"has less":                               {resized("1", "1", "1", ""), "1"},
		"cannot be resized, nothing else is told": { // as kube-scheduler has it
			with(pod(nil, "1"), func(p *v1.Pod) {
				p.Status.Conditions = []v1.PodCondition{{Type: v1.PodResizePending, Reason: v1.PodReasonInfeasible}}
			}), "0",
		},
		"uses more, asks for more than the node has": {resized("30", "1", "2", v1.PodReasonInfeasible), "2"},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := requests.Of(tt.pod)[v1.ResourceCPU], resource.MustParse(tt.want)
			if got.Cmp(want) != 0 {
				t.Errorf("got %s, want %s", got.String(), want.String())
			}
		})
	}
}

// thorough is Of, looking at the status of every pod.
func thorough(pod *v1.Pod) v1.ResourceList {
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
}

// Whatever differs between two versions, Same says what computing both would. What the
// status has no say in is found without it.
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
		for _, pod := range []*v1.Pod{a, b} {
			if got, want := requests.Of(pod), thorough(pod); !equality.Semantic.DeepEqual(got, want) {
				t.Fatalf("takes %v, not %v", got, want)
			}
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
