package engine

import (
	_ "unsafe" // for the core's own count

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
)

// setAllocatingAccepted is how the core itself counts an application that it has given a first
// placeholder. It has no name for others.
//
//go:linkname setAllocatingAccepted github.com/apache/yunikorn-core/pkg/scheduler/objects.(*Queue).setAllocatingAccepted
func setAllocatingAccepted(queue *objects.Queue, id string)

// countReserving has the core count an application among those that run, whose number its queues may
// limit, once it has placeholders. A core that gave it the first one itself does so. One that was told
// of it would let another application have its turn.
func (e *Engine) countReserving(id string) {
	p := e.corePartition()
	if p == nil {
		return
	}
	x := p.GetApplication(id)
	if x == nil {
		return
	}
	queue := p.GetQueue(x.GetQueuePath())
	x.Lock() // It does not begin to run meanwhile, with which this count of it ends.
	defer x.Unlock()
	if queue != nil && x.IsAccepted() {
		setAllocatingAccepted(queue, id)
	}
}
