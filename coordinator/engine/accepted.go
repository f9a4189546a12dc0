package engine

import (
	"reflect"
	"strings"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
)

// A queue may limit how many applications run. The core counts a gang among them from when it has
// placed a first placeholder, in the queue and in all above it, until the gang runs. It does so only
// for what it has placed itself, and forgets a gang that comes to nothing in the one queue but not in
// those above. So the engine counts for a core that was told of placeholders, or another application
// would have the gang's turn after a failover; and it has the core forget what is gone, or the queues
// above would let fewer and fewer applications run.

// reservingIn are the applications that a queue counts so. The core has no name for it that others
// could use. The queue has to be locked.
func reservingIn(queue *objects.Queue) map[string]bool {
	field := reflect.ValueOf(queue).Elem().FieldByName("allocatingAcceptedApps")
	return *(*map[string]bool)(field.Addr().UnsafePointer())
}

// countReserving counts an application that was given placeholders by somebody else.
func (e *Engine) countReserving(id string) {
	x := e.coreApp(id)
	if x == nil {
		return
	}
	queues := e.queuesAbove(x.GetQueuePath())
	x.Lock() // It does not begin to run meanwhile, with which this ends.
	defer x.Unlock()
	if x.IsAccepted() {
		for _, q := range queues {
			q.Lock()
			reservingIn(q)[id] = true
			q.Unlock()
		}
	}
}

// forgetReserving forgets an application that the core has let go of, before it is submitted again.
func (e *Engine) forgetReserving(id string, a *app) {
	e.mu.Lock()
	path, last := a.at.queue, e.apps[id] == a
	e.mu.Unlock() // The core may hold a lock of a queue, and wait for us.
	if !last {
		return
	}
	for _, q := range e.queuesAbove(path) {
		q.Lock()
		delete(reservingIn(q), id)
		q.Unlock()
	}
}

// queuesAbove returns a queue and those above it. The partition is locked for that: nothing else may be.
func (e *Engine) queuesAbove(path string) (queues []*objects.Queue) {
	p := e.corePartition()
	for p != nil && path != "" {
		if q := p.GetQueue(path); q != nil {
			queues = append(queues, q)
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
	return queues
}
