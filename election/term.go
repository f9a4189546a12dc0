package election

import (
	"context"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Term is the time for which this replica leads. All work done as lead belongs
// to one Term: it runs under Context, sends nothing after Deadline, and has
// stopped before Finished or Release is called.
type Term struct {
	elector *Elector
	cfg     Config
	tenure  tenure
	taken   taken
	inner   context.Context
	cancel  context.CancelCauseFunc
	stopped chan struct{} // closed when the renewal loop has returned
	asked   chan struct{} // closed when somebody asks for a hand-over

	mu       sync.Mutex
	lease    *coordinationv1.Lease // as last seen to be this term's
	seq      uint64                // of the sighting that showed it
	sent     []write               // renewals that have not been seen to land
	last     write                 // that was sent, landed or not
	known    time.Time             // when the last was sent that has landed
	deadline time.Time
	stopBy   time.Time // when the watchdog acts
	cause    error     // set once, when the term is over
	ended    time.Time
	finished bool
	quiet    bool // nothing of the term can write any more
	// successor is whom the asker wants to follow, empty for anyone.
	successor string
	stepDown  bool        // asked is closed
	tolled    bool        // the watchdog has acted
	bell      *time.Timer // at deadline
	dog       *time.Timer // at stopBy
}

// taken is how the term began.
type taken struct {
	why                Reason
	from               string
	trace              string
	died               time.Time
	changed            time.Time
	detected, acquired time.Time
	write
}

func newTerm(ctx context.Context, e *Elector, n tenure, lease *coordinationv1.Lease, how taken) *Term {
	t := &Term{
		elector: e, cfg: e.cfg, tenure: n, taken: how, lease: lease,
		stopped:  make(chan struct{}),
		asked:    make(chan struct{}),
		last:     how.write,
		deadline: how.deadline(),
		stopBy:   how.stopBy(),
	}
	t.inner, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bell = time.AfterFunc(time.Until(t.deadline), func() { t.Valid() })
	t.dog = time.AfterFunc(time.Until(t.stopBy), t.watchdog)
	e.metrics.terms.Inc()
	e.metrics.leading.Set(1)
	e.log.Info("term won", "epoch", n.epoch, "why", how.why, "from", how.from,
		"detected", how.detected, "took", how.acquired.Sub(how.detected))
	return t
}

func (t *Term) start() { go t.renewLoop() }

// Epoch is the term's number: greater than that of every earlier term.
func (t *Term) Epoch() uint64 { return t.tenure.epoch }

// Lease is the UID of the Lease, which stays the same for as long as the term
// lasts.
func (t *Term) Lease() types.UID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease.UID
}

// Why says what made the Lease free.
func (t *Term) Why() Reason { return t.taken.why }

// From is the previous holder as far as known.
func (t *Term) From() string { return t.taken.from }

// Trace is the traceparent of the span in which the Lease was released, empty if
// it was not, or by somebody without traces.
func (t *Term) Trace() string { return t.taken.trace }

// DiedAt is when the process of the previous holder ended, by the clock of its
// machine; zero unless that is why the Lease was free, and known.
func (t *Term) DiedAt() time.Time { return t.taken.died }

// ChangedAt is the local time when the Lease that was taken last changed: when
// the previous holder last renewed or released it, as far as seen from here.
func (t *Term) ChangedAt() time.Time { return t.taken.changed }

// DetectedAt is the local time when the Lease was noticed to be free.
func (t *Term) DetectedAt() time.Time { return t.taken.detected }

// AcquiredAt is the local time when the compare-and-swap had succeeded.
func (t *Term) AcquiredAt() time.Time { return t.taken.acquired }

// Context is cancelled when the term is over, with the cause. Its Err looks at
// the deadline itself, so that a process that was stopped past its deadline
// learns of it from its first look, before any timer has fired.
func (t *Term) Context() context.Context { return termContext{t.inner, t} }

type termContext struct {
	context.Context
	term *Term
}

func (c termContext) Err() error {
	if !c.term.Valid() {
		<-c.Done() // whoever saw the end first is about to cancel
	}
	return c.Context.Err()
}

// Deadline is the time, with a monotonic reading, after which nothing may be
// sent. It moves with each renewal, back if that promises less than the one before,
// and no further once the term is over; it is never later than the end of the term.
func (t *Term) Deadline() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != nil && t.ended.Before(t.deadline) {
		return t.ended
	}
	return t.deadline
}

// Valid reports whether the term is still running. It compares the deadline with
// the clock, and ends the term if that has passed.
func (t *Term) Valid() bool {
	t.mu.Lock()
	if t.cause != nil {
		t.mu.Unlock()
		return false
	}
	late := !time.Now().Before(t.deadline)
	t.mu.Unlock()
	if late {
		t.end(ErrRenewDeadline)
	}
	return !late
}

// Cause is why the term is over, nil while it is valid.
func (t *Term) Cause() error {
	t.Valid()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause
}

