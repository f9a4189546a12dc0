package coordinator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// churn is a cluster in which nothing lasts: applications come, run on nodes that are
// being replaced, and end. Queues, users, labels and the names of half of the nodes are
// new each time, so that whoever remembers one of them for good grows.
type churn struct {
	api *apiServer
	// appSize is how many pods an application has.
	appSize int
	// pods and replaced count what has come and gone.
	pods, replaced atomic.Int64

	mu     sync.Mutex // is never held while api is called
	queue  []change
	wake   chan struct{}
	owners map[types.NamespacedName]chan struct{} // wakes who waits for a pod
	nodes  []string                               // the oldest first
	names  int                                    // that nodes have been given
}

type change struct {
	pod  *v1.Pod
	gone bool
}

const (
	soakNodes  = 50
	soakInTurn = 40 // applications at a time
	// soakQueues has queues that come with an application, and one in which none is taken.
	soakQueues = `
partitions:
  - name: default
    placementrules:
      - name: provided
        create: true
    queues:
      - name: root
        submitacl: '*'
        queues:
          - name: leaf
          - name: dynamic
            parent: true
`
)

func newChurn(appSize int) *churn {
	c := &churn{
		api: newAPIServer(), appSize: appSize, wake: make(chan struct{}, 1),
		owners: make(map[types.NamespacedName]chan struct{}),
	}
	c.api.changed = c.saw
	c.api.put("configmaps", &v1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: soakNamespace, Name: "yunikorn-configs"},
		Data:       map[string]string{"queues.yaml": soakQueues, "event.ringBufferCapacity": "1000"}, // rather than 100,000
	})
	for range soakNodes {
		c.addNode(c.freshName())
	}
	return c
}

func (c *churn) freshName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names++
	return fmt.Sprint("node-", c.names)
}

// addNode makes a node with a pod of another scheduler.
func (c *churn) addNode(name string) {
	size := v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("16"), v1.ResourceMemory: resource.MustParse("64Gi"), v1.ResourcePods: resource.MustParse("110"),
	}
	c.api.put("nodes", &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}},
		Status:     v1.NodeStatus{Capacity: size, Allocatable: size},
	})
	daemon := soakPod("kube-system", "daemon-"+name, "100m")
	daemon.Spec.NodeName, daemon.Status.Phase = name, v1.PodRunning
	c.mu.Lock()
	c.nodes = append(c.nodes, name)
	c.mu.Unlock()
	c.api.put("pods", daemon)
}

// replace takes the oldest node away, then its pods, and adds one: of the same name
// each second time.
func (c *churn) replace() {
	c.mu.Lock()
	name := c.nodes[0]
	c.nodes = c.nodes[1:]
	c.mu.Unlock()
	c.api.remove("nodes", "", name, "")
	for _, pod := range list[*v1.Pod](c.api, "pods") {
		if pod.Spec.NodeName == name {
			c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
		}
	}
	if c.replaced.Add(1)%2 == 0 {
		name = c.freshName()
	}
	c.addNode(name)
}

// saw is told of a change of a pod.
func (c *churn) saw(pod *v1.Pod, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, change{pod, gone})
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// kubelet has pods run once they are bound, and tells whoever waits for them.
func (c *churn) kubelet(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		queue := c.queue
		c.queue = nil
		c.mu.Unlock()
		for _, at := range queue {
			c.run(at)
		}
	}
}

func (c *churn) run(at change) {
	pod := at.pod
	c.mu.Lock()
	owner := c.owners[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}]
	alive := slices.Contains(c.nodes, pod.Spec.NodeName)
	c.mu.Unlock()
	switch {
	case at.gone:
	case pod.Spec.NodeName != "" && !alive:
		c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
	case pod.Spec.NodeName != "" && pod.Status.Phase == v1.PodPending:
		edit(c.api, "pods", pod.Namespace, pod.Name, func(pod *v1.Pod) { pod.Status.Phase = v1.PodRunning })
	}
	if owner != nil {
		select {
		case owner <- struct{}{}:
		default:
		}
	}
}

// until lets applications come and go until so many pods have, and replaces nodes on the
// way; every is how many pods come for each node.
func (c *churn) until(ctx context.Context, pods int64, every float64) {
	var running sync.WaitGroup
	defer running.Wait()
	for range soakInTurn {
		running.Go(func() {
			for {
				last := c.pods.Add(int64(c.appSize))
				if last > pods || ctx.Err() != nil {
					c.pods.Add(-int64(c.appSize))
					return
				}
				c.app(ctx, last)
				for float64(c.replaced.Load()+1)*every <= float64(last) && ctx.Err() == nil {
					c.replace()
				}
			}
		})
	}
}

