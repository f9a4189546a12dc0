package predicates_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCache(t testing.TB, opts ...predicates.Option) *predicates.Cache {
	t.Helper()
	c, err := predicates.New(slog.New(slog.DiscardHandler), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func node(name string, edit ...func(*v1.Node)) *v1.Node {
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}},
		Status: v1.NodeStatus{Allocatable: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse("2"), v1.ResourceMemory: resource.MustParse("4Gi"), v1.ResourcePods: resource.MustParse("10"),
		}},
	}
	for _, e := range edit {
		e(n)
	}
	return n
}

func label(key, value string) func(*v1.Node) { return func(n *v1.Node) { n.Labels[key] = value } }

func taint(key string, effect v1.TaintEffect) func(*v1.Node) {
	return func(n *v1.Node) { n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: key, Effect: effect}) }
}

func pod(uid string, edit ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid), Labels: map[string]string{}},
		Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("500m")},
		}}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func on(node string) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.NodeName = node } }
func cpu(q string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse(q) }
}
func labelled(kv ...string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		for i := 0; i < len(kv); i += 2 {
			p.Labels[kv[i]] = kv[i+1]
		}
	}
}

func port(n int32) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: n, ContainerPort: n, Protocol: v1.ProtocolTCP}}
	}
}

func tolerate(key string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, v1.Toleration{Key: key, Operator: v1.TolerationOpExists})
	}
}

func affinity(p *v1.Pod) *v1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &v1.Affinity{}
	}
	return p.Spec.Affinity
}

func term(topology, key, value string) v1.PodAffinityTerm {
	return v1.PodAffinityTerm{
		TopologyKey:   topology,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
	}
}

// apart keeps the pod off topologies with pods of these labels.
func apart(topology, key, value string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		affinity(p).PodAntiAffinity = &v1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{term(topology, key, value)},
		}
	}
}

// together keeps it on them.
func together(topology, key, value string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		affinity(p).PodAffinity = &v1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{term(topology, key, value)},
		}
	}
}

func spread(topology, key, value string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: v1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}},
		}}
	}
}

func byName(names ...string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		affinity(p).NodeAffinity = &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
			NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchFields: []v1.NodeSelectorRequirement{
				{Key: metav1.ObjectNameField, Operator: v1.NodeSelectorOpIn, Values: names},
			}}},
		}}
	}
}

