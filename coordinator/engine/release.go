package engine

import (
	"context"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

func (e *Engine) release(rec *ledger.Task, why ledger.Termination) error {
	t := e.tasks[rec.ID]
	if t != nil && t.rec.AppID != rec.AppID {
		return nil // it is another application's by now: see disown
	}
	e.preds.Forget(rec.ID)
	if t == nil {
		return nil
	}
	sent := t.sent
	e.untrack(t)
	defer e.writeOff(t)
	switch {
	case !sent:
		return nil
	case t.node == "":
		// For the core, other reasons end allocations only and leave asks.
		why = ledger.StoppedByRM
	case t.ending == ledger.PlaceholderReplaced:
		// Whatever ended the pod, the core has promised its place.
		e.confirmSwap(t)
		return nil
	case why == ledger.PlaceholderReplaced:
		// A swap that an older core began means nothing to this one, which
		// would look for the real task.
		why = ledger.StoppedByRM
	}
	if t.node != "" && t.rec.Placeholder && e.live.Load() && e.grants.hold(groupOf(t.rec)) {
		e.releaseHeld(t, why)
		return nil
	}
	return e.releaseSafely(t, why)
}

// groupOf names the task group of a task among all.
func groupOf(rec *ledger.Task) string {
	if rec.TaskGroup == "" {
		return ""
	}
	return rec.AppID + "/" + rec.TaskGroup
}

// releaseHeld releases a placeholder whose group is held, and lets the group go. The core
// may be about to swap a task in for it, which it would forget without its placeholder:
// the task is charged, and never placed. So none is begun, and one that has been is
// brought to its end.
func (e *Engine) releaseHeld(t *task, why ledger.Termination) {
	group, node := groupOf(t.rec), t.node
	e.releaseLater(t, func() ledger.Termination {
		e.grants.settle(func(g grant) bool { return g.group == group })
		if e.swaps(t.rec.ID, node) {
			return ledger.PlaceholderReplaced
		}
		return why
	})
	e.chores.put(func() {
		// The last one waits until the core knows of all.
		if !e.grants.letGo(group, false) && e.passed("task group "+group+" is let go") {
			e.grants.letGo(group, true)
		}
	})
}

// writeOff has the core wait no more for placeholders of a task group of which there is
// none. It waits for as many as it was ever asked for, less those that were replaced or
// ended with a node: one that was released without a node it would wait for for ever, and
// give no node to the pods of the group until then. e.mu is held.
func (e *Engine) writeOff(t *task) {
	id, group := t.rec.AppID, t.rec.TaskGroup
	a := e.apps[id]
	if !t.rec.Placeholder || a == nil || a.holds(group) {
		return
	}
	e.chores.put(func() {
		if e.passed("placeholders of " + id + " are written off") {
			e.writeOffInCore(id, group)
		}
	})
}

// holds reports whether the ledger wants placeholders of a task group.
func (a *app) holds(group string) bool {
	for _, t := range a.tasks {
		if t.rec.Placeholder && t.rec.TaskGroup == group {
			return true
		}
	}
	return false
}

// writeOffInCore reads first and looks then, so that placeholders that come meanwhile
// are waited for.
func (e *Engine) writeOffInCore(id, group string) {
	x := e.coreApp(id)
	if x == nil {
		return
	}
	var left int64
	for _, data := range x.GetAllPlaceholderData() {
		x.RLock()
		if data.TaskGroupName == group {
			left = data.Count - data.Replaced
		}
		x.RUnlock()
	}
	e.mu.Lock()
	a := e.apps[id]
	still := a != nil && a.holds(group)
	e.mu.Unlock()
	if left > 0 && !still {
		x.SetTimedOutPlaceholder(group, left)
	}
}

// releaseSafely releases a task at once, or as a chore if the core may be
// placing it at this moment, or removing the node it is on: see grants and
// decommission.
func (e *Engine) releaseSafely(t *task, why ledger.Termination) error {
	wait := e.removing[t.node] > 0 || t.node == "" && len(e.removing) > 0
	if t.node == "" {
		busy, first := e.grants.refuseTask(t.rec.ID)
		if first {
			e.chores.put(e.allowTasks)
		}
		wait = wait || busy
	}
	if !wait {
		return e.sendRelease(t, why)
	}
	e.releaseLater(t, func() ledger.Termination {
		e.grants.settle(func(g grant) bool { return g.task == t.rec.ID })
		return why
	})
	return nil
}

// allowTasks lifts the refusal of tasks once the core has released them.
func (e *Engine) allowTasks() {
	refused := e.grants.refusedTasks()
	if e.passed("released tasks are allowed") && e.grants.allowTasks(refused) {
		e.chores.put(e.allowTasks)
	}
}

// releaseLater releases a task as a chore. What is sent for it until then waits
// too, so that the core sees both in order.
func (e *Engine) releaseLater(t *task, why func() ledger.Termination) {
	e.deferred[t.rec.ID]++
	e.chores.put(func() {
		w := why()
		e.insist("task "+t.rec.ID+" is released", func(context.Context) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.stopped {
				return ErrStopped
			}
			if err := e.sendRelease(t, w); err != nil {
				return err
			}
			if e.deferred[t.rec.ID]--; e.deferred[t.rec.ID] == 0 {
				delete(e.deferred, t.rec.ID)
			}
			return nil
		})
	})
}

// confirmSwap tells the core that a placeholder is gone, so that the real task
// takes its place. That must still be so in the core, which follows the link
// from the one to the other without looking: it undoes a swap when a node goes.
// Nodes are taken out as chores too, so that none goes between look and leap.
func (e *Engine) confirmSwap(t *task) {
	node := t.node
	e.releaseLater(t, func() ledger.Termination {
		if e.swaps(t.rec.ID, node) {
			return ledger.PlaceholderReplaced
		}
		return ledger.StoppedByRM
	})
}

// swaps reports whether the core is about to put a real task in the place of a
// placeholder, and takes note of which.
func (e *Engine) swaps(id, node string) bool {
	taker := e.swapping(id, node)
	if taker == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.tasks[taker.GetAllocationKey()]; t != nil {
		t.swapped = true
	}
	return true
}

// swapping returns what the core is about to put in the place of a placeholder, nil
// for nothing.
func (e *Engine) swapping(id, node string) *objects.Allocation {
	p := e.corePartition()
	if p == nil {
		return nil
	}
	n := p.GetNode(node)
	if n == nil {
		return nil
	}
	a := n.GetAllocation(id)
	if a == nil {
		return nil
	}
	return a.GetRelease()
}

func (e *Engine) sendRelease(t *task, why ledger.Termination) error {
	return e.sendAllocations(&si.AllocationRequest{
		RmID: e.cfg.RMID,
		Releases: &si.AllocationReleasesRequest{AllocationsToRelease: []*si.AllocationRelease{{
			ApplicationID:   t.rec.AppID,
			AllocationKey:   t.rec.ID,
			TerminationType: terminationSI(why),
		}}},
	})
}

func terminationSI(t ledger.Termination) si.TerminationType {
	if v, ok := si.TerminationType_value[string(t)]; ok {
		return si.TerminationType(v)
	}
	return si.TerminationType_STOPPED_BY_RM
}
