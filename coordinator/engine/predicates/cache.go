package predicates

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/informers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// Cache holds nodes and pods and answers whether a pod fits a node. All of its
// methods may be called from several goroutines. Objects handed in are kept
// and must not be changed afterwards.
type Cache struct {
	log *slog.Logger
	// ctx carries a logger that discards what plugins log: every refusal is
	// returned to the caller anyway.
	ctx     context.Context
	plugins *plugins

	// mu guards everything below; an answer is computed under its read side.
	mu    sync.RWMutex
	nodes map[string]*nodeEntry
	pods  map[string]*podEntry
	// avoid has the nodes that have refused a pod, by its UID.
	avoid map[string][]string
	index nodeIndex
	gens  generations
	// changes is for those who keep answers: see Changes.
	changes uint64

	signatures signatures
	local      *localVolumes // nil unless the cache was built WithVolumes
}

// generations count the changes that precomputed state may depend on.
type generations struct {
	// nodes: a node came, went, or changed its labels or taints.
	nodes uint64
	// pods: a pod was placed, moved or removed, or changed its labels.
	pods uint64
	// repel: the pods whose anti-affinity reaches beyond their own node have
	// changed, or whether any pod has anti-affinity at all.
	repel uint64
	// namespaces: the labels of a namespace have changed.
	namespaces uint64
}

// Changes counts what may have changed whether a pod fits a node, but for volumes, of which the
// cache is not told, and for pods that are new: while it stays, so do the answers.
func (c *Cache) Changes() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changes
}

type nodeEntry struct {
	info *framework.NodeInfo
}

// known reports whether the node itself has been seen, not just pods on it.
func (n *nodeEntry) known() bool { return n.info.Node() != nil }

// ErrUnknownPod and ErrUnknownNode say that the cache has not seen the object.
var (
	ErrUnknownPod  = errors.New("pod is not known")
	ErrUnknownNode = errors.New("node is not known")
)

// Option changes how a Cache is built.
type Option func(*options)

type options struct {
	factory informers.SharedInformerFactory
	client  clientset.Interface
	volumes bool
	// bindTimeout bounds how long BindVolumes waits for a provisioner.
	bindTimeout time.Duration
}

// WithNamespaces gives the cache the factory's namespaces, without which an
// affinity term with a namespaceSelector matches no pod. Start the factory
// after New.
func WithNamespaces(factory informers.SharedInformerFactory) Option {
	return func(o *options) { o.factory = factory }
}

// WithVolumes adds the volume plugins and BindVolumes; it implies
// WithNamespaces. Of the factory it uses nodes and pods, and everything about
// storage: claims, volumes, classes, attachments, CSI nodes, drivers and
// capacities. Start it after New.
func WithVolumes(factory informers.SharedInformerFactory, client clientset.Interface) Option {
	return func(o *options) { o.factory, o.client, o.volumes = factory, client, true }
}

// WithBindTimeout bounds how long BindVolumes waits for a provisioner.
func WithBindTimeout(limit time.Duration) Option {
	return func(o *options) { o.bindTimeout = limit }
}

// New builds an empty cache.
func New(log *slog.Logger, opts ...Option) (*Cache, error) {
	o := options{bindTimeout: volumeBindTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	c := &Cache{
		log:   log,
		ctx:   klog.NewContext(context.Background(), logr.Discard()),
		nodes: make(map[string]*nodeEntry),
		pods:  make(map[string]*podEntry),
		avoid: make(map[string][]string),
	}
	c.signatures.init()
	c.index.claims = make(map[string]int)
	factory := o.factory
	if factory == nil {
		// Never started: its listers are empty.
		factory = informers.NewSharedInformerFactory(nil, 0)
	} else if err := c.watchNamespaces(factory); err != nil {
		return nil, err
	}
	h := &handle{lister: sharedLister{c}, factory: factory, client: o.client}
	if o.volumes {
		var err error
		if c.local, err = newLocalVolumes(factory); err != nil {
			return nil, err
		}
		h.csi = nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())
	}
	p, err := newPlugins(c.ctx, h, o)
	if err != nil {
		return nil, fmt.Errorf("scheduler plugins: %w", err)
	}
	c.plugins = p
	return c, nil
}

func (c *Cache) watchNamespaces(factory informers.SharedInformerFactory) error {
	changed := func() {
		c.mu.Lock()
		c.gens.namespaces++
		c.changes++
		c.mu.Unlock()
	}
	_, err := factory.Core().V1().Namespaces().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		DeleteFunc: func(any) { changed() },
		UpdateFunc: func(before, after any) {
			b, ok1 := before.(*v1.Namespace)
			a, ok2 := after.(*v1.Namespace)
			if !ok1 || !ok2 || !maps.Equal(b.Labels, a.Labels) {
				changed()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	return nil
}

// SetNode adds a node or takes over what has changed about it.
func (c *Cache) SetNode(node *v1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.node(node.Name)
	before := n.info.Node()
	if before == nil || !sameRoom(before, node) {
		c.changes++
	}
	n.info.SetNode(node)
	boundNode(n.info)
	if before == nil {
		c.index.add(n.info)
	}
	if before == nil || !maps.Equal(before.Labels, node.Labels) ||
		!equality.Semantic.DeepEqual(before.Spec.Taints, node.Spec.Taints) {
		c.gens.nodes++
	}
}

// sameRoom reports whether two versions of a node take the same pods: most updates of a node
// only say that it is alive.
func sameRoom(a, b *v1.Node) bool {
	return maps.Equal(a.Labels, b.Labels) && a.Spec.Unschedulable == b.Spec.Unschedulable &&
		equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints) &&
		equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable)
}