// TestPlugins asks each plugin a question it refuses and one it does not.
func TestPlugins(t *testing.T) {
	const zone = v1.LabelTopologyZone
	for _, tt := range []struct {
		name  string
		nodes []*v1.Node
		pods  []*v1.Pod
		pod   *v1.Pod
		// fit maps nodes to the refusal, empty for none; reserve does the same
		// for reservations, where it differs.
		fit, reserve map[string]string
	}{
		{
			name: "resources", nodes: []*v1.Node{node("full"), node("free")},
			pods:    []*v1.Pod{pod("a", on("full"), cpu("1800m"))},
			pod:     pod("p"),
			fit:     map[string]string{"full": "Insufficient cpu", "free": ""},
			reserve: map[string]string{"full": ""},
		},
		{
			name: "init containers and overhead count", nodes: []*v1.Node{node("n")},
			pod: pod("p", func(p *v1.Pod) {
				p.Spec.InitContainers = []v1.Container{{Name: "i", Resources: v1.ResourceRequirements{
					Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1900m")},
				}}}
				p.Spec.Overhead = v1.ResourceList{v1.ResourceCPU: resource.MustParse("200m")}
			}),
			fit: map[string]string{"n": "Insufficient cpu"},
		},
		{
			name:  "extended resources",
			nodes: []*v1.Node{node("plain"), node("gpu", func(n *v1.Node) { n.Status.Allocatable["x.com/gpu"] = resource.MustParse("1") })},
			pod: pod("p", func(p *v1.Pod) {
				p.Spec.Containers[0].Resources.Requests["x.com/gpu"] = resource.MustParse("1")
			}),
			fit: map[string]string{"plain": "Insufficient x.com/gpu", "gpu": ""},
		},
		{
			name: "number of pods", nodes: []*v1.Node{node("n", func(n *v1.Node) { n.Status.Allocatable[v1.ResourcePods] = resource.MustParse("1") })},
			pods: []*v1.Pod{pod("a", on("n"), cpu("1m"))}, pod: pod("p", cpu("1m")),
			fit: map[string]string{"n": "Too many pods"},
		},
		{
			name: "taints", nodes: []*v1.Node{node("hard", taint("k", v1.TaintEffectNoSchedule)), node("soft", taint("k", v1.TaintEffectPreferNoSchedule)), node("evict", taint("k", v1.TaintEffectNoExecute))},
			pod: pod("p"),
			fit: map[string]string{"hard": "untolerated taint", "soft": "", "evict": "untolerated taint"},
		},
		{
			name: "tolerated taints", nodes: []*v1.Node{node("hard", taint("k", v1.TaintEffectNoSchedule))},
			pod: pod("p", tolerate("k")), fit: map[string]string{"hard": ""},
		},
		{
			name: "cordon", nodes: []*v1.Node{node("n", func(n *v1.Node) { n.Spec.Unschedulable = true })},
			pod: pod("p"), fit: map[string]string{"n": "unschedulable"},
		},
		{
			name: "cordon tolerated", nodes: []*v1.Node{node("n", func(n *v1.Node) { n.Spec.Unschedulable = true })},
			pod: pod("p", tolerate(v1.TaintNodeUnschedulable)), fit: map[string]string{"n": ""},
		},
		{
			name: "resource claims", nodes: []*v1.Node{node("n")},
			pod: pod("p", func(p *v1.Pod) { p.Spec.ResourceClaims = []v1.PodResourceClaim{{Name: "gpu"}} }),
			fit: map[string]string{"n": "resourceClaims"},
		},
		{
			name: "node selector", nodes: []*v1.Node{node("ssd", label("disk", "ssd")), node("hdd", label("disk", "hdd"))},
			pod: pod("p", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			fit: map[string]string{"ssd": "", "hdd": "didn't match Pod's node affinity/selector"},
		},
		{
			name: "node affinity by name", nodes: []*v1.Node{node("one"), node("two")},
			pod: pod("p", byName("two")),
			fit: map[string]string{"one": "didn't match Pod's node affinity/selector", "two": ""},
		},
		{
			name: "node name", nodes: []*v1.Node{node("one"), node("two")},
			pod: pod("p", on("two")),
			fit: map[string]string{"one": "didn't match the requested node name"},
		},
		{
			name: "ports", nodes: []*v1.Node{node("used"), node("free")},
			pods: []*v1.Pod{pod("a", on("used"), port(80))}, pod: pod("p", port(80)),
			fit:     map[string]string{"used": "free ports", "free": ""},
			reserve: map[string]string{"used": ""},
		},
		{
			name: "anti-affinity to hosts", nodes: []*v1.Node{node("taken"), node("free")},
			pods: []*v1.Pod{pod("a", on("taken"), labelled("app", "db"))},
			pod:  pod("p", apart(v1.LabelHostname, "app", "db")),
			fit:  map[string]string{"taken": "didn't match pod anti-affinity rules", "free": ""},
		},
		{
			name:  "anti-affinity to zones",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("a2", label(zone, "a")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("a", on("a1"), labelled("app", "db"))},
			pod:   pod("p", apart(zone, "app", "db")),
			fit:   map[string]string{"a1": "anti-affinity rules", "a2": "anti-affinity rules", "b1": ""},
		},
		{
			name:  "existing pods' anti-affinity to hosts",
			nodes: []*v1.Node{node("taken"), node("free")},
			pods:  []*v1.Pod{pod("a", on("taken"), apart(v1.LabelHostname, "app", "web"))},
			pod:   pod("p", labelled("app", "web")),
			fit:   map[string]string{"taken": "existing pods anti-affinity", "free": ""},
		},
		{
			name:  "existing pods' anti-affinity to zones",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("a2", label(zone, "a")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("a", on("a1"), apart(zone, "app", "web"))},
			pod:   pod("p", labelled("app", "web")),
			fit:   map[string]string{"a1": "existing pods anti-affinity", "a2": "existing pods anti-affinity", "b1": ""},
		},
		{
			name:  "anti-affinity that means others",
			nodes: []*v1.Node{node("n")},
			pods:  []*v1.Pod{pod("a", on("n"), apart(v1.LabelHostname, "app", "web"))},
			pod:   pod("p", labelled("app", "db")),
			fit:   map[string]string{"n": ""},
		},
		{
			name:  "affinity to hosts",
			nodes: []*v1.Node{node("near"), node("far")},
			pods:  []*v1.Pod{pod("a", on("near"), labelled("app", "cache"))},
			pod:   pod("p", together(v1.LabelHostname, "app", "cache")),
			fit:   map[string]string{"near": "", "far": "didn't match pod affinity rules"},
		},
		{
			name:  "affinity to zones",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("a2", label(zone, "a")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("a", on("a1"), labelled("app", "cache"))},
			pod:   pod("p", together(zone, "app", "cache")),
			fit:   map[string]string{"a2": "", "b1": "didn't match pod affinity rules"},
		},
		{
			name:  "the first of a group with affinity to itself",
			nodes: []*v1.Node{node("n", label(zone, "a"))},
			pod:   pod("p", labelled("app", "web"), together(zone, "app", "web")),
			fit:   map[string]string{"n": ""},
		},
		{
			name:  "topology spread",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("x", on("a1"), labelled("app", "web"), cpu("1m"))},
			pod:   pod("p", labelled("app", "web"), spread(zone, "app", "web")),
			fit:   map[string]string{"a1": "topology spread constraints", "b1": ""},
		},
		{
			name:  "topology spread without the label",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("bare")},
			pod:   pod("p", labelled("app", "web"), spread(zone, "app", "web")),
			fit:   map[string]string{"a1": "", "bare": "missing required label"},
		},
		{
			name:  "topology spread over at least so many domains",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("x", on("a1"), labelled("app", "web")), pod("y", on("b1"), labelled("app", "web"))},
			pod: pod("p", labelled("app", "web"), spread(zone, "app", "web"), func(p *v1.Pod) {
				p.Spec.TopologySpreadConstraints[0].MinDomains = new(int32(3))
			}),
			fit: map[string]string{"a1": "topology spread constraints", "b1": "topology spread constraints"},
		},
		{
			name:  "topology spread counts nodes that are tainted",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("b1", label(zone, "b"), taint("k", v1.TaintEffectNoSchedule))},
			pods:  []*v1.Pod{pod("x", on("a1"), labelled("app", "web"))},
			pod:   pod("p", labelled("app", "web"), spread(zone, "app", "web")),
			fit:   map[string]string{"a1": "topology spread constraints", "b1": "untolerated taint"},
		},
		{
			name:  "topology spread that honours taints",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("b1", label(zone, "b"), taint("k", v1.TaintEffectNoSchedule))},
			pods:  []*v1.Pod{pod("x", on("a1"), labelled("app", "web"))},
			pod: pod("p", labelled("app", "web"), spread(zone, "app", "web"), func(p *v1.Pod) {
				p.Spec.TopologySpreadConstraints[0].NodeTaintsPolicy = new(v1.NodeInclusionPolicyHonor)
			}),
			fit: map[string]string{"a1": "", "b1": "untolerated taint"},
		},
		{
			name:  "topology spread that ignores node affinity",
			nodes: []*v1.Node{node("a1", label(zone, "a"), label("disk", "ssd")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("x", on("a1"), labelled("app", "web"))},
			pod: pod("p", labelled("app", "web"), spread(zone, "app", "web"), func(p *v1.Pod) {
				p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
				p.Spec.TopologySpreadConstraints[0].NodeAffinityPolicy = new(v1.NodeInclusionPolicyIgnore)
			}),
			fit: map[string]string{"a1": "topology spread constraints", "b1": "didn't match Pod's node affinity"},
		},
		{
			name:  "topology spread of one revision",
			nodes: []*v1.Node{node("a1", label(zone, "a")), node("b1", label(zone, "b"))},
			pods:  []*v1.Pod{pod("x", on("a1"), labelled("app", "web"), labelled("hash", "old"))},
			pod: pod("p", labelled("app", "web"), labelled("hash", "new"), spread(zone, "app", "web"), func(p *v1.Pod) {
				p.Spec.TopologySpreadConstraints[0].MatchLabelKeys = []string{"hash"}
			}),
			fit: map[string]string{"a1": "", "b1": ""},
		},
		{
			name: "preferences refuse nothing", nodes: []*v1.Node{node("n")},
			pods: []*v1.Pod{pod("a", on("n"), labelled("app", "web"))},
			pod: pod("p", labelled("app", "web"), spread(v1.LabelHostname, "app", "web"), func(p *v1.Pod) {
				p.Spec.TopologySpreadConstraints[0].WhenUnsatisfiable = v1.ScheduleAnyway
				affinity(p).PodAntiAffinity = &v1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []v1.WeightedPodAffinityTerm{
					{Weight: 1, PodAffinityTerm: term(v1.LabelHostname, "app", "web")},
				}}
			}),
			fit: map[string]string{"n": ""},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCache(t)
			for _, n := range tt.nodes {
				c.SetNode(n)
			}
			for _, p := range tt.pods {
				c.SetPod(p)
			}
			c.SetPod(tt.pod)
			for name, want := range tt.fit {
				expect(t, "allocate on "+name, c.Fits("p", name, true), want)
			}
			for name, want := range tt.reserve {
				expect(t, "reserve "+name, c.Fits("p", name, false), want)
			}
		})
	}
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: refused: %v", what, err)
	case want != "" && err == nil:
		t.Errorf("%s: not refused, want %q", what, want)
	case want != "":
		var r *predicates.Refusal
		if !errors.As(err, &r) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, want %q", what, err, want)
		}
	}
}

