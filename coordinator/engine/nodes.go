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

// absentees are what waits for a node that the core does not have yet.
type absentees struct {
	tasks   map[string]*task
	foreign map[string]bool
}

func (e *Engine) absent(node string) *absentees {
	w := e.waiting[node]
	if w == nil {
		w = &absentees{tasks: make(map[string]*task), foreign: make(map[string]bool)}
		e.waiting[node] = w
	}
	return w
}

// present changes what waits for a node, and forgets the node if nothing does.
func (e *Engine) present(node string, change func(*absentees)) {
	if w := e.waiting[node]; w != nil {
		change(w)
		if len(w.tasks)+len(w.foreign) == 0 {
			delete(e.waiting, node)
		}
	}
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
		x = &node{name: n.Name, attributes: attributesOf(n, e.cfg.InstanceTypeLabel)}
		e.nodes[n.Name] = x
		if e.removing[n.Name] == 0 { // else sent by decommission
			if err := e.sendNode(x, si.NodeInfo_CREATE_DRAIN, nil); err != nil {
				delete(e.nodes, n.Name) // so that the next version of it is tried
				return err
			}
		}
	}
	x.allocatable, x.cordoned = AllocatableOf(n), n.Spec.Unschedulable
	return e.openNode(x)
}

func attributesOf(n *v1.Node, instanceType string) map[string]string {
	return map[string]string{
		sicommon.HostName:     n.Name,
		sicommon.RackName:     "/rack-default",
		sicommon.InstanceType: n.Labels[instanceType],
		sicommon.ARCH:         n.Labels[v1.LabelArchStable],
		sicommon.OS:           n.Labels[v1.LabelOSStable],
	}
}

// instanceType is that of a node, empty if it has none or is not known. e.mu is held.
func (e *Engine) instanceType(name string) string {
	if x := e.nodes[name]; x != nil {
		return x.attributes[sicommon.InstanceType]
	}
	return ""
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
	var errs []error
	for uid, f := range e.foreign {
		// The core would keep their names, and not count them when they are
		// reported for a new node of this name.
		if f.node == name && f.sent {
			f.sent = false
			e.absent(name).foreign[uid] = true
			errs = append(errs, e.sendForeignRelease(uid))
		}
	}
	e.removing[name]++
	e.chores.put(func() { e.decommission(x) })
	return errors.Join(errs...)
}

// decommission takes a node out of the core, and waits until it is out. A node
// of the same name that came meanwhile is put in then.
//
// The core does not defend itself against what happens on a node that is on its
// way out: an allocation that it decides on there, or gives back, stays in the
// queue's account for ever. So nothing is in flight on the node by then: the
// predicates refuse it, releases wait, and so do swaps.
func (e *Engine) decommission(x *node) {
	what := "node " + x.name + " is removed"
	if !e.passed(what) {
		return
	}
	e.grants.settle(func(g grant) bool { return g.node == x.name })
	e.insist(what, func(ctx context.Context) error {
		if err := e.sendNode(x, si.NodeInfo_DECOMISSION, nil); err != nil {
			return err
		}
		return e.nodeBarrier(ctx)
	})
	e.insist(what, func(context.Context) error { return e.decommissioned(x) })
}

// decommissioned takes note that the core has forgotten a node.
func (e *Engine) decommissioned(x *node) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	e.notTaken(x.name)
	if back := e.nodes[x.name]; back != nil && e.removing[x.name] == 1 {
		if err := e.sendNode(back, si.NodeInfo_CREATE_DRAIN, nil); err != nil {
			return err
		}
	}
	if e.removing[x.name]--; e.removing[x.name] == 0 {
		delete(e.removing, x.name)
		e.grants.allowNode(x.name)
	}
	return nil
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
	for uid := range w.foreign {
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
		what := "node " + x.name + " is opened"
		if !e.passed(what) {
			return
		}
		e.insist(what, func(context.Context) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			x.filling = false
			if e.stopped || e.nodes[x.name] != x {
				return nil
			}
			return e.openNode(x)
		})
	})
}
