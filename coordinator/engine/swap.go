package engine

import (
	"github.com/understudy-ha/understudy/replica/ledger"
)

// replacing tells the ledger that the core gives a placeholder up, and for what. What that
// is the core is asked on our own goroutine, as in appAccepted.
func (e *Engine) replacing(t *task) {
	event, node := ledger.Released{
		Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: t.rec.ID, Termination: t.ending, Message: t.message,
	}, t.node
	e.out.put(func() {
		if taker := e.swapping(event.TaskID, node); taker != nil {
			event.For, event.Node = taker.GetAllocationKey(), taker.GetNodeID()
		}
		e.mu.Lock()
		if taker := e.tasks[event.For]; taker != nil && taker.sent && taker.node == "" {
			taker.to, taker.swapped = event.Node, true
			e.takers[event.For] = taker
		}
		e.mu.Unlock()
		if e.live.Load() {
			e.sink(event)
		}
	})
}

// taken notes that a task does not wait for the core to put it in the place of a
// placeholder any more.
func (e *Engine) taken(t *task) {
	if t.to != "" {
		t.to = ""
		delete(e.takers, t.rec.ID)
	}
}

// notTaken has tasks asked for again that the core was about to put on a node which is
// gone. It undoes that, and does not say so.
func (e *Engine) notTaken(node string) {
	for id, t := range e.takers {
		if t.to == node {
			e.taken(t)
			t.restore, t.swapped = false, false
			e.emit(ledger.NodeLost{Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: id, Node: node})
		}
	}
}

// spent is a placeholder that is on its way out, as an older core decided.
type spent struct{ task, node string }

// spend keeps the core from giving a placeholder up that is on its way out already: its
// place is the task's for which it was given up. A held engine is not let go before.
func (e *Engine) spend(t *task) {
	if !t.rec.Placeholder || t.rec.State != ledger.TaskStateKilling {
		return
	}
	e.spent = append(e.spent, spent{t.rec.ID, t.rec.Node})
	if len(e.spent) == 1 {
		e.chores.put(e.spendInCore)
	}
}

func (e *Engine) spendInCore() {
	e.mu.Lock()
	all := e.spent
	e.mu.Unlock()
	p := e.corePartition()
	if !e.passed("placeholders that go are not chosen") || p == nil {
		return
	}
	for _, one := range all {
		node := p.GetNode(one.node)
		if node == nil {
			continue // It is told of with its node.
		}
		if a := node.GetAllocation(one.task); a != nil {
			// One that is preempted is not chosen either.
			_ = a.SetReleased(true)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spent = e.spent[len(all):]; len(e.spent) > 0 {
		e.chores.put(e.spendInCore)
	}
}