// A decision counts for the next one, before the API server knows of it.
func TestAssumedPodsCount(t *testing.T) {
	const zone = v1.LabelTopologyZone
	for _, tt := range []struct {
		name string
		edit []func(*v1.Pod)
		want string
	}{
		{"resources", []func(*v1.Pod){cpu("1500m")}, "Insufficient cpu"},
		{"ports", []func(*v1.Pod){port(80)}, "free ports"},
		{"anti-affinity to hosts", []func(*v1.Pod){labelled("app", "web"), apart(v1.LabelHostname, "app", "web")}, "anti-affinity"},
		{"anti-affinity to zones", []func(*v1.Pod){labelled("app", "web"), apart(zone, "app", "web")}, "anti-affinity"},
		{"spread", []func(*v1.Pod){labelled("app", "web"), spread(zone, "app", "web")}, "topology spread"},
	} {
		// With versions of the spec a binding is seen to change nothing else.
		for _, generation := range []int64{0, 1} {
			t.Run(fmt.Sprint(tt.name, ", generation ", generation), func(t *testing.T) {
				tt.edit = append(tt.edit, func(p *v1.Pod) { p.Generation = generation })
				c := newCache(t)
				c.SetNode(node("n", label(zone, "a")))
				c.SetNode(node("other", label(zone, "b")))
				one, two := pod("one", tt.edit...), pod("two", tt.edit...)
				c.SetPod(one)
				c.SetPod(two)
				expect(t, "first", c.Fits("one", "n", true), "")
				expect(t, "second, before", c.Fits("two", "n", true), "")
				c.Assume("one", "n")
				expect(t, "second, after", c.Fits("two", "n", true), tt.want)
				expect(t, "second, elsewhere", c.Fits("two", "other", true), "")
				expect(t, "first again", c.Fits("one", "n", true), "")
				c.Forget("one")
				expect(t, "second, forgotten", c.Fits("two", "n", true), "")

				// Bound as assumed, it counts once, and no longer on sufferance.
				c.Assume("one", "n")
				bound := one.DeepCopy()
				bound.Spec.NodeName = "n"
				c.SetPod(bound)
				c.Forget("one")
				expect(t, "second, bound", c.Fits("two", "n", true), tt.want)
				expect(t, "bound, elsewhere", c.Fits("one", "other", true), "requested node name")
				done := bound.DeepCopy()
				done.Status.Phase = v1.PodSucceeded
				c.SetPod(done)
				expect(t, "second, terminated", c.Fits("two", "n", true), "")
				c.RemovePod("one")
				expect(t, "second, removed", c.Fits("two", "n", true), "")
			})
		}
	}
}

