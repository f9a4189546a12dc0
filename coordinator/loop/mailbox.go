package loop

import (
	"context"
	"sync"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// item is one entry of the mailbox: an event to step, or a question to the ledger
// between two steps.
type item struct {
	event ledger.Event
	ask   func(*ledger.Ledger)
}

// Mailbox carries events to the goroutine that owns the ledger, in the order in
// which they were put. It never drops. Producers that can wait use Put, which
// blocks while the mailbox is full; the engine's callbacks and the executors,
// which must not wait, use Push: what they can have outstanding is bounded by
// the number of tasks.
type Mailbox struct {
	limit int

	mu     sync.Mutex
	items  []item
	ready  chan struct{} // holds one token while items is not empty
	space  chan struct{} // closed and replaced whenever items is taken
	closed chan struct{} // closed once by Close
}

// NewMailbox returns a mailbox in which Put finds room for limit entries.
func NewMailbox(limit int) *Mailbox {
	return &Mailbox{
		limit: limit, ready: make(chan struct{}, 1), space: make(chan struct{}), closed: make(chan struct{}),
	}
}

// Push appends an event without waiting. It reports whether the mailbox is still
// open.
func (m *Mailbox) Push(event ledger.Event) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.append(item{event: event})
}

// Put appends an event, waiting for room. It reports false once ctx or the mailbox
// ends.
func (m *Mailbox) Put(ctx context.Context, event ledger.Event) bool {
	return m.put(ctx, item{event: event})
}

// Ask has question answered by the goroutine that owns the ledger, after everything
// that the same caller has put before. It reports false if ctx or the mailbox ends
// first: whoever asked is told that this replica no longer leads.
func Ask[T any](ctx context.Context, m *Mailbox, question func(*ledger.Ledger) T) (answer T, ok bool) {
	answers := make(chan T, 1) // so that an answer that comes too late waits for nobody
	if !m.put(ctx, item{ask: func(l *ledger.Ledger) { answers <- question(l) }}) {
		return answer, false
	}
	select {
	case answer = <-answers:
		return answer, true
	case <-m.closed:
	case <-ctx.Done():
	}
	return answer, false
}

func (m *Mailbox) put(ctx context.Context, it item) bool {
	for {
		m.mu.Lock()
		if len(m.items) < m.limit || m.isClosed() {
			ok := m.append(it)
			m.mu.Unlock()
			return ok
		}
		space := m.space
		m.mu.Unlock()
		select {
		case <-space:
		case <-m.closed:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// append adds an entry; m.mu is held.
func (m *Mailbox) append(it item) bool {
	if m.isClosed() {
		return false
	}
	m.items = append(m.items, it)
	select {
	case m.ready <- struct{}{}:
	default:
	}
	return true
}

func (m *Mailbox) isClosed() bool {
	select {
	case <-m.closed:
		return true
	default:
		return false
	}
}

// waiting returns how many entries wait.
func (m *Mailbox) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}

// take returns everything in the mailbox, in order, reusing buf's memory.
func (m *Mailbox) take(buf []item) []item {
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

// Close refuses what comes later, wakes every waiting producer, and answers every
// open question with the refusal. What was put before may still be stepped by a loop
// that runs.
func (m *Mailbox) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.isClosed() {
		close(m.closed)
	}
}