// RemoveNode forgets a node. Pods assigned to it stay known and count again if
// the node comes back.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[name]
	if n == nil || !n.known() {
		return
	}
	c.index.remove(n.info)
	n.info.RemoveNode()
	c.gens.nodes++
	c.changes++
	if len(n.info.Pods) == 0 {
		delete(c.nodes, name)
	}
}

// SetPod adds a pod or takes over what has changed about it. A pod with a node
// name counts on that node; one without keeps the node it was assumed on, if
// any; a terminated one counts nowhere.
func (c *Cache) SetPod(pod *v1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	uid := string(pod.UID)
	e := c.pods[uid]
	same := e != nil && e.samePlacement(pod)
	if same && c.replace(e, pod) && e.node != "" {
		c.gens.pods++
		c.changes++
	}
	if e != nil && !same {
		c.changes++
	}
	target, assumed := pod.Spec.NodeName, false
	if target == "" && e != nil && e.assumed {
		target, assumed = e.node, true
	}
	if workload.Terminated(pod) {
		target, assumed = "", false
	}
	if same && target == e.node {
		e.assumed = assumed
		return
	}
	if e != nil {
		c.uncount(e)
	}
	if !same {
		if e != nil {
			c.signatures.give(e.shared.Swap(nil))
		}
		e = newPodEntry(pod)
		c.pods[uid] = e
	}
	if target != "" {
		c.count(e, target, assumed)
	}
}

// RemovePod forgets a pod.
func (c *Cache) RemovePod(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.pods[uid]; e != nil {
		c.uncount(e)
		c.signatures.give(e.shared.Swap(nil))
		delete(c.pods, uid)
	}
}

// Pod returns the newest version of a pod, or nil.
func (c *Cache) Pod(uid string) *v1.Pod {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.pods[uid]; e != nil {
		return e.pod
	}
	return nil
}

// Assume counts an unbound pod on the node that has been decided for it.
// A pod that is bound, terminated or not known is left as it is.
func (c *Cache) Assume(uid, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.pods[uid]
	if e == nil || e.pod.Spec.NodeName != "" || workload.Terminated(e.pod) {
		return
	}
	if e.node == node {
		return
	}
	c.uncount(e)
	c.count(e, node, true)
}

// Forget undoes Assume. A pod that has been bound meanwhile keeps counting.
func (c *Cache) Forget(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.pods[uid]; e != nil && e.assumed {
		c.uncount(e)
	}
}

// Avoid has some nodes not fit a pod, known or not, in place of those that it was told
// before; with none the pod is as any other, and has to be when it is of no interest
// any more.
func (c *Cache) Avoid(uid string, nodes []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(nodes) > 0 || len(c.avoid[uid]) > 0 {
		c.changes++
	}
	if len(nodes) == 0 {
		delete(c.avoid, uid)
		return
	}
	c.avoid[uid] = nodes
}

// node returns the entry of a node, creating one for a node not yet seen.
func (c *Cache) node(name string) *nodeEntry {
	n := c.nodes[name]
	if n == nil {
		n = &nodeEntry{info: framework.NewNodeInfo()}
		c.nodes[name] = n
	}
	return n
}

// count adds the pod to a node. It counts nowhere before.
func (c *Cache) count(e *podEntry, node string, assumed bool) {
	e.node, e.assumed = node, assumed
	c.node(node).info.AddPodInfo(e.info)
	c.index.claimed(e.pod, 1)
	c.gens.pods++
	c.changes++
	if c.index.counted(e.pod, 1) {
		c.gens.repel++
	}
}

// uncount takes the pod off the node it counts on, if any.
func (c *Cache) uncount(e *podEntry) {
	if e.node == "" {
		return
	}
	n := c.nodes[e.node]
	if err := n.info.RemovePod(klog.FromContext(c.ctx), e.pod); err != nil {
		// Cannot happen while count and uncount are the only writers.
		c.log.Error("pod was not counted on its node", "pod", e.pod.Namespace+"/"+e.pod.Name, "node", e.node)
	}
	if len(n.info.Pods) == 0 && !n.known() {
		delete(c.nodes, e.node)
	}
	e.node, e.assumed = "", false
	c.index.claimed(e.pod, -1)
	c.gens.pods++
	c.changes++
	if c.index.counted(e.pod, -1) {
		c.gens.repel++
	}
}

// NodeNames returns the names of all nodes, sorted.
func (c *Cache) NodeNames() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]string, 0, len(c.index.all))
	for _, n := range c.index.all {
		out = append(out, n.Node().Name)
	}
	slices.Sort(out)
	return out
}
