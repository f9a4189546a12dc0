package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
)

// ErrMismatch says that the core's account is not what it should be.
var ErrMismatch = errors.New("the engine's usage of queues is not the ledger's")

// Compare checks that what the core has allocated in each queue is what the
// ledger says: usage is that by application, in the engine's units and without
// zeros. It waits until the core has taken over everything it was fed. An
// allocation whose node is not known yet is not the core's to have.
func (e *Engine) Compare(ctx context.Context, usage map[string]map[string]int64) error {
	if err := e.Sync(ctx); err != nil {
		return err
	}
	differ := e.compare(usage)
	if differ == "" {
		return nil
	}
	// An application or a node may be on its way out or in again.
	if err := e.chored(ctx); err != nil {
		return err
	}
	if err := e.Sync(ctx); err != nil {
		return err
	}
	if differ = e.compare(usage); differ != "" {
		return fmt.Errorf("%w: %s", ErrMismatch, differ)
	}
	return nil
}

// compare returns the first difference, empty if there is none.
func (e *Engine) compare(usage map[string]map[string]int64) string {
	p := e.corePartition()
	if p == nil {
		return ""
	}
	absent := e.absentUsage()
	want := make(map[string]map[string]int64)
	for id, used := range usage {
		used = maps.Clone(used)
		add(used, absent[id], -1)
		if len(used) == 0 {
			continue
		}
		x := p.GetApplication(id)
		if x == nil {
			return fmt.Sprintf("application %s has allocations and is not known", id)
		}
		queue := x.GetQueuePath()
		if want[queue] == nil {
			want[queue] = make(map[string]int64)
		}
		add(want[queue], used, 1)
	}
	got := e.QueueUsage()
	for _, queue := range slices.Sorted(maps.Keys(got)) {
		if !maps.Equal(got[queue], want[queue]) {
			return fmt.Sprintf("queue %s uses %s, not %s", queue, amounts(got[queue]), amounts(want[queue]))
		}
		delete(want, queue)
	}
	for queue, used := range want {
		return fmt.Sprintf("queue %s uses nothing, not %s", queue, amounts(used))
	}
	return ""
}

// absentUsage returns, by application, what the allocations take that wait for
// their node.
func (e *Engine) absentUsage() map[string]map[string]int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]map[string]int64)
	for node, w := range e.waiting {
		for id, t := range w.tasks {
			if e.tasks[id] != t || !t.restore || t.sent || t.at != node {
				continue // see nodeAccepted
			}
			if out[t.rec.AppID] == nil {
				out[t.rec.AppID] = make(map[string]int64)
			}
			add(out[t.rec.AppID], t.rec.Resources, 1)
		}
	}
	return out
}

// add adds what, times sign, to a sum without zeros.
func add(sum, what map[string]int64, sign int64) {
	for name, v := range what {
		if sum[name] += sign * v; sum[name] == 0 {
			delete(sum, name)
		}
	}
}

func amounts(used map[string]int64) string {
	parts := make([]string, 0, len(used))
	for _, name := range slices.Sorted(maps.Keys(used)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, used[name]))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// QueueUsage returns what is allocated in each leaf queue, by the queue's full
// name, in the engine's units. Call Sync first to include everything that was
// fed.
func (e *Engine) QueueUsage() map[string]map[string]int64 {
	out := make(map[string]map[string]int64)
	if p := e.corePartition(); p != nil {
		collectUsage(p.GetQueue("root"), out)
	}
	return out
}

func collectUsage(q *objects.Queue, out map[string]map[string]int64) {
	if q == nil {
		return
	}
	children := q.GetCopyOfChildren()
	for _, child := range children {
		collectUsage(child, out)
	}
	if len(children) > 0 || !q.IsLeafQueue() {
		return
	}
	used := make(map[string]int64)
	if res := q.GetAllocatedResource(); res != nil {
		for name, v := range res.Resources {
			if v != 0 {
				used[name] = int64(v)
			}
		}
	}
	out[q.GetQueuePath()] = used
}