func TestBoundElsewhereThanAssumed(t *testing.T) {
	for _, generation := range []int64{0, 1} {
		for _, assumed := range []string{"", "a"} {
			t.Run(fmt.Sprintf("generation %d, assumed on %q", generation, assumed), func(t *testing.T) {
				c := newCache(t)
				c.SetNode(node("a"))
				c.SetNode(node("b"))
				p := pod("one", cpu("1500m"), func(p *v1.Pod) { p.Generation = generation })
				c.SetPod(p)
				c.SetPod(pod("two", cpu("1500m")))
				if assumed != "" {
					c.Assume("one", assumed)
				}
				bound := p.DeepCopy()
				bound.Spec.NodeName = "b"
				c.SetPod(bound)
				expect(t, "where it was assumed", c.Fits("two", "a", true), "")
				expect(t, "where it is", c.Fits("two", "b", true), "Insufficient cpu")
				c.Assume("one", "a") // too late
				expect(t, "assumed after it was bound", c.Fits("two", "a", true), "")
				c.RemovePod("one")
				expect(t, "removed", c.Fits("two", "b", true), "")
			})
		}
	}
}

// A pod of another scheduler shows its spec when it is bound, in the version that it
// had before.
func TestSpecShownWhenBound(t *testing.T) {
	c := newCache(t)
	c.SetNode(node("n"))
	c.SetPod(pod("p", labelled("app", "web")))
	bound := pod("foreign", on("n"), apart(v1.LabelHostname, "app", "web"), func(p *v1.Pod) {
		p.Generation = 1
		p.Spec.Containers[0].Resources.Requests = nil // it takes nothing, as before
	})
	before := bound.DeepCopy()
	before.Spec = v1.PodSpec{}
	c.SetPod(before)
	expect(t, "before", c.Fits("p", "n", true), "")
	c.SetPod(bound)
	expect(t, "bound", c.Fits("p", "n", true), "existing pods anti-affinity")
}

