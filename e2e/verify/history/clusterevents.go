package history

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// podsListed takes the first listing as the base, and a later one, after a
// gap, as the changes it amounts to.
func (c *Cluster) podsListed(pods []*v1.Pod, rev uint64) {
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	there := make(map[string]bool, len(pods))
	for _, p := range pods {
		there[string(p.UID)] = true
	}
	// Departures first: their resources are free for the arrivals.
	for uid, s := range c.live {
		if !there[uid] {
			delete(c.live, uid)
			c.emit(PodEvent{At: at, Revision: rev, Kind: Gone, Pod: s.pod})
		}
	}
	for _, p := range pods {
		// In the base the pod's own revision is of interest; after a gap its
		// change is known only to lie before the listing.
		n := rev
		if own, err := revision(p.ResourceVersion); err == nil && !c.based {
			n = own
		}
		c.observe(p, at, n)
	}
}

func (c *Cluster) podEvent(kind watch.EventType, p *v1.Pod, rev uint64) {
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind != watch.Deleted {
		c.observe(p, at, rev)
		return
	}
	var prev *Pod
	if s := c.live[string(p.UID)]; s != nil {
		prev = s.pod
	}
	delete(c.live, string(p.UID))
	c.emit(PodEvent{At: at, Revision: rev, Kind: Gone, Pod: FromPod(p, prev)})
}

// observe notes the state of a live pod if it changed in what matters.
func (c *Cluster) observe(p *v1.Pod, at time.Time, rev uint64) {
	s := c.live[string(p.UID)]
	if s == nil {
		s = &seen{pod: FromPod(p, nil), revision: rev}
		c.live[string(p.UID)] = s
		kind := Added
		if !c.based {
			kind = Base
		}
		c.emit(PodEvent{At: at, Revision: rev, Kind: kind, Pod: s.pod})
		return
	}
	s.revision = rev
	if next := FromPod(p, s.pod); !next.same(s.pod) {
		s.pod = next
		c.emit(PodEvent{At: at, Revision: rev, Kind: Changed, Pod: next})
	}
}

// emit appends the event and hands it on. The caller holds c.mu.
func (c *Cluster) emit(ev PodEvent) {
	c.pods = append(c.pods, ev)
	for _, fn := range c.subs {
		fn(ev)
	}
}

func (c *Cluster) nodesListed(nodes []*v1.Node, rev uint64) {
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	there := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		there[n.Name] = true
		c.observeNode(n, at, rev)
	}
	for name := range c.capacity {
		if !there[name] {
			delete(c.capacity, name)
			c.nodes = append(c.nodes, NodeEvent{At: at, Revision: rev, Kind: Gone, Name: name})
		}
	}
}

func (c *Cluster) nodeEvent(kind watch.EventType, n *v1.Node, rev uint64) {
	at := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == watch.Deleted {
		delete(c.capacity, n.Name)
		c.nodes = append(c.nodes, NodeEvent{At: at, Revision: rev, Kind: Gone, Name: n.Name})
		return
	}
	c.observeNode(n, at, rev)
}

func (c *Cluster) observeNode(n *v1.Node, at time.Time, rev uint64) {
	have, known := c.capacity[n.Name]
	now := amounts(n.Status.Allocatable)
	if known && equalAmounts(have, now) {
		return
	}
	kind := Added
	switch {
	case !c.based:
		kind = Base
	case known:
		kind = Changed
	}
	c.capacity[n.Name] = now
	c.nodes = append(c.nodes, NodeEvent{At: at, Revision: rev, Kind: kind, Name: n.Name, Allocatable: now})
}

func (c *Cluster) addGap(what string, after, until uint64, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gaps = append(c.gaps, Gap{At: time.Now(), What: what, After: after, Until: until, Reason: reason})
}
