package coordinator

import (
	"context"
	"sync"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// item is one entry of the mailbox: an event to step, or a query that reads the
// ledger between two steps.
type item struct {
	event ledger.Event
	query func(*ledger.Ledger)
}

// mailbox carries events to the goroutine that owns the ledger, in the order in
// which they were put. It never drops. Producers that can wait use put, which
// blocks while the mailbox is full; the engine's callbacks and the executors,
// which must not wait, use push: what they can have outstanding is bounded by
// the number of tasks.
type mailbox struct {
	limit int

	mu     sync.Mutex
	items  []item
	closed bool
	ready  chan struct{} // holds one token while items is not empty
	space  chan struct{} // closed and replaced whenever items is taken
}

func newMailbox(limit int) *mailbox {
	return &mailbox{limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{})}
}

// push appends without waiting. It reports whether the mailbox is still open.
func (m *mailbox) push(it item) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.append(it)
}

// put appends, waiting for room. It reports false once ctx or the mailbox ends.
func (m *mailbox) put(ctx context.Context, it item) bool {
	for {
		m.mu.Lock()
		if len(m.items) < m.limit || m.closed {
			ok := m.append(it)
			m.mu.Unlock()
			return ok
		}
		space := m.space
		m.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return false
		}
	}
}

func (m *mailbox) append(it item) bool {
	if m.closed {
		return false
	}
	m.items = append(m.items, it)
	select {
	case m.ready <- struct{}{}:
	default:
	}
	return true
}

// take returns everything in the mailbox, in order, reusing buf's memory.
func (m *mailbox) take(buf []item) []item {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.items
	clear(buf[:cap(buf)])
	m.items = buf[:0]
	if len(taken) > 0 {
		close(m.space)
		m.space = make(chan struct{})
	}
	return taken
}

// close refuses what comes later and wakes every waiting producer.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		close(m.space)
		m.space = make(chan struct{})
	}
}