// Whatever order informers deliver in, the answer is the same.
func TestNodesComeLateAndBack(t *testing.T) {
	c := newCache(t)
	c.SetPod(pod("one", on("n"), cpu("1500m"), labelled("app", "web"), apart(v1.LabelHostname, "app", "web")))
	c.SetPod(pod("two", cpu("1500m"), labelled("app", "web")))
	if err := c.Fits("two", "n", true); !errors.Is(err, predicates.ErrUnknownNode) {
		t.Errorf("unknown node: %v", err)
	}
	c.SetNode(node("n"))
	expect(t, "node came after its pod", c.Fits("two", "n", true), "Insufficient cpu")
	c.RemoveNode("n")
	if err := c.Fits("two", "n", true); !errors.Is(err, predicates.ErrUnknownNode) {
		t.Errorf("removed node: %v", err)
	}
	big := node("n")
	big.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("8")
	c.SetNode(big)
	expect(t, "node came back bigger", c.Fits("two", "n", true), "existing pods anti-affinity")
	c.RemovePod("one")
	expect(t, "its pod went", c.Fits("two", "n", true), "")
	if err := c.Fits("nobody", "n", true); !errors.Is(err, predicates.ErrUnknownPod) {
		t.Errorf("unknown pod: %v", err)
	}
}

