package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/replica/failpoint"
)

// nodeFollower is told of nodes.
type nodeFollower interface {
	SetNode(node *v1.Node)
	RemoveNode(name string)
}

// podFollower is told of the pods of all namespaces, those of other schedulers
// included.
type podFollower interface {
	SetPod(pod *v1.Pod)
	// RemovePod is given the version that SetPod was given last.
	RemovePod(pod *v1.Pod)
}

// Follower is told of all that an engine has to know about the cluster. Its
// methods are called one at a time.
type Follower interface {
	nodeFollower
	podFollower
	// Configure is given the queue configuration when it is no longer the one
	// that Configuration returned last, or why it cannot be read.
	Configure(configuration map[string]string, err error)
}

// feed keeps a follower in agreement with the informers' stores. It does not
// pass events on: an event only says where to compare. So a follower never gets
// an older version after a newer one, and what an event did not tell is found.
type feed struct {
	c *Cluster

	mu       sync.Mutex
	follower Follower // nil while there is none
	nodes    map[string]*v1.Node
	pods     map[string]*v1.Pod // by namespace/name

	// mark is the newest version of the replica's own pod that an event told of:
	// everything that changed before it has been handled.
	mark string

	// configured is what was handed out last, or why nothing could be.
	configured    map[string]string
	configuredErr string
}

func (f *feed) init(c *Cluster) { f.c = c }

// attach has the feed look when something changes in an informer that it
// cares for.
func (f *feed) attach(informer cache.SharedIndexInformer) error {
	look := f.configure
	switch informer {
	case f.c.nodes:
		look = f.node
	case f.c.pods:
		look = f.pod
	default:
		if !f.holdsConfiguration(informer) {
			return nil
		}
	}
	handle := func(obj any) {
		key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
		if err != nil {
			f.c.log.Error("object without a name", "type", fmt.Sprintf("%T", obj), "err", err)
			return
		}
		if informer == f.c.pods {
			failpoint.Hit(failpoint.PodChanged)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.follower != nil {
			look(key)
		}
		f.passed(obj)
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, obj any) { handle(obj) },
		DeleteFunc: handle,
	})
	return err
}

func (f *feed) holdsConfiguration(informer cache.SharedIndexInformer) bool {
	for _, c := range f.c.configMaps {
		if c == informer {
			return true
		}
	}
	return false
}

// Follow tells f of all that exists, returns when that is done, and goes on
// telling it what changes until Unfollow. The informers must be synced.
func (c *Cluster) Follow(ctx context.Context, follower Follower) error {
	if err := c.WaitForSync(ctx); err != nil {
		return err
	}
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	if c.feed.follower != nil {
		return errors.New("informers: followed twice")
	}
	c.feed.follower = follower
	c.feed.nodes, c.feed.pods = make(map[string]*v1.Node), make(map[string]*v1.Pod)
	c.feed.all()
	c.feed.configure("")
	return nil
}

// Unfollow ends what Follow began: the follower is not called after it.
func (c *Cluster) Unfollow() {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	c.feed.follower, c.feed.nodes, c.feed.pods = nil, nil, nil
}

// Tell tells the follower, if there is one, of a pod as it is now, unless it has been told.
func (c *Cluster) Tell(namespace, name string) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	if c.feed.follower != nil {
		c.feed.pod(cache.ObjectName{Namespace: namespace, Name: name}.String())
	}
}

// catchUp makes the follower agree with the stores as they are now.
func (f *feed) catchUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.follower != nil {
		f.all()
	}
}

// catchUpNodes does so for nodes alone.
func (f *feed) catchUpNodes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.follower != nil {
		f.allNodes()
	}
}

// passed notes that everything before the event about obj has been handled. The
// caller holds mu. The store may be ahead of the events, so that it cannot tell.
func (f *feed) passed(obj any) {
	if pod, ok := obj.(*v1.Pod); ok && pod.Name == f.c.cfg.PodName && pod.Namespace == f.c.cfg.Namespace {
		f.mark = pod.ResourceVersion
	}
}

// marked reports whether all changes of pods up to version have been handled.
func (f *feed) marked(version string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mark == "" {
		return false, nil
	}
	order, err := resourceversion.CompareResourceVersion(f.mark, version)
	return err == nil && order >= 0, err
}

// allNodes compares all nodes. The caller holds mu, as for the methods below.
func (f *feed) allNodes() {
	for _, key := range f.c.nodes.GetStore().ListKeys() {
		f.node(key)
	}
	for key := range maps.Clone(f.nodes) {
		f.node(key)
	}
}

// all compares everything.
func (f *feed) all() {
	f.allNodes()
	for _, key := range f.c.pods.GetStore().ListKeys() {
		f.pod(key)
	}
	for key := range maps.Clone(f.pods) {
		f.pod(key)
	}
}

func (f *feed) node(key string) {
	told := f.nodes[key]
	node, exists := lookUp[*v1.Node](f.c.nodes, key)
	if told != nil && (!exists || told.UID != node.UID) {
		f.follower.RemoveNode(told.Name)
		delete(f.nodes, key)
		told = nil
	}
	if exists && (told == nil || told.ResourceVersion != node.ResourceVersion) {
		f.nodes[key] = node
		f.follower.SetNode(node)
	}
}

func (f *feed) pod(key string) {
	told := f.pods[key]
	pod, exists := lookUp[*v1.Pod](f.c.pods, key)
	if told != nil && (!exists || told.UID != pod.UID) {
		f.follower.RemovePod(told)
		delete(f.pods, key)
		told = nil
	}
	if exists && (told == nil || told.ResourceVersion != pod.ResourceVersion) {
		f.pods[key] = pod
		f.follower.SetPod(pod)
	}
}

func (f *feed) configure(string) {
	configuration, err := f.c.readConfiguration()
	if f.handedOut(configuration, err) {
		return
	}
	f.hand(configuration, err)
	f.follower.Configure(maps.Clone(configuration), err)
}

// handedOut reports whether the follower has been told this already.
func (f *feed) handedOut(configuration map[string]string, err error) bool {
	if err != nil {
		return err.Error() == f.configuredErr
	}
	return f.configuredErr == "" && maps.Equal(configuration, f.configured)
}

// hand notes what is handed out.
func (f *feed) hand(configuration map[string]string, err error) {
	if err != nil {
		f.configuredErr = err.Error()
		return
	}
	f.configured, f.configuredErr = configuration, ""
}

func lookUp[T any](informer cache.SharedIndexInformer, key string) (found T, exists bool) {
	obj, exists, err := informer.GetStore().GetByKey(key)
	if err != nil || !exists {
		return found, false
	}
	found, exists = obj.(T)
	return found, exists
}
