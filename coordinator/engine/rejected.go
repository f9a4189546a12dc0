package engine

import (
	"time"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
)

// The core keeps each application that it has rejected for three days, each time that it
// rejects it: a timer of the application holds it. So rejected applications are expired here,
// which stops their timers. The core then holds the last one of each name, and its cleaner
// takes those away once a day. REST answers and explanations have rejected applications from
// the records.
//
// The core adds to its table of rejected applications without the lock under which it lists
// them, and Go ends a process that does both at once. It adds to it before it answers, and
// only what it was sent here: so the table is listed while no answer is due and none can
// become due, as e.mu is held.

// expireEvery is how long rejected applications may wait to be expired, so that many of them
// cost one look.
const expireEvery = time.Second

// expireSoon has rejected applications expired. e.mu is held.
func (e *Engine) expireSoon() {
	if e.expiring {
		return
	}
	e.expiring = true
	time.AfterFunc(expireEvery, func() { e.out.put(e.expireRejected) })
}

// expireRejected runs on our own goroutine: it takes locks of the core.
func (e *Engine) expireRejected() {
	for _, x := range e.listRejected() {
		x.Lock()
		if x.IsRejected() {
			e.logErr("cannot expire application", x.HandleApplicationEvent(objects.ExpireApplication), attrApp(x.ApplicationID))
		}
		x.Unlock()
	}
}

// listRejected returns what the core has rejected, or nothing if it may be adding to that;
// then it is asked again.
func (e *Engine) listRejected() []*objects.Application {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expiring = false
	if e.stopped {
		return nil
	}
	if e.unanswered > 0 {
		e.expireSoon()
		return nil
	}
	p := e.corePartition()
	if p == nil {
		return nil
	}
	return p.GetRejectedApplications()
}