// app is the life of one application; n is a number of its own.
func (c *churn) app(ctx context.Context, n int64) {
	wake := make(chan struct{}, 1)
	pods := c.podsOf(n)
	c.mu.Lock()
	for _, pod := range pods {
		c.owners[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] = wake
	}
	c.mu.Unlock()
	for _, pod := range pods {
		c.api.put("pods", pod)
	}
	for pods[0].Labels["kind"] != brief && slices.ContainsFunc(pods, c.waits) {
		select {
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
	for i, pod := range pods {
		if i%2 == 0 {
			edit(c.api, "pods", pod.Namespace, pod.Name, func(pod *v1.Pod) { pod.Status.Phase = v1.PodSucceeded })
		}
		c.api.remove("pods", pod.Namespace, pod.Name, "")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pod := range pods {
		delete(c.owners, types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
	}
}

// waits reports whether a pod is still to be placed, or to be told that it will not be.
func (c *churn) waits(pod *v1.Pod) bool {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	now, ok := c.api.stored["pods"].objects[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}].(*v1.Pod)
	if !ok || now.Status.Phase != v1.PodPending {
		return false
	}
	told := slices.ContainsFunc(now.Status.Conditions, func(c v1.PodCondition) bool { return c.Reason == v1.PodReasonUnschedulable })
	return !told || now.Labels["kind"] != hopeless
}

// The kinds of applications.
const (
	plain    = "plain"
	gang     = "gang"
	spread   = "spread"   // its pods keep apart
	rejected = "rejected" // no queue takes it
	hopeless = "hopeless" // no node has room for one of its pods
	brief    = "brief"    // nobody waits for it
)

// podsOf returns the pods of an application.
func (c *churn) podsOf(n int64) []*v1.Pod {
	kinds := []string{plain, brief, gang, plain, spread, plain, plain, rejected, plain, hopeless}
	kind := kinds[n/int64(c.appSize)%int64(len(kinds))]
	app := fmt.Sprint("app-", n)
	if kind == rejected {
		// The core remembers for a day each name that it has rejected: see docs/costs.md.
		app = fmt.Sprint("rejected-", n/int64(c.appSize)%(5*soakInTurn))
	}
	// Each user has one application of each kind. The core can panic over the last one of a user
	// that goes while it waits: see docs/decisions.md.
	user := fmt.Sprint("user-", n/int64(c.appSize)/int64(len(kinds)))
	pods := make([]*v1.Pod, c.appSize)
	for i := range pods {
		pod := soakPod("soak", fmt.Sprint(app, "-", i), "100m")
		pod.Spec.SchedulerName = workload.DefaultSchedulerName
		pod.Labels = map[string]string{
			workload.KeyAppID: app, workload.KeyQueue: "root.dynamic." + app, workload.DefaultUserLabel: user, "kind": kind,
		}
		switch kind {
		case gang:
			pod.Annotations = gangOf(c.appSize - 1)
			if i > 0 { // the first declares the gang
				pod.Annotations = map[string]string{workload.AnnotationTaskGroupName: "members"}
			}
		case spread:
			pod.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{
				MaxSkew: int32(c.appSize), TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.DoNotSchedule,
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{workload.KeyAppID: app}},
			}}
		case rejected:
			pod.Labels[workload.KeyQueue] = "root.leaf." + app
		case hopeless:
			if i == 0 {
				pod.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse("64")
			} else {
				pod.Labels["kind"] = plain
			}
		}
		pods[i] = pod
	}
	return pods
}

func gangOf(members int) map[string]string {
	if members == 0 {
		return nil
	}
	groups, err := json.Marshal([]v1alpha1.TaskGroup{{
		Name: "members", MinMember: int32(members),
		MinResource: map[string]resource.Quantity{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")},
	}})
	if err != nil {
		panic(err)
	}
	return map[string]string{workload.AnnotationTaskGroups: string(groups)}
}

func soakPod(namespace, name, cpu string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1.PodSpec{
			SchedulerName: v1.DefaultSchedulerName,
			Containers: []v1.Container{{
				Name: "main", Image: "image",
				Resources: v1.ResourceRequirements{Requests: v1.ResourceList{
					v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("64Mi"),
				}},
			}},
		},
		Status: v1.PodStatus{Phase: v1.PodPending},
	}
}

// sweep removes what applications that have ended left behind, as a garbage collector
// does with placeholders, until nothing of them comes any more.
func (c *churn) sweep(ctx context.Context, quiet func() bool) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !quiet() {
		for _, pod := range list[*v1.Pod](c.api, "pods") {
			if pod.Namespace == "soak" {
				c.api.remove("pods", pod.Namespace, pod.Name, pod.UID)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// waiting tells of the pods that wait.
func (c *churn) waiting() string {
	var all []string
	for _, pod := range list[*v1.Pod](c.api, "pods") {
		if pod.Status.Phase == v1.PodPending {
			all = append(all, fmt.Sprintf("%s (%s) of %s, %s, on %q, %v", pod.Name, pod.UID, pod.Labels[workload.KeyAppID],
				pod.Labels["kind"], pod.Spec.NodeName, pod.Status.Conditions))
		}
	}
	return strings.Join(all, "; ")
}
