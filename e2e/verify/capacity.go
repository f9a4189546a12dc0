package verify

import (
	"fmt"
	"sort"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// Capacity replays the history in the order of its revisions and checks that at
// no moment the pods of a node, of any scheduler, request more than it has. A
// pod counts from its assignment until it has terminated or is gone.
//
// A node is judged when its load grows: one that shrinks, or goes away, under
// the pods it has is not the scheduler's doing.
func Capacity(nodes []history.NodeEvent, pods []history.PodEvent, gaps []history.Gap) Check {
	c := newCheck("node capacity")
	c.gaps(gaps)
	r := replay{
		check: c,
		nodes: map[string]*nodeLoad{},
		pods:  map[string]*history.Pod{},
	}
	// Both streams come from one etcd, so their revisions compare. At the same
	// revision nodes go first, and departures before arrivals (a listing after
	// a gap has many changes at one revision).
	nodes = sorted(nodes, func(e history.NodeEvent) (history.Kind, uint64) { return e.Kind, e.Revision })
	pods = sorted(pods, func(e history.PodEvent) (history.Kind, uint64) { return e.Kind, e.Revision })
	i := 0
	for _, ev := range pods {
		for i < len(nodes) && (nodes[i].Kind == history.Base || nodes[i].Revision <= ev.Revision) {
			r.node(nodes[i])
			i++
		}
		r.pod(ev)
	}
	for ; i < len(nodes); i++ {
		r.node(nodes[i])
	}
	if len(r.nodes) == 0 {
		c.failf("not proven: no node was observed")
	}
	c.Detail = fmt.Sprintf("%d nodes, %d assignments replayed; fullest: %s", len(r.nodes), r.assigned, r.fullest())
	return *c
}

// sorted puts the base first, then everything by revision, departures first.
func sorted[T any](evs []T, key func(T) (history.Kind, uint64)) []T {
	out := append([]T(nil), evs...)
	sort.SliceStable(out, func(i, j int) bool {
		ki, ri := key(out[i])
		kj, rj := key(out[j])
		if bi, bj := ki == history.Base, kj == history.Base; bi || bj {
			return bi && !bj
		}
		if ri != rj {
			return ri < rj
		}
		return ki == history.Gone && kj != history.Gone
	})
	return out
}

type nodeLoad struct {
	present     bool
	allocatable map[v1.ResourceName]int64
	used        map[v1.ResourceName]int64
	// peak is the highest share of a resource ever used, in percent.
	peak     int64
	resource v1.ResourceName
}

type replay struct {
	check    *Check
	nodes    map[string]*nodeLoad
	pods     map[string]*history.Pod // those that occupy a node
	assigned int
}

func (r *replay) load(name string) *nodeLoad {
	n := r.nodes[name]
	if n == nil {
		n = &nodeLoad{used: map[v1.ResourceName]int64{}}
		r.nodes[name] = n
	}
	return n
}

func (r *replay) node(ev history.NodeEvent) {
	n := r.load(ev.Name)
	n.present = ev.Kind != history.Gone
	if n.present {
		n.allocatable = ev.Allocatable
	}
}

func (r *replay) pod(ev history.PodEvent) {
	p := ev.Pod
	prev := r.pods[p.UID]
	if prev != nil {
		n := r.load(prev.Node)
		for name, q := range prev.Requests {
			n.used[name] -= q
		}
		delete(r.pods, p.UID)
	}
	if ev.Kind == history.Gone || p.Node == "" || p.Terminal() {
		return
	}
	r.pods[p.UID] = p
	n := r.load(p.Node)
	for name, q := range p.Requests {
		n.used[name] += q
	}
	if prev == nil || prev.Node != p.Node {
		r.assigned++
	}
	r.judge(ev, prev, n)
}

// judge compares what the event added with what the node has.
func (r *replay) judge(ev history.PodEvent, prev *history.Pod, n *nodeLoad) {
	p := ev.Pod
	moved := prev == nil || prev.Node != p.Node
	if n.allocatable == nil {
		if moved {
			r.check.failf("revision %d: pod %s/%s assigned to %s, a node that never was",
				ev.Revision, p.Namespace, p.Name, p.Node)
		}
		return
	}
	for name, q := range p.Requests {
		grew := q > 0 && (moved || q > prev.Requests[name])
		used, has := n.used[name], n.allocatable[name]
		if grew && used > has {
			r.check.failf("revision %d: node %s has %d of %s and pods requesting %d, with %s/%s",
				ev.Revision, p.Node, has, name, used, p.Namespace, p.Name)
		}
		if has > 0 && used*100/has > n.peak {
			n.peak, n.resource = used*100/has, name
		}
	}
}

func (r *replay) fullest() string {
	var best *nodeLoad
	var name string
	for at, n := range r.nodes {
		if best == nil || n.peak > best.peak || n.peak == best.peak && at < name {
			best, name = n, at
		}
	}
	if best == nil || best.peak == 0 {
		return "none"
	}
	return fmt.Sprintf("%s at %d%% of %s", name, best.peak, best.resource)
}
