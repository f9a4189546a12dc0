package history

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// pageSize bounds one page of a listing.
const pageSize = 1000

// Cluster is the history of all pods and nodes since it was started.
type Cluster struct {
	kube   kubernetes.Interface
	store  *Store // nil if only the API server can be asked
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	pods     []PodEvent
	nodes    []NodeEvent
	gaps     []Gap
	live     map[string]*seen
	capacity map[string]map[v1.ResourceName]int64
	based    bool
	subs     map[int]func(PodEvent)
	nextSub  int
}

// seen is the newest state of a live pod. revision also counts changes that
// were not worth an event.
type seen struct {
	pod      *Pod
	revision uint64
}

// WatchCluster lists pods and nodes, and returns once it follows their changes.
// What the API server cannot tell of any more is read from its etcd, if store is
// not nil. It stops when ctx ends or with Close.
func WatchCluster(ctx context.Context, kube kubernetes.Interface, store *Store, log *slog.Logger) (*Cluster, error) {
	c := newCluster(kube, store)
	pods, nodes := c.podFollower(log), c.nodeFollower(log)
	// Nodes first: a pod that is assigned at once must find its node known.
	nodeRev, err := nodes.start(ctx)
	if err != nil {
		return nil, err
	}
	podRev, err := pods.start(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.based = true
	c.mu.Unlock()

	ctx, c.cancel = context.WithCancel(ctx)
	c.wg.Go(func() { nodes.run(ctx, nodeRev) })
	c.wg.Go(func() { pods.run(ctx, podRev) })
	return c, nil
}

func newCluster(kube kubernetes.Interface, store *Store) *Cluster {
	return &Cluster{
		kube:     kube,
		store:    store,
		live:     map[string]*seen{},
		capacity: map[string]map[v1.ResourceName]int64{},
		subs:     map[int]func(PodEvent){},
	}
}

// Close stops the recording; what was recorded stays readable.
func (c *Cluster) Close() {
	c.cancel()
	c.wg.Wait()
}

// Pods returns the events so far, in order of revision.
func (c *Cluster) Pods() []PodEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[:len(c.pods):len(c.pods)]
}

// Nodes returns the events of nodes so far, in order of revision.
func (c *Cluster) Nodes() []NodeEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[:len(c.nodes):len(c.nodes)]
}

// Gaps returns the ranges of revisions that could not be observed.
func (c *Cluster) Gaps() []Gap {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gaps[:len(c.gaps):len(c.gaps)]
}

// Running is the set of pods that ran at one moment of a history.
type Running struct {
	Pods []*Pod
	// Next is the index, in Cluster.Pods, of the first event after it.
	Next int
}

// Running returns the pods that are Running now and not being deleted.
func (c *Cluster) Running() Running {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Running{Next: len(c.pods)}
	for _, s := range c.live {
		if s.pod.Phase == v1.PodRunning && !s.pod.Deleting {
			out.Pods = append(out.Pods, s.pod)
		}
	}
	return out
}

// Subscribe calls fn for every later event of a pod, in order, from the
// goroutine that receives them. fn must be quick and must not call c.
func (c *Cluster) Subscribe(fn func(PodEvent)) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextSub
	c.nextSub++
	c.subs[id] = fn
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, id)
	}
}

// Settle returns when the history holds everything that was committed before
// the call, found by a consistent listing.
func (c *Cluster) Settle(ctx context.Context) error {
	pods, at, err := listPods(ctx, c.kube, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	listed, err := revision(at)
	if err != nil {
		return err
	}
	want := make(map[string]uint64, len(pods))
	for _, p := range pods {
		if want[string(p.UID)], err = revision(p.ResourceVersion); err != nil {
			return err
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		behind := c.behind(want, listed)
		if behind == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the pod history is behind by %d pods: %w", behind, ctx.Err())
		case <-tick.C:
		}
	}
}

// behind counts the pods of a listing at revision listed that the history does
// not hold as new as they were listed, and those it holds that were gone.
func (c *Cluster) behind(want map[string]uint64, listed uint64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for uid, rev := range want {
		if s := c.live[uid]; s == nil {
			// It may have come and gone since; then the newest event says so.
			if len(c.pods) == 0 || c.pods[len(c.pods)-1].Revision < rev {
				n++
			}
		} else if s.revision < rev {
			n++
		}
	}
	for uid, s := range c.live {
		if _, ok := want[uid]; !ok && s.revision <= listed {
			n++
		}
	}
	return n
}

func (c *Cluster) podFollower(log *slog.Logger) *follower[*v1.Pod] {
	return &follower[*v1.Pod]{
		what: "pods",
		list: func(ctx context.Context, o metav1.ListOptions) ([]*v1.Pod, string, error) {
			return listPods(ctx, c.kube, o)
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.kube.CoreV1().Pods(v1.NamespaceAll).Watch(ctx, o)
		},
		log:    log,
		listed: c.podsListed,
		event:  c.podEvent,
		gap:    func(after, until uint64, reason string) { c.addGap("pods", after, until, reason) },
		missed: missedBy[*v1.Pod](c.store, storedPods),
		pause:  50 * time.Millisecond,
	}
}

func (c *Cluster) nodeFollower(log *slog.Logger) *follower[*v1.Node] {
	return &follower[*v1.Node]{
		what: "nodes",
		list: func(ctx context.Context, o metav1.ListOptions) ([]*v1.Node, string, error) {
			list, err := c.kube.CoreV1().Nodes().List(ctx, o)
			if err != nil {
				return nil, "", err
			}
			out := make([]*v1.Node, len(list.Items))
			for i := range list.Items {
				out[i] = &list.Items[i]
			}
			return out, list.ResourceVersion, nil
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.kube.CoreV1().Nodes().Watch(ctx, o)
		},
		log:    log,
		listed: c.nodesListed,
		event:  c.nodeEvent,
		gap:    func(after, until uint64, reason string) { c.addGap("nodes", after, until, reason) },
		missed: missedBy[*v1.Node](c.store, storedNodes),
		pause:  50 * time.Millisecond,
	}
}

// listPods lists in pages, all of one revision. The first page is a quorum
// read, for it names no revision.
func listPods(ctx context.Context, kube kubernetes.Interface, o metav1.ListOptions) ([]*v1.Pod, string, error) {
	var out []*v1.Pod
	o.Limit = pageSize
	for {
		list, err := kube.CoreV1().Pods(v1.NamespaceAll).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		for i := range list.Items {
			out = append(out, &list.Items[i])
		}
		if o.Continue = list.Continue; o.Continue == "" {
			return out, list.ResourceVersion, nil
		}
	}
}