// What is kept from one question to the next must not outlive its truth.
func TestStateFollowsChanges(t *testing.T) {
	const zone = v1.LabelTopologyZone
	c := newCache(t)
	c.SetNode(node("a", label(zone, "a")))
	c.SetNode(node("b", label(zone, "b")))
	c.SetPod(pod("p", labelled("app", "web"), apart(zone, "app", "db")))
	ask := func(what, want string) {
		t.Helper()
		expect(t, what, c.Fits("p", "a", true), want)
	}
	ask("empty", "")
	c.SetPod(pod("db", on("a"), labelled("app", "db")))
	ask("a pod came", "anti-affinity")
	c.SetPod(pod("db", on("a"), labelled("app", "other")))
	ask("its labels changed", "")
	c.SetPod(pod("db", on("b"), labelled("app", "db")))
	ask("in the other zone", "")
	c.SetNode(node("b", label(zone, "a")))
	ask("the other node moved here", "anti-affinity")
	c.RemoveNode("b")
	ask("and went", "")
	c.SetNode(node("a", label(zone, "a"), taint("k", v1.TaintEffectNoSchedule)))
	ask("a taint", "taint")
	c.SetPod(pod("p", labelled("app", "web"), tolerate("k")))
	ask("the pod changed", "")
	c.SetPod(pod("picky", on("a"), apart(zone, "app", "web"), tolerate("k")))
	ask("somebody else's anti-affinity", "existing pods anti-affinity")
	c.SetPod(pod("p", labelled("app", "other"), tolerate("k")))
	ask("which the pod's new labels do not match", "")
	c.SetPod(pod("p", labelled("app", "web"), tolerate("k")))
	ask("the old labels", "existing pods anti-affinity")
	c.RemovePod("picky")
	ask("gone", "")
}

// An update that says nothing new about placement must not be costly or lose
// anything; one that does must not be taken for such.
func TestStatusUpdates(t *testing.T) {
	c := newCache(t)
	c.SetNode(node("n"))
	c.SetPod(pod("two", cpu("1500m")))
	one := pod("one", on("n"), cpu("1500m"))
	c.SetPod(one)
	running := one.DeepCopy()
	running.Status.Phase = v1.PodRunning
	running.Status.PodIP = "10.0.0.1"
	c.SetPod(running)
	if c.Pod("one") != running {
		t.Error("the newest version is not kept")
	}
	expect(t, "running", c.Fits("two", "n", true), "Insufficient cpu")
	// Resized in place.
	small := running.DeepCopy()
	small.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse("100m")
	c.SetPod(small)
	expect(t, "resized", c.Fits("two", "n", true), "")
	c.RemovePod("one")
	c.RemovePod("one")
	if c.Pod("one") != nil {
		t.Error("a removed pod is still known")
	}
}

func TestPreemptionFindsTheShortestRun(t *testing.T) {
	c := newCache(t)
	c.SetNode(node("n"))
	for i := range 4 {
		c.SetPod(pod(fmt.Sprint("v", i), on("n")))
	}
	c.SetPod(pod("vip", cpu("1")))
	victims := []string{"v0", "v1", "v2", "v3"}
	for _, tt := range []struct {
		start, want int
	}{{0, 1}, {1, 1}, {2, 2}} {
		got, err := c.PreemptionFits("vip", "n", victims, tt.start)
		if err != nil || got != tt.want {
			t.Errorf("start %d: index %d, %v; want %d", tt.start, got, err, tt.want)
		}
	}
	if _, err := c.PreemptionFits("vip", "n", victims[:1], 0); err == nil {
		t.Error("one victim is not enough")
	}
	if _, err := c.PreemptionFits("vip", "n", []string{"nobody", "v0", "v1"}, 0); err != nil {
		t.Errorf("an unknown victim frees nothing, but does no harm: %v", err)
	}
	expect(t, "nothing was really removed", c.Fits("vip", "n", true), "Insufficient cpu")

	// Victims take their anti-affinity and their spread along.
	c = newCache(t)
	c.SetNode(node("n", label("zone", "a")))
	c.SetNode(node("m", label("zone", "b")))
	c.SetPod(pod("v0", on("n"), cpu("1m"), apart("zone", "app", "vip")))
	c.SetPod(pod("v1", on("n"), cpu("1m"), labelled("app", "vip")))
	c.SetPod(pod("vip", labelled("app", "vip"), spread("zone", "app", "vip"), apart("zone", "app", "vip")))
	got, err := c.PreemptionFits("vip", "n", []string{"v0", "v1"}, 0)
	if err != nil || got != 1 {
		t.Errorf("index %d, %v; want 1", got, err)
	}
	c.SetNode(node("n", label("zone", "a"), taint("k", v1.TaintEffectNoSchedule)))
	if _, err := c.PreemptionFits("vip", "n", []string{"v0", "v1"}, 0); err == nil {
		t.Error("preemption does not remove taints")
	}
}

