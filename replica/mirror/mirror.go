package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror/internal/fenced"
	"github.com/understudy-ha/understudy/replica/record"
)

// ErrStopped says that Run has returned: what is pending stays pending.
var ErrStopped = errors.New("mirror has stopped")

// Mirror writes the changes of one term of leadership.
type Mirror struct {
	cfg     Config
	keys    record.Keys
	log     *slog.Logger
	metrics *metrics
	writer  *writer
	wake    chan struct{} // tells Run that there is something to look at
	// reclaims are wishes for a newer epoch; ended is closed when Run returns.
	reclaims chan reclaim
	ended    chan struct{}

	mu    sync.Mutex
	queue queue
	// hurried says that the queue is to be written now; linger is a timer that says so.
	hurried bool
	linger  *time.Timer
	pace    pace
	ending  bool     // no batch rests any more
	pruning bool     // old terms are being removed
	flight  int      // entries of the batch that is being written
	waiting []waiter // callbacks that have not run, in order of Append
	// Appends are numbered. last is the newest, durable the newest that is
	// durable together with all before it, and ahead the newest whose callback
	// ran before that.
	last, durable, ahead uint64
	progress             time.Time // when etcd last took something, or got the batch in flight
	stalledSince         time.Time // since when etcd gives no answer; zero if it does
	suspendedSince       time.Time // since when ahead > durable; zero if it is not
	revision             int64
	lastError            string
	attempts             uint64 // that etcd answered, or did not in time
	refused              map[string]string
	stopped              error         // why Run has returned
	changed              chan struct{} // closed, and replaced, when any of this changes
}

type waiter struct {
	number uint64
	done   func()
}

// New returns a mirror for the term that was claimed. reg may be nil.
func New(cli *clientv3.Client, claimed Claimed, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Mirror, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	keys := record.Keys{Prefix: cfg.Prefix}
	if !claimed.fence.Valid() || claimed.fence.LeaderKey() != keys.Leader() {
		return nil, fmt.Errorf("mirror: prefix %q has not been claimed", cfg.Prefix)
	}
	m := &Mirror{
		cfg:      cfg,
		keys:     keys,
		log:      log,
		wake:     make(chan struct{}, 1),
		queue:    newQueue(),
		revision: claimed.Revision,
		refused:  make(map[string]string),
		changed:  make(chan struct{}),
		reclaims: make(chan reclaim),
		ended:    make(chan struct{}),
	}
	var err error
	m.metrics, err = newMetrics(reg, func() float64 { return float64(m.Status().Pending) })
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	m.metrics.revision.Set(float64(claimed.Revision))
	m.writer = &writer{
		store: fenced.Open(cli, cfg.RequestTimeout), fence: claimed.fence, keys: keys, epoch: claimed.Epoch,
		maxOps: cfg.MaxOps, maxBytes: cfg.MaxBytes, metrics: m.metrics, log: log, failed: m.noteError, answered: m.answered,
	}
	return m, nil
}

// Append hands over changes, and never waits. done, which may be nil, is called
// once, in order of Append, from Run's goroutine, when the changes are durable or
// the policy no longer waits for that; it must not block. It is not called after
// a lost fence, nor once the context of Run has ended.
func (m *Mirror) Append(changes []ledger.Change, done func()) {
	m.append(entriesOf(changes), done, true)
}

// AppendLater does what Append does with changes for which no pod waits: see lingering.
func (m *Mirror) AppendLater(changes []ledger.Change, done func()) {
	m.append(entriesOf(changes), done, false)
}

func entriesOf(changes []ledger.Change) []entry {
	entries := make([]entry, len(changes))
	for i, ch := range changes {
		entries[i] = entry{slot: slot{key: ch.Key}, change: ch}
	}
	return entries
}

// PutTerm writes the record of a term, fenced and retried like everything else, as
// AppendLater does. Of older terms the newest 100 are kept.
func (m *Mirror) PutTerm(t record.Term) {
	if t.Epoch > 0 {
		m.append([]entry{{slot: slot{epoch: t.Epoch}, term: t}}, nil, false)
	}
}

// PutConfiguration writes the queue configuration in force, fenced and retried like
// everything else, as AppendLater does. Its Epoch is that of the lead that writes, whatever it
// says.
func (m *Mirror) PutConfiguration(c record.Configuration) {
	m.append([]entry{{slot: slot{configuration: true}, configuration: c}}, nil, false)
}

// lingering is how long something waits for which no pod does. There is one batch at a time:
// what a new lead has to write down goes with its first decisions, instead of ahead of them.
const lingering = 50 * time.Millisecond

func (m *Mirror) append(entries []entry, done func(), hurry bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped != nil {
		return
	}
	m.last++
	for _, e := range entries {
		e.first = m.last
		m.queue.put(e)
	}
	if done != nil {
		m.waiting = append(m.waiting, waiter{m.last, done})
	}
	switch {
	case hurry:
		m.hurry()
	case m.linger == nil:
		m.linger = time.AfterFunc(lingering, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.hurry()
		})
	}
}

// hurry has all that waits written. m.mu is held.
func (m *Mirror) hurry() {
	m.hurried = true
	if m.linger != nil {
		m.linger.Stop()
		m.linger = nil
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Flush waits until nothing is pending and every callback has run.
func (m *Mirror) Flush(ctx context.Context) error {
	for {
		m.mu.Lock()
		if m.queue.len() > 0 || len(m.waiting) > 0 {
			m.hurry()
		}
		settled := m.queue.len() == 0 && m.flight == 0 && !m.pruning && m.durable == m.last && len(m.waiting) == 0
		stopped, changed := m.stopped, m.changed
		m.mu.Unlock()
		switch {
		case settled:
			return nil
		case stopped != nil:
			return fmt.Errorf("flush: %w", stopped)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("flush: %w", context.Cause(ctx))
		}
	}
}

// Status is what operators want to know about a mirror.
type Status struct {
	// Revision is that of the newest transaction, at first that of the claim.
	Revision int64
	// Pending counts the records whose newest version is not durable.
	Pending int
	// Suspended says that effects have run ahead of durability, and that not all
	// of their changes are durable yet.
	Suspended bool
	// Stalled says that etcd has not given a good answer for longer than Patience.
	Stalled bool
	// Since says when the suspension began, or else the stall.
	Since time.Time
	// LastError is that of the last request without a good answer, empty once
	// etcd answers again.
	LastError string
	// Attempts counts the requests that have come to an end, with an answer or without:
	// as long as it rises the mirror is at work.
	Attempts uint64
	// Refused lists the keys of records that etcd does not take, sorted.
	Refused []string
}

// Status returns the state of the mirror now.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Revision:  m.revision,
		Pending:   m.queue.len() + m.flight,
		Suspended: !m.suspendedSince.IsZero(),
		Stalled:   !m.stalledSince.IsZero(),
		Since:     m.suspendedSince,
		LastError: m.lastError,
		Attempts:  m.attempts,
		Refused:   slices.Sorted(maps.Keys(m.refused)),
	}
	if !s.Suspended {
		s.Since = m.stalledSince
	}
	return s
}

func (m *Mirror) noteError(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastError = err.Error()
	m.attempts++
}

// announce wakes all who wait for a change; m.mu is held.
func (m *Mirror) announce() {
	close(m.changed)
	m.changed = make(chan struct{})
}
