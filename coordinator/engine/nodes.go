package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// node is a node of the cluster.
type node struct {
	name        string
	allocatable map[string]int64
	cordoned    bool
	attributes  map[string]string
	// accepted says that the core has it; before, nothing can be put on it.
	accepted, refused bool
	// filling says that the core is still to be told what is on it already.
	filling bool
	// given is the capacity the core was told, nil while it has none; open says
	// that it was told to schedule there.
	given map[string]int64
	open  bool
}

// foreign is a pod of another scheduler.
type foreign struct {
	node     string
	res      map[string]int64
	tags     map[string]string
	priority int32
	sent     bool
}

// absentees are what waits for a node that the core does not have yet.
type absentees struct {
	tasks   map[string]*task
	foreign []string
}

func (e *Engine) absent(node string) *absentees {
	w := e.waiting[node]
	if w == nil {
		w = &absentees{tasks: make(map[string]*task)}
		e.waiting[node] = w
	}
	return w
}

// SetNode adds a node or takes over what has changed about it.
func (e *Engine) SetNode(n *v1.Node) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	x := e.nodes[n.Name]
	if x == nil {
		x = &node{name: n.Name, attributes: attributesOf(n)}
		e.nodes[n.Name] = x
		if e.removing[n.Name] == 0 { // else sent by decommission
			if err := e.sendNode(x, si.NodeInfo_CREATE_DRAIN, nil); err != nil {
				return err
			}
		}
	}
	x.allocatable, x.cordoned = AllocatableOf(n), n.Spec.Unschedulable
	return e.openNode(x)
}

func attributesOf(n *v1.Node) map[string]string {
	return map[string]string{
		sicommon.HostName:     n.Name,
		sicommon.RackName:     "/rack-default",
		sicommon.InstanceType: n.Labels[v1.LabelInstanceTypeStable],
		sicommon.ARCH:         n.Labels[v1.LabelArchStable],
		sicommon.OS:           n.Labels[v1.LabelOSStable],
	}
}

// openNode gives the core what it may use of a node: nothing while held.
func (e *Engine) openNode(x *node) error {
	return e.sendNodes(e.opening(nil, x))
}

// opening adds to infos what the core is still to be told of a node so that it may
// use it, and takes that for told.
func (e *Engine) opening(infos []*si.NodeInfo, x *node) []*si.NodeInfo {
	if !e.opened.Load() || !x.accepted || x.filling {
		return infos
	}
	if x.given == nil || !maps.Equal(x.given, x.allocatable) {
		x.given = x.allocatable
		infos = append(infos, x.info(si.NodeInfo_UPDATE, toSI(x.allocatable)))
	}
	if x.open == !x.cordoned {
		return infos
	}
	x.open = !x.cordoned
	action := si.NodeInfo_DRAIN_NODE
	if x.open {
		action = si.NodeInfo_DRAIN_TO_SCHEDULABLE
	}
	return append(infos, x.info(action, nil))
}

// RemoveNode forgets a node. The core gives up what it has placed there; a
// restored allocation is reported to it again if the node comes back.
func (e *Engine) RemoveNode(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	x := e.nodes[name]
	if x == nil {
		return nil
	}
	delete(e.nodes, name)
	if e.removing[name] > 0 && !x.accepted {
		return nil // it was never put in
	}
	// First, as the core would place tasks where other schedulers' pods were.
	e.grants.refuseNode(name)
	for uid, f := range e.foreign {
		// The core would keep their names, and not count them when they are
		// reported for a new node of this name.
		if f.node == name && f.sent {
			f.sent = false
			e.absent(name).foreign = append(e.absent(name).foreign, uid)
			if err := e.sendForeignRelease(uid); err != nil {
				return err
			}
		}
	}
	e.removing[name]++
	e.chores.put(func() { e.decommission(x) })
	return nil
}