func TestExplain(t *testing.T) {
	c := newCache(t)
	for i := range 3 {
		c.SetNode(node(fmt.Sprint("n", i)))
	}
	c.SetNode(node("gpu", taint("gpu", v1.TaintEffectNoSchedule)))
	c.SetPod(pod("p", cpu("8")))
	x, err := c.Explain("p")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"Insufficient cpu": 3, "node(s) had untolerated taint(s)": 1}
	if x.Nodes != 4 || x.Fits != 0 || !maps.Equal(x.Counts, want) || x.Examples["node(s) had untolerated taint(s)"] != "gpu" {
		t.Errorf("got %+v", x)
	}
	if _, err := c.Explain("nobody"); !errors.Is(err, predicates.ErrUnknownPod) {
		t.Errorf("unknown pod: %v", err)
	}
	empty, err := newCacheWith(t, pod("p")).Explain("p")
	if err != nil || empty.Nodes != 0 || len(empty.Counts) != 0 {
		t.Errorf("%+v, %v", empty, err)
	}
}

// TestPodsThatCannotBeToldApartAreExplainedOnce: and those that can, each for itself.
func TestPodsThatCannotBeToldApartAreExplainedOnce(t *testing.T) {
	c := newCache(t)
	for i := range 3 {
		c.SetNode(node(fmt.Sprint("n", i), label("zone", fmt.Sprint(i))))
	}
	c.SetPod(pod("vip", on("n1"), labelled("app", "vip"), apart("zone", "app", "web")))
	pods := map[string]*v1.Pod{
		"big": pod("big", cpu("8")), "bigger": pod("bigger", cpu("9")), "small": pod("small", cpu("1m")),
		"web": pod("web", cpu("1m"), labelled("app", "web")), "refused": pod("refused", cpu("1m")),
	}
	for _, p := range pods {
		c.SetPod(p)
	}
	c.Avoid("refused", []string{"n2"})
	x := c.Explaining()
	for uid := range pods {
		got, err := x.Explain(uid)
		want, _ := c.Explain(uid)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", uid, got, err, want)
		}
	}
	c.SetPod(pod("twin", cpu("8")))
	c.SetNode(node("n3"))
	if twin, err := x.Explain("twin"); err != nil || twin.Nodes != 3 {
		t.Errorf("nodes were looked at again: %+v, %v", twin, err)
	}
	if _, err := x.Explain("nobody"); !errors.Is(err, predicates.ErrUnknownPod) {
		t.Errorf("unknown pod: %v", err)
	}
}

