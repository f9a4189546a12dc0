package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Run writes until ctx ends, which is followed by a flush of what is pending for
// at most FinalFlush, without callbacks, and nil; or until the fence is lost,
// which yields ErrFenced. It must be called once.
func (m *Mirror) Run(ctx context.Context) error {
	// Requests outlive ctx for the final flush, but not Run.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	defer close(m.ended)
	defer m.metrics.unregister()
	defer work.Wait()
	defer cancel()
	patience := time.NewTimer(m.cfg.Patience)
	defer patience.Stop()
	idle := time.NewTicker(m.cfg.CheckInterval)
	defer idle.Stop()
	outcomes, checks := make(chan outcome, 1), make(chan error, 1)
	ended, deadline := ctx.Done(), (<-chan time.Time)(nil)
	busy, checking := false, false
	reclaims := make(chan reclaimed, 1)
	for {
		batch, rest := m.take(busy)
		if batch != nil {
			busy = true
			m.answered()
			patience.Reset(m.cfg.Patience)
			work.Go(func() { outcomes <- m.writer.write(requests, batch) })
		}
		if ended != nil {
			m.release(ctx)
		} else if !busy {
			return m.stop(nil)
		}
		wishes := m.reclaims
		if busy {
			wishes = nil // after the batch
		}
		select {
		case wish := <-wishes:
			busy = true
			work.Go(func() {
				got := m.grant(wish)
				reclaims <- got
				wish.done <- got
			})
		case got := <-reclaims:
			busy = false
			if err := m.granted(got); err != nil {
				return m.stop(err)
			}
		case <-m.wake:
		case <-after(rest):
		case <-patience.C:
			if busy {
				patience.Reset(m.stall())
			}
		case out := <-outcomes:
			busy = false
			if out.err != nil {
				return m.stop(out.err)
			}
			prune := m.landed(out)
			for _, landed := range out.landed {
				landed()
			}
			if prune {
				m.prune(requests, &work)
			}
		case <-idle.C:
			if !busy && !checking {
				checking = true
				fence := m.writer.fence
				work.Go(func() { checks <- m.writer.store.Check(requests, fence) })
			}
		case err := <-checks:
			checking = false
			if errors.Is(err, ErrFenced) {
				return m.stop(err)
			}
		case <-ended:
			m.end()
			ended, deadline = nil, time.After(m.cfg.FinalFlush)
		case <-deadline:
			cancel()
			deadline = nil
		}
	}
}

// end has all that is pending written without a rest.
func (m *Mirror) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ending = true
	m.hurry()
}

// prune has old terms removed, beside the batches.
func (m *Mirror) prune(ctx context.Context, work *sync.WaitGroup) {
	fence, most := m.writer.fence, m.writer.maxOps
	work.Go(func() {
		m.writer.prune(ctx, fence, most)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.pruning = false
		m.announce()
	})
}

// take returns the next batch, nil if there is none or one is under way, and for how long it
// has to rest before there is one.
func (m *Mirror) take(busy bool) (batch []*entry, rest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if busy {
		return nil, 0
	}
	if m.queue.len() == 0 || !m.hurried {
		m.settle()
		return nil, 0
	}
	if rest := m.pace.rest(m.queue.len()); rest > 0 && !m.ending {
		return nil, rest
	}
	batch = m.queue.take(m.cfg.MaxOps)
	m.hurried = m.queue.len() > 0
	m.flight = len(batch)
	return batch, 0
}

// settle works out which Appends are durable, with no batch in flight: all
// before the one that the front of the queue came from. m.mu is held.
func (m *Mirror) settle() {
	durable := m.last
	if m.queue.len() > 0 {
		durable = m.queue.fifo[0].first - 1
	}
	if durable == m.durable {
		return
	}
	m.durable = durable
	m.announce()
	if !m.suspendedSince.IsZero() && m.durable >= m.ahead {
		m.log.Info("mirror caught up: every effect is backed by a durable change again",
			"suspended", time.Since(m.suspendedSince).String(), "revision", m.revision)
		m.suspendedSince = time.Time{}
		m.metrics.suspended.Set(0)
	}
}

// landed takes note of a batch that is durable. It says whether old terms are to be removed
// after it, once in a term. That counts as begun here: nobody may find the mirror settled in
// between.
func (m *Mirror) landed(out outcome) (prune bool) {
	prune = out.terms && !m.writer.pruned
	m.writer.pruned = m.writer.pruned || prune
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pace.landed(m.flight)
	m.flight = 0
	m.pruning = m.pruning || prune
	m.revision = out.revision
	m.metrics.revision.Set(float64(out.revision))
	m.lastError = ""
	for _, key := range out.written {
		delete(m.refused, key)
	}
	for key, why := range out.refused {
		m.refused[key] = why
	}
	if !m.stalledSince.IsZero() {
		m.log.Info("etcd answers again", "after", time.Since(m.stalledSince).String(), "pending", m.queue.len())
		m.stalledSince = time.Time{}
	}
	m.settle()
	return prune
}

// answered takes note that etcd is given a fresh chance, or has used it.
func (m *Mirror) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress = time.Now()
	m.attempts++
}

// stall takes note if etcd has not answered for as long as patience lasts, and
// says when to look again.
func (m *Mirror) stall() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if left := m.cfg.Patience - time.Since(m.progress); left > 0 {
		return left
	}
	if !m.stalledSince.IsZero() {
		return m.cfg.Patience
	}
	m.stalledSince = m.progress
	consequence := "effects wait"
	if m.cfg.Policy == Available {
		consequence = "effects run ahead of durability"
		if m.suspendedSince.IsZero() {
			m.suspendedSince = time.Now()
			m.metrics.suspended.Set(1)
			m.metrics.suspensions.Inc()
		}
	}
	m.log.Warn("etcd does not answer: "+consequence, "policy", string(m.cfg.Policy), "err", m.lastError,
		"pending", m.queue.len()+m.flight)
	m.announce()
	return m.cfg.Patience
}

// release runs the callbacks that need not wait any longer. Each is looked at
// anew, as one may take its time, or end the context.
func (m *Mirror) release(ctx context.Context) {
	for ctx.Err() == nil {
		m.mu.Lock()
		limit := m.durable
		if m.cfg.Policy == Available && !m.stalledSince.IsZero() {
			limit = m.last
			m.ahead = m.last
		}
		if len(m.waiting) == 0 || m.waiting[0].number > limit {
			if len(m.waiting) == 0 {
				m.waiting = nil
				m.announce()
			}
			m.mu.Unlock()
			return
		}
		done := m.waiting[0].done
		m.mu.Unlock()
		done()
		m.mu.Lock()
		// Not before: who flushes waits for the callback, too.
		m.waiting[0].done = nil
		m.waiting = m.waiting[1:]
		m.mu.Unlock()
	}
}

// stop ends the mirror and says why.
func (m *Mirror) stop(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = ErrStopped
	m.waiting = nil
	if m.linger != nil {
		m.linger.Stop()
	}
	defer m.announce()
	switch {
	case errors.Is(err, ErrFenced):
		m.metrics.fenced.Inc()
		m.stopped = err
		return fmt.Errorf("mirror: %w", err)
	case err != nil && !errors.Is(err, context.Canceled):
		m.stopped = err
		return fmt.Errorf("mirror: %w", err)
	}
	if left := m.queue.len() + m.flight; left > 0 {
		m.log.Warn("mirror stops with changes that are not durable", "pending", left, "err", m.lastError)
	}
	return nil
}