// decommission takes a node out of the core, and waits until it is out. A node
// of the same name that came meanwhile is put in then.
//
// The core does not defend itself against what happens on a node that is on its
// way out: an allocation that it decides on there, or gives back, stays in the
// queue's account for ever. So nothing is in flight on the node by then: the
// predicates refuse it, releases wait, and so do swaps.
func (e *Engine) decommission(x *node) {
	ctx, cancel := context.WithTimeout(context.Background(), choreLimit)
	defer cancel()
	err := e.barrier(ctx)
	e.grants.settle(func(g grant) bool { return g.node == x.name })
	e.mu.Lock()
	stopped := e.stopped
	e.mu.Unlock()
	if stopped {
		return
	}
	err = errors.Join(err, e.sendNode(x, si.NodeInfo_DECOMISSION, nil), e.nodeBarrier(ctx))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.removing[x.name]--; e.removing[x.name] == 0 {
		delete(e.removing, x.name)
		e.grants.allowNode(x.name)
		if back := e.nodes[x.name]; back != nil && !e.stopped {
			err = errors.Join(err, e.sendNode(back, si.NodeInfo_CREATE_DRAIN, nil))
		}
	}
	if !e.stopped {
		e.logErr("node is not removed", err, attrNode(x.name))
	}
}

func (e *Engine) sendNode(x *node, action si.NodeInfo_ActionFromRM, capacity *si.Resource) error {
	return e.sendNodes([]*si.NodeInfo{x.info(action, capacity)})
}

func (x *node) info(action si.NodeInfo_ActionFromRM, capacity *si.Resource) *si.NodeInfo {
	return &si.NodeInfo{NodeID: x.name, Action: action, Attributes: maps.Clone(x.attributes), SchedulableResource: capacity}
}

// sendNodes has the core do what infos say, in that order.
func (e *Engine) sendNodes(infos []*si.NodeInfo) error {
	if len(infos) == 0 {
		return nil
	}
	if err := e.proxy.UpdateNode(&si.NodeRequest{RmID: e.cfg.RMID, Nodes: infos}); err != nil {
		return fmt.Errorf("scheduling core: %d changes of nodes, the first of %s: %w", len(infos), infos[0].NodeID, err)
	}
	return nil
}

// nodeAccepted is called when the core has a node: what waited for it is sent.
func (e *Engine) nodeAccepted(name string) error {
	x := e.nodes[name]
	if x == nil || e.removing[name] > 0 {
		return nil // this one has been removed meanwhile
	}
	x.accepted = true
	w := e.absent(name)
	delete(e.waiting, name)
	for _, uid := range w.foreign {
		if f := e.foreign[uid]; f != nil && f.node == name && !f.sent {
			if err := e.sendForeign(uid, f); err != nil {
				return err
			}
		}
	}
	for _, t := range slices.SortedFunc(maps.Values(w.tasks), bySubmission) {
		if e.tasks[t.rec.ID] != t || !t.restore || t.sent || t.at != name {
			continue // released, or placed elsewhere, while it waited
		}
		if err := e.sendTask(e.apps[t.rec.AppID], t); err != nil {
			return err
		}
	}
	if len(w.tasks)+len(w.foreign) > 0 && e.opened.Load() {
		e.openLater(x)
		return nil
	}
	return e.openNode(x)
}

// openLater opens a node to the core once the core has taken over what is on
// it: nodes and allocations reach the core on different ways.
func (e *Engine) openLater(x *node) {
	x.filling = true
	e.chores.put(func() {
		ctx, cancel := context.WithTimeout(context.Background(), choreLimit)
		defer cancel()
		err := e.barrier(ctx)
		e.mu.Lock()
		defer e.mu.Unlock()
		x.filling = false
		if e.stopped || e.nodes[x.name] != x {
			return
		}
		e.logErr("cannot open the node", errors.Join(err, e.openNode(x)), attrNode(x.name))
	})
}