// TestChangesAreCounted: who keeps answers learns when they may be others, and of nothing else.
func TestChangesAreCounted(t *testing.T) {
	c := newCache(t)
	changed := func(what string, want bool, do func()) {
		t.Helper()
		before := c.Changes()
		do()
		if got := c.Changes() != before; got != want {
			t.Errorf("%s: changed %v", what, got)
		}
	}
	changed("a node comes", true, func() { c.SetNode(node("n")) })
	changed("a node is alive", false, func() { c.SetNode(node("n")) })
	changed("a node is tainted", true, func() { c.SetNode(node("n", taint("gpu", v1.TaintEffectNoSchedule))) })
	changed("a node is cordoned", true, func() {
		n := node("n", taint("gpu", v1.TaintEffectNoSchedule))
		n.Spec.Unschedulable = true
		c.SetNode(n)
	})
	changed("a pod comes", false, func() { c.SetPod(pod("p")) })
	changed("a pod asks for more", true, func() { c.SetPod(pod("p", cpu("2"))) })
	changed("a pod is placed", true, func() { c.Assume("p", "n") })
	changed("a pod is given up", true, func() { c.Forget("p") })
	changed("a node refuses a pod", true, func() { c.Avoid("p", []string{"n"}) })
	changed("a pod that is bound comes", true, func() { c.SetPod(pod("q", on("n"))) })
	changed("a pod that is bound goes", true, func() { c.RemovePod("q") })
	changed("a pod that has no node goes", false, func() { c.RemovePod("p") })
	changed("a node goes", true, func() { c.RemoveNode("n") })
}

// TestAvoidedNodes: what has refused a pod does not fit it, and says so, until that
// is taken back; other pods and other nodes are as before.
func TestAvoidedNodes(t *testing.T) {
	c := newCache(t)
	c.SetNode(node("n1"))
	c.SetNode(node("n2"))
	c.Avoid("p", []string{"n1"}) // the pod may be heard of later
	c.SetPod(pod("p"))
	c.SetPod(pod("q"))
	for _, allocate := range []bool{true, false} {
		var refusal *predicates.Refusal
		if err := c.Fits("p", "n1", allocate); !errors.As(err, &refusal) || !refusal.Final {
			t.Errorf("the node that has refused the pod: %v", err)
		}
		if err := errors.Join(c.Fits("p", "n2", allocate), c.Fits("q", "n1", allocate)); err != nil {
			t.Errorf("what has refused nothing: %v", err)
		}
	}
	c.SetNode(node("n2", taint("gpu", v1.TaintEffectNoSchedule)))
	x, err := c.Explain("p")
	want := map[string]int{"node(s) for which the binding of the pod was refused": 1, "node(s) had untolerated taint(s)": 1}
	if err != nil || !maps.Equal(x.Counts, want) {
		t.Errorf("got %v, %v, want %v", x.Counts, err, want)
	}
	c.Avoid("p", nil)
	if err := c.Fits("p", "n1", true); err != nil {
		t.Errorf("no longer avoided: %v", err)
	}
}

func newCacheWith(t *testing.T, p *v1.Pod) *predicates.Cache {
	c := newCache(t)
	c.SetPod(p)
	return c
}

// The core asks from several goroutines while informers change the cluster.
func TestConcurrentUse(t *testing.T) {
	c := newCache(t)
	for i := range 8 {
		c.SetNode(node(fmt.Sprint("n", i), label("zone", fmt.Sprint(i%2))))
	}
	kinds := [][]func(*v1.Pod){
		{}, {labelled("app", "web"), apart(v1.LabelHostname, "app", "web")},
		{labelled("app", "web"), spread("zone", "app", "web")}, {labelled("app", "db"), apart("zone", "app", "db")}, {port(80)},
	}
	done := make(chan struct{})
	for g := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 200 {
				uid := fmt.Sprintf("%d-%d", g, i%20)
				n := fmt.Sprint("n", i%8)
				c.SetPod(pod(uid, append(kinds[i%len(kinds)], cpu("10m"))...))
				if c.Fits(uid, n, true) == nil {
					c.Assume(uid, n)
				}
				_, _ = c.PreemptionFits(uid, n, []string{"0-1", "1-2"}, 0)
				_, _ = c.Explain(uid)
				switch i % 7 {
				case 0:
					c.Forget(uid)
				case 1:
					c.RemovePod(uid)
				case 2:
					c.SetNode(node(n, label("zone", fmt.Sprint(i%2))))
				case 3:
					c.RemoveNode("n7")
				}
			}
		}()
	}
	timeout := time.After(time.Minute)
	for range 4 {
		select {
		case <-done:
		case <-timeout:
			t.Fatal("stuck")
		}
	}
}
