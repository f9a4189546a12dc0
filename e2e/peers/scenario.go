package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

// Scenario is a load that all peers get.
type Scenario struct {
	Name  string
	About string
	// nodes are the least on which all its pods can be.
	nodes int
	// held says that its pods are created before anybody may bind them.
	held bool
	// queues are a part of the queue configuration, below root.
	queues string
	// loads are put on one after another: pods, shaped or at other rates.
	loads func(o Options, pods load.Config) []load.Config
}

// schedulerName is what all pods ask for, whoever schedules them.
var schedulerName = load.Default().Scheduler

// gangSize is how many pods a gang has, shapeCount how many pods differ in what they request,
// mixedQueues how many queues there are of each parent. Where pods have to spread, setSize is
// how many must be on different nodes, and perNode by how many pods of an application nodes may
// differ.
const (
	gangSize    = 10
	shapeCount  = 500
	mixedQueues = 5
	setSize     = 10
	perNode     = 5
)

// heldQueue is the one whose quota is raised.
const heldQueue = "held"

// Scenarios returns all that there are.
func Scenarios() []Scenario {
	burst := func(_ Options, pods load.Config) []load.Config { return []load.Config{pods} }
	shaped := func(shape func(load.Config) func(int, *v1.Pod)) func(Options, load.Config) []load.Config {
		return func(_ Options, pods load.Config) []load.Config {
			pods.Shape = shape(pods)
			return []load.Config{pods}
		}
	}
	return []Scenario{
		{Name: "burst", About: "pods that are created as fast as the API server takes them, and scheduled meanwhile", loads: burst},
		{
			Name: "drain", About: "pods that all wait; then the quota of their queue is raised, or, without queues, the scheduler is started",
			held: true, queues: queue(heldQueue, `max: {vcore: 1m, memory: "1Mi"}`),
			loads: func(_ Options, pods load.Config) []load.Config {
				pods.Queue = "root." + heldQueue
				return []load.Config{pods}
			},
		},
		{Name: "steady", About: "a few pods a second, at one rate after another", loads: steady},
		{
			Name: "gangs", About: fmt.Sprintf("the pods of a burst in gangs of %d; who knows no gangs has the pods only", gangSize),
			loads: shaped(gangs),
		},
		{
			Name: "shapes", About: fmt.Sprintf("a burst of which %d pods in a row request different amounts", shapeCount),
			loads: shaped(shapes),
		},
		{
			Name: "spread", About: "a burst of pods with node affinity, and with anti-affinity or topology spread", nodes: setSize,
			loads: shaped(func(load.Config) func(int, *v1.Pod) { return spread }),
		},
		{
			Name: "mixed", About: fmt.Sprintf("a burst of pods of three sizes in %d queues with shares, of two parents", 2*mixedQueues),
			queues: mixture(), loads: shaped(mix),
		},
	}
}

// pods are those of a burst called name.
func (o Options) pods(name string) load.Config {
	cfg := load.Default()
	cfg.Name, cfg.Pods, cfg.Apps, cfg.Timeout = name, o.Pods, o.Apps, o.Limit
	return cfg
}

func steady(o Options, pods load.Config) (all []load.Config) {
	for _, rate := range o.Rates {
		cfg := pods.Steady(rate, o.Duration)
		cfg.Name = strings.ReplaceAll(fmt.Sprintf("%s-%g", pods.Name, rate), ".", "-")
		cfg.Timeout += o.Duration
		all = append(all, cfg)
	}
	return all
}

// gangs makes gangs of pods that are created in a row.
func gangs(cfg load.Config) func(int, *v1.Pod) {
	return func(i int, pod *v1.Pod) {
		gang := i / gangSize
		members := min(gangSize, cfg.Pods-gang*gangSize)
		groups, err := json.Marshal([]any{map[string]any{
			"name": "members", "minMember": members, "minResource": map[string]string{"cpu": cfg.CPU, "memory": cfg.Memory},
		}})
		if err != nil {
			panic(err) // a literal
		}
		pod.Labels["applicationId"] = fmt.Sprintf("%s-gang-%d", cfg.Name, gang)
		pod.Annotations = map[string]string{
			"yunikorn.apache.org/task-group-name": "members",
			"yunikorn.apache.org/task-groups":     string(groups),
		}
	}
}

// shapes has pods request a little more than the one before.
func shapes(cfg load.Config) func(int, *v1.Pod) {
	cpu, memory := resource.MustParse(cfg.CPU), resource.MustParse(cfg.Memory)
	return func(i int, pod *v1.Pod) {
		request(pod, cpu.MilliValue()+int64(i%shapeCount), memory.Value()+int64(i%shapeCount)<<20)
	}
}

func request(pod *v1.Pod, milliCPU, bytes int64) {
	pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(milliCPU, resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(bytes, resource.BinarySI),
	}
}

// spread has pods ask for nodes of a type, half of them for a node without others of their
// set, half of them to be spread evenly.
func spread(i int, pod *v1.Pod) {
	pod.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
		NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{
			{Key: "type", Operator: v1.NodeSelectorOpIn, Values: []string{"kwok"}},
		}}},
	}}}
	if i%2 == 0 {
		const set = "understudy.dev/set"
		pod.Labels[set] = fmt.Sprint(i / 2 / setSize)
		pod.Spec.Affinity.PodAntiAffinity = &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{{
			TopologyKey: v1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{set: pod.Labels[set]}},
		}}}
		return
	}
	const app = "applicationId"
	pod.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{
		MaxSkew: perNode, TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{app: pod.Labels[app]}},
	}}
}

// mix has the pods of an application in one queue, and applications in one queue after
// another.
func mix(cfg load.Config) func(int, *v1.Pod) {
	return func(i int, pod *v1.Pod) {
		app := i % cfg.Apps
		pod.Labels["queue"] = fmt.Sprintf("root.%s.q%d", parents[app%len(parents)], app/len(parents)%mixedQueues)
		size := []int64{1, 4, 16}[i%3]
		request(pod, 50*size, size*64<<20)
	}
}

// parents of the queues of mix.
var parents = []string{"batch", "service"}

// mixture are the queues of mix, with shares that are in the ratio of their numbers.
func mixture() string {
	var text strings.Builder
	for _, parent := range parents {
		fmt.Fprintf(&text, "          - name: %s\n            parent: true\n            queues:\n", parent)
		for i := range mixedQueues {
			fmt.Fprintf(&text, "              - name: q%d\n                resources:\n                  guaranteed: {vcore: %d, memory: %dGi}\n", i, i+1, i+1)
		}
	}
	return text.String()
}

func queue(name, resources string) string {
	return fmt.Sprintf("          - name: %s\n            resources:\n              %s\n", name, resources)
}

// allQueues is the queue configuration of a lab: no quota but the scenario's.
func allQueues(of string) string { return lab.Queues("1M", "1Pi") + of }

// lift raises the quota of what is held.
func lift(ctx context.Context, l *lab.Lab) error {
	return l.SetQueues(ctx, allQueues(queue(heldQueue, `max: {vcore: 1M, memory: "1Pi"}`)))
}