// end ends the term. Only the first cause counts.
func (t *Term) end(cause error) {
	t.mu.Lock()
	if t.cause != nil {
		t.mu.Unlock()
		return
	}
	now := time.Now()
	// Renewals in flight and Valid may disagree on which came first; the clock
	// does not.
	if !now.Before(t.deadline) {
		cause = ErrRenewDeadline
	}
	t.cause, t.ended = cause, now
	t.bell.Stop()
	// Somebody else may be at work already: work here gets the usual time to
	// stop, but no more.
	if by := now.Add(t.cfg.grace()); by.Before(t.stopBy) {
		t.stopBy = by
	}
	if !t.finished && !t.quiet {
		t.dog.Reset(time.Until(t.stopBy))
	}
	t.mu.Unlock()
	t.cancel(cause)
	e := t.elector
	e.metrics.leading.Set(0)
	e.metrics.ends.WithLabelValues(causeLabel(cause)).Inc()
	e.log.Info("term over", "epoch", t.tenure.epoch, "cause", cause, "lasted", now.Sub(t.taken.acquired))
}

// watchdog ends the process when work has outlived the term.
func (t *Term) watchdog() {
	t.Valid() // a process that was stopped comes here first
	t.mu.Lock()
	early := time.Until(t.stopBy)
	if t.finished || t.quiet || t.tolled || early > 0 {
		if early > 0 && !t.finished && !t.quiet {
			t.dog.Reset(early)
		}
		t.mu.Unlock()
		return
	}
	t.tolled = true
	cause := t.cause
	t.mu.Unlock()
	t.elector.log.Error("work has outlived its term", "epoch", t.tenure.epoch, "cause", cause)
	t.cfg.Expired(cause)
}

// left returns the UID of the Lease that the term was of, and why it is over.
func (t *Term) left() (lease types.UID, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease.UID, t.cause
}

// observe ends the term if the Lease, as of a sighting, is not this term's.
func (t *Term) observe(rec record, seq uint64) {
	t.mu.Lock()
	if seq <= t.seq {
		t.mu.Unlock()
		return
	}
	t.seq = seq
	if rec.exists() && t.holds(rec) {
		t.lease = rec.lease
		w := t.landed(rec)
		if rec.stepDown != "" && !t.stepDown {
			t.stepDown = true
			if rec.stepDown != Anyone {
				t.successor = rec.stepDown
			}
			close(t.asked)
		}
		t.mu.Unlock()
		if !w.sent.IsZero() {
			t.extend(w)
		}
		return
	}
	t.mu.Unlock()
	t.end(&LostError{By: rec.holder, Transitions: rec.transitions, Deleted: !rec.exists()})
}

// landed returns the renewal that wrote the record, whose answer may be late or
// lost; zero if it is none of those under way or given up.
func (t *Term) landed(rec record) write {
	for i, w := range t.sent {
		if rec.wroteAt(w.sent) {
			t.sent = t.sent[i+1:]
			return w
		}
	}
	return write{}
}

// sending notes a renewal that is about to be sent. It may promise less than the
// last one did, and others may believe it before its answer is here: from now on
// the term ends no later than by its promise.
func (t *Term) sending(w write) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent, t.last = append(t.sent, w), w
	t.rewind(t.deadline, t.stopBy)
}

// rewind sets when the term ends, no later than the last write that was sent allows.
func (t *Term) rewind(deadline, stopBy time.Time) {
	if t.cause != nil {
		return
	}
	t.deadline, t.stopBy = earlier(deadline, t.last.deadline()), earlier(stopBy, t.last.stopBy())
	t.bell.Reset(time.Until(t.deadline))
	t.dog.Reset(time.Until(t.stopBy))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// holds reports whether the record is of this term and of this object.
func (t *Term) holds(rec record) bool {
	return t.tenure.holds(rec) && rec.uid == t.lease.UID
}

// extend takes in a write that has landed.
func (t *Term) extend(w write) {
	t.mu.Lock()
	news := w.sent.After(t.known)
	if news {
		t.known = w.sent
	}
	t.mu.Unlock()
	if news {
		t.elector.measured(time.Since(w.sent), false)
	}
	if !t.Valid() {
		return // an answer that comes too late revives nothing
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause == nil && w.deadline().After(t.deadline) {
		t.rewind(w.deadline(), w.stopBy())
	}
}

// LeaseDuration is how long others wait after the last write of the term: what was
// configured, or more if writes are slow.
func (t *Term) LeaseDuration() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.promised.LeaseDuration
}

// Asked is closed when somebody asks for a hand-over through the Lease: see
// StepDown. The holder then stops its work and calls Release.
func (t *Term) Asked() <-chan struct{} { return t.asked }

// Successor is the replica that Asked was closed for, empty if there is no wish.
func (t *Term) Successor() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.successor
}

// Quiet declares that nothing of the term can write any more: what sends is fenced
// off and no request is in flight. It ends the term if it is not over, and calls the
// watchdog off, so that what is left, which only cleans up, may take its time on a
// busy machine. Finished or Release is still to be called after that.
func (t *Term) Quiet() {
	t.mu.Lock()
	t.quiet = true
	t.dog.Stop()
	t.mu.Unlock()
	t.end(ErrReleased)
}

// Finished declares that all work of the term has stopped: the watchdog is
// called off, renewals end, and the elector may campaign again. The Lease is
// left to expire. Calling it earlier lets two leads work at once.
func (t *Term) Finished() {
	t.mu.Lock()
	done := t.finished
	t.finished = true
	t.dog.Stop()
	t.mu.Unlock()
	if done {
		return
	}
	t.end(ErrReleased)
	t.elector.finished(t)
}
