package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/metrics"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/engine/chatter"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Open gives the nodes of a held engine their capacity, so that Engage need not
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

// Engage lets a held engine schedule. It returns when the core has taken over
// everything it was fed before, and every node of this moment is open to it.
// Events flow from then on; those that were due while it was held come first.
func (e *Engine) Engage(ctx context.Context) error {
	for ready := false; !ready; {
		if err := e.Sync(ctx); err != nil {
			return err
		}
		var err error
		if ready, err = e.goLive(); err != nil {
			return err
		}
	}
	if err := e.Open(); err != nil {
		return err
	}
	if err := poll(ctx, e.nodesOpen); err != nil {
		return fmt.Errorf("nodes are not open yet: %w", err)
	}
	chatter.Hold(false)
	e.checkHealth()
	e.enforceQuotas()
	return nil
}

// podsFirst is for how long after its release an engine leaves the core to the pods that wait. By
// then the asks of all applications have come, which takes milliseconds.
const podsFirst = time.Second

// checkHealth has what the core found of itself while it was held, without capacity, forgotten, and has
// it look again soon, which takes the locks of everything. By itself it would look only after a while.
// checkHealth does not wait.
func (e *Engine) checkHealth() {
	cluster := e.Cluster()
	if cluster.GetLastHealthCheckResult() == nil {
		return // it does not look at all
	}
	cluster.SetLastHealthCheckResult(nil)
	time.AfterFunc(podsFirst, func() {
		e.chores.put(func() {
			now := scheduler.GetSchedulerHealthStatus(metrics.GetSchedulerMetrics(), cluster)
			cluster.SetLastHealthCheckResult(&now)
		})
	})
}

// goLive reports false if there are applications again that are astray.
func (e *Engine) goLive() (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopped:
		return false, ErrStopped
	case e.live.Load():
		return true, nil
	case len(e.homeless) > 0 || e.housing:
		return false, nil
	}
	e.live.Store(true)
	e.mark()
	e.catchUp()
	return true, nil
}

// catchUp emits what the core said while it was held and is still true.
func (e *Engine) catchUp() {
	quiet := make(map[string]*app)
	for id, a := range e.apps {
		if a.state != "" {
			e.emit(ledger.AppEnded{Stamp: e.stamp(), AppID: id, State: a.state, Message: a.message})
		}
		if a.quiet {
			e.idle(id, a)
			if a.rec.State == ledger.AppStateRunning && a.rec.Originator != "" { // it has had a pod
				quiet[id] = a
			}
		}
		if queue := a.at.queue; a.stage == accepted && queue != "" && queue != a.rec.PlacedQueue {
			e.emit(ledger.AppAccepted{Stamp: e.stamp(), AppID: id, PlacedQueue: queue})
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
	e.completing(quiet)
}

// spare has a held core take back that it preempts a task. The core enforces a lowered quota
// without being asked to place anything, and need not choose those pods that the lead does.
// See enforceQuotas for when the quota is still exceeded once the engine is released.
func (e *Engine) spare(t *task) {
	key, name := t.rec.ID, t.node
	e.chores.put(func() {
		p := e.corePartition()
		if p == nil {
			return
		}
		node := p.GetNode(name)
		if node == nil {
			return
		}
		a := node.GetAllocation(key)
		if a == nil || !a.IsPreempted() {
			return
		}
		a.MarkUnPreempted()
		if app := p.GetApplication(a.GetApplicationID()); app != nil {
			p.GetQueue(app.GetQueuePath()).DecPreemptingResource(a.GetAllocatedResource())
		}
	})
}

// enforceQuotas begins the delay anew after which the core enforces quotas that are exceeded: it
// enforces each change once, and what it did while it was held was taken back. It waits until
// none of that is under way any more.
func (e *Engine) enforceQuotas() {
	time.AfterFunc(podsFirst, func() {
		e.chores.put(func() {
			if p := e.corePartition(); p != nil && p.IsQuotaPreemptionEnabled() {
				enforceQuota(p.GetQueue("root"))
			}
		})
	})
}

// enforceQuota has a queue, those above it and those below it see that they have more than their
// quota, as when something more is allocated.
func enforceQuota(q *objects.Queue) {
	for _, below := range q.GetCopyOfChildren() {
		enforceQuota(below)
	}
	if q.IsLeafQueue() {
		q.IncAllocatedResource(resources.NewResource(), true)
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