// SetForeign counts a pod of another scheduler on its node. One that is not
// assigned, or has terminated, is not counted.
func (e *Engine) SetForeign(pod *v1.Pod) error {
	uid := string(pod.UID)
	if pod.Spec.NodeName == "" || workload.Terminated(pod) {
		return e.RemoveForeign(uid)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	res := ResourcesOf(pod)
	f := e.foreign[uid]
	if f != nil && f.sent && maps.Equal(f.res, res) {
		return nil
	}
	if f == nil {
		f = &foreign{node: pod.Spec.NodeName, tags: foreignTags(pod), priority: priorityOf(pod)}
		e.foreign[uid] = f
	}
	f.res = res
	if n := e.nodes[f.node]; n == nil || !n.accepted {
		e.absent(f.node).foreign = append(e.absent(f.node).foreign, uid)
		return nil // sent by nodeAccepted
	}
	return e.sendForeign(uid, f)
}

// RemoveForeign takes the pod off its node again.
func (e *Engine) RemoveForeign(uid string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	f := e.foreign[uid]
	if f == nil {
		return nil
	}
	delete(e.foreign, uid)
	if !f.sent {
		return nil
	}
	return e.sendForeignRelease(uid)
}

func foreignTags(pod *v1.Pod) map[string]string {
	tags := podTags(pod.Namespace, pod.Name, nil)
	tags[sicommon.Foreign] = sicommon.AllocTypeDefault
	for _, owner := range pod.OwnerReferences {
		if owner.Kind == "Node" { // a static pod is there whatever happens
			tags[sicommon.Foreign] = sicommon.AllocTypeStatic
		}
	}
	return tags
}

func (e *Engine) sendForeign(uid string, f *foreign) error {
	f.sent = true
	alloc := &si.Allocation{
		AllocationKey: uid, NodeID: f.node, AllocationTags: f.tags,
		ResourcePerAlloc: toSI(f.res), Priority: f.priority,
	}
	return e.sendAllocations(&si.AllocationRequest{RmID: e.cfg.RMID, Allocations: []*si.Allocation{alloc}})
}

func (e *Engine) sendForeignRelease(uid string) error {
	return e.sendAllocations(&si.AllocationRequest{
		RmID: e.cfg.RMID,
		Releases: &si.AllocationReleasesRequest{AllocationsToRelease: []*si.AllocationRelease{{
			AllocationKey: uid, TerminationType: si.TerminationType_STOPPED_BY_RM,
		}}},
	})
}

// Open gives the nodes of a held engine their capacity, so that Release need not
// wait for that. The engine goes on being held; it must have been fed no asks, some
// of which the core would place without asking. Open does not wait.
func (e *Engine) Open() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	if e.opened.Swap(true) {
		return nil
	}
	// In one request: the core looks for something to schedule after each.
	infos := make([]*si.NodeInfo, 0, 2*len(e.nodes))
	for _, x := range e.nodes {
		infos = e.opening(infos, x)
	}
	return e.sendNodes(infos)
}

// Release lets a held engine schedule. It returns when the core has taken over
// everything it was fed before, and every node of this moment is open to it.
// Events flow from then on; those that were due while it was held come first.
func (e *Engine) Release(ctx context.Context) error {
	if err := e.Sync(ctx); err != nil {
		return err
	}
	if err := e.goLive(); err != nil {
		return err
	}
	if err := e.Open(); err != nil {
		return err
	}
	if err := poll(ctx, e.nodesOpen); err != nil {
		return fmt.Errorf("nodes are not open yet: %w", err)
	}
	coreLog.held.Store(false)
	return nil
}

func (e *Engine) goLive() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	if e.live.Swap(true) {
		return nil
	}
	e.catchUp()
	return nil
}

// catchUp emits what the core said while it was held and is still true.
func (e *Engine) catchUp() {
	for id, a := range e.apps {
		if a.state != "" {
			e.emit(ledger.AppEnded{Stamp: e.stamp(), AppID: id, State: a.state, Message: a.message})
		}
		if a.quiet {
			e.idle(id, a)
		}
	}
	var ending []*task // few, of many
	for _, t := range e.tasks {
		if t.ending != ledger.NotTerminated {
			ending = append(ending, t)
		}
	}
	slices.SortFunc(ending, bySubmission)
	for _, t := range ending {
		e.emitEnding(t)
	}
}

// nodesKnown reports whether the core has all nodes it was told of.
func (e *Engine) nodesKnown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.nodes {
		if !x.accepted && !x.refused && !e.stopped {
			return false
		}
	}
	return true
}

// nodesOpen reports whether the core's nodes are as they were told to be.
func (e *Engine) nodesOpen() bool {
	p := e.corePartition()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || p == nil {
		return true // nothing will change any more
	}
	for name, x := range e.nodes {
		if x.refused {
			continue
		}
		n := p.GetNode(name)
		if n == nil || n.IsSchedulable() == x.cordoned {
			return false
		}
	}
	return true
}
