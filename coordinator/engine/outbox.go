package engine

import "sync"

// outbox hands work from the core's goroutines to one of ours, in order. It
// has no bound: the core must never wait for us, and what is in it is bounded
// by what the core was asked.
type outbox struct {
	mu     sync.Mutex
	wake   sync.Cond
	queue  []func()
	closed bool
	done   chan struct{}
}

func newOutbox() *outbox {
	o := &outbox{done: make(chan struct{})}
	o.wake.L = &o.mu
	go o.run()
	return o
}

// put adds work; after close it is dropped.
func (o *outbox) put(work func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.queue = append(o.queue, work)
	o.wake.Signal()
}

// close drops what is queued and returns when no work is running any more.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.queue = nil
	o.wake.Signal()
	o.mu.Unlock()
	<-o.done
}

func (o *outbox) run() {
	defer close(o.done)
	var batch []func()
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.wake.Wait()
		}
		if o.closed {
			o.mu.Unlock()
			return
		}
		batch, o.queue = o.queue, batch[:0]
		o.mu.Unlock()
		for i, work := range batch {
			batch[i] = nil
			if o.isClosed() {
				return
			}
			work()
		}
	}
}

func (o *outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}
