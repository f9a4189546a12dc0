package engine

import "github.com/apache/yunikorn-core/pkg/scheduler/objects"

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
