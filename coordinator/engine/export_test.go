package engine

import (
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// BetweenCore puts wrap between the engine and its core.
func (e *Engine) BetweenCore(wrap func(api.SchedulerAPI) api.SchedulerAPI) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proxy = wrap(e.proxy)
}

// IsBarrier and IsNodeBarrier say whether a request is a barrier.
func IsBarrier(r *si.ApplicationRequest) bool {
	return len(r.New) == 1 && r.New[0].PartitionName == barrierPartition
}

func IsNodeBarrier(r *si.NodeRequest) bool {
	return len(r.Nodes) == 1 && r.Nodes[0].Attributes[sicommon.NodePartition] == barrierPartition
}

// HangPredicates keeps the core's scheduling loop in the predicates until it is
// let go.
func (e *Engine) HangPredicates() (letGo func()) {
	e.grants.mu.Lock()
	return e.grants.mu.Unlock
}

// HangQueue, HangApp and HangNode hold a lock of the core until it is let go.
func (e *Engine) HangQueue(name string) (letGo func()) {
	q := e.corePartition().GetQueue(name)
	q.Lock()
	return q.Unlock
}

func (e *Engine) HangApp(id string) (letGo func()) {
	x := e.corePartition().GetApplication(id)
	x.Lock()
	return x.Unlock
}

func (e *Engine) HangNode(name string) (letGo func()) {
	n := e.corePartition().GetNode(name)
	n.Lock()
	return n.Unlock
}

// Remembered is how many nodes that are gone the engine remembers something of.
func (e *Engine) Remembered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.grants.mu.Lock()
	defer e.grants.mu.Unlock()
	return len(e.waiting) + len(e.removing) + len(e.grants.nodes)
}

// ExtraConfig is what the core is told beside its queues.
func ExtraConfig(data map[string]string, level string) map[string]string {
	_, extra := split(data, level)
	return extra
}

// ReleaseWhileSwapping asks for a task that is to be swapped in for a placeholder, and
// releases the placeholder before the engine has heard that the core has begun to.
func (e *Engine) ReleaseWhileSwapping(app *ledger.App, real, placeholder *ledger.Task, node string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.ask(app, real); err != nil {
		return err
	}
	for !e.swapping(placeholder.ID, node) {
		time.Sleep(pollEvery)
	}
	return e.release(placeholder, ledger.StoppedByRM)
}
