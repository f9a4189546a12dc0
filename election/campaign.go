package election

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// Reason says why a Lease could be taken.
type Reason string

// Reasons. Cleared is a Lease that a third party deleted, wiped or gave an epoch
// that no term had, and that has been left alone for the lease duration. Resumed is one that this elector's own
// unanswered write had taken already. Dead is one whose holder is proven dead: it
// was deposed by whoever had the proof, or this elector was told by ProvenDead.
// Stated is one whose holder has said that its term is over: see TermEnded. Lapsed
// is one that still names the last term of this elector, which was not renewed in
// time.
const (
	Vacant   Reason = "vacant"
	Released Reason = "released"
	Expired  Reason = "expired"
	Cleared  Reason = "cleared"
	Resumed  Reason = "resumed"
	Dead     Reason = "dead"
	Stated   Reason = "stated"
	Lapsed   Reason = "lapsed"
)

// verdict is when the Lease may be taken, if nothing changes before, and why.
type verdict struct {
	at  time.Time
	why Reason
}

// judge says when a sighting of the Lease entitles this replica to take it. It
// never looks at the times in the record.
func (e *Elector) judge(s sighting) verdict {
	patience := max(s.patience, s.rec.duration, e.cfg.LeaseDuration)
	switch {
	case !s.rec.exists() && s.floor == 0:
		return verdict{s.changed, Vacant}
	case !s.rec.exists():
		return verdict{s.changed.Add(patience), Cleared}
	case s.edited: // whatever else it says may not be true either
		return verdict{s.changed.Add(patience), Cleared}
	case s.rec.holder != "" && e.mine(s.rec):
		return verdict{s.changed, Resumed}
	case s.rec.holder != "" && e.provenDead(s.rec.holder) && s.rec.transitions >= s.floor:
		return verdict{s.changed, Dead}
	case s.rec.holder != "" && e.termEnded(s.rec) && s.rec.transitions >= s.floor:
		return verdict{s.changed, Stated}
	case s.rec.holder != "" && e.lapsed(s.rec) && s.rec.transitions >= s.floor:
		return verdict{s.changed, Lapsed}
	case s.rec.holder != "":
		return verdict{s.changed.Add(patience), Expired}
	case !s.rec.released() || s.rec.transitions < s.floor:
		return verdict{s.changed.Add(patience), Cleared}
	case s.rec.preferred != "" && !s.rec.prefers(e.cfg.Identity):
		return verdict{s.changed.Add(e.cfg.PreferredWait), Released}
	case !s.rec.died.IsZero():
		return verdict{s.changed, Dead}
	case s.floor == 0:
		return verdict{s.changed, Vacant}
	default:
		return verdict{s.changed, Released}
	}
}

// mine reports whether the record is an acquisition that this elector wrote but
// never got an answer for: nobody has worked under it. It is called without the
// lock held, by Campaign only or for display.
func (e *Elector) mine(rec record) bool {
	_, ours := e.attemptSeen(rec)
	return ours
}

// Campaign blocks until this replica holds the Lease, and returns its Term. It
// fails when ctx ends first, or with ErrTermUnfinished while the previous Term
// of this elector may still be at work. A Term that is won just as ctx ends is
// returned all the same: the caller must release it.
//
// The Term does not end with ctx; its context carries ctx's values.
func (e *Elector) Campaign(ctx context.Context) (*Term, error) {
	e.mu.Lock()
	busy := e.term != nil
	e.mu.Unlock()
	if busy {
		return nil, ErrTermUnfinished
	}
	var detected time.Time // when the Lease was first seen to be free
	paused := false        // the others are given a pause once each time it becomes free
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, changed := e.snapshot()
		if !s.synced {
			await(ctx, changed, time.Time{})
			continue
		}
		v := e.judge(s)
		if time.Now().Before(v.at) {
			detected, paused = time.Time{}, false
			await(ctx, changed, v.at)
			continue
		}
		if detected.IsZero() {
			detected = time.Now()
			e.log.Info("lease is free", "why", v.why, "from", s.lastHolder(), "transitions", s.rec.transitions)
		}
		if pause := e.pause(s); !paused && pause > 0 {
			paused = true
			await(ctx, changed, time.Now().Add(pause))
			continue
		}
		term, err := e.take(ctx, s, v, detected)
		if err == nil {
			return term, nil
		}
		e.retry(ctx, s.rec.version, err)
	}
}

// pause is how long others are given to take the Lease first; the preferred
// successor gives nobody anything.
func (e *Elector) pause(s sighting) time.Duration {
	preferred := s.rec.holder == "" && s.rec.preferred != "" && s.rec.prefers(e.cfg.Identity)
	switch {
	case preferred, e.cfg.First != nil && e.cfg.First(s.lastHolder()):
		return 0
	case e.cfg.First != nil:
		return e.cfg.Deference
	case e.cfg.Jitter == 0:
		return 0
	}
	return rand.N(e.cfg.Jitter)
}

// lastHolder is who held the Lease last, as far as known.
func (s sighting) lastHolder() string {
	if s.rec.holder != "" {
		return s.rec.holder
	}
	return s.previous
}

// releaseTrace is the trace that a release left. On a Lease that has a holder it
// is a leftover: that holder does not know the annotation.
func (s sighting) releaseTrace() string {
	if s.rec.holder != "" {
		return ""
	}
	return s.rec.trace
}

// Reasons not to take the Lease after all.
var (
	errNotYet  = errors.New("an epoch is on record that the lease does not know: its lead may not have stopped yet")
	errTooLate = errors.New("the answer came after the deadline")
)

// retry prepares the next attempt after one has failed that built on a version.
func (e *Elector) retry(ctx context.Context, version string, err error) {
	switch {
	case ctx.Err() != nil || errors.Is(err, errNotYet):
		return
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		// Somebody was quicker; what they wrote decides how to go on.
		if _, _, err = e.read(ctx); err == nil {
			return
		}
	}
	e.log.Warn("lease not taken", "err", err)
	pause := time.Now().Add(jittered(e.cfg.RetryPeriod))
	for time.Now().Before(pause) && ctx.Err() == nil {
		s, changed := e.snapshot()
		if s.rec.version != version && e.mine(s.rec) {
			return // what the answer would have said; to read it again costs time
		}
		await(ctx, changed, pause)
	}
	// A write without an answer may have landed.
	if _, _, err := e.read(ctx); err != nil && ctx.Err() == nil {
		e.log.Debug("lease not read", "err", err)
	}
}

// take tries once to turn what has been seen into a Term.
func (e *Elector) take(ctx context.Context, s sighting, v verdict, detected time.Time) (*Term, error) {
	known, err := e.askKnownEpoch(ctx)
	if err != nil {
		return nil, err
	}
	s.learn(known)
	if v = e.judge(s); time.Now().Before(v.at) {
		return nil, errNotYet
	}
	how := taken{
		why: v.why, from: s.lastHolder(), trace: s.releaseTrace(), died: s.rec.died, changed: s.changed, detected: detected,
	}
	a, ours := e.attemptSeen(s.rec)
	// Nobody has worked under an epoch that is ours and that nobody has on record:
	// to take another instead would never end where each answer comes late.
	ours = ours && v.why == Resumed && s.floor == a.epoch && known < a.epoch
	if ours && !a.sent.IsZero() {
		e.measured(time.Since(a.sent), true)
	}
	if ours && time.Until(a.deadline()) >= e.cfg.RetryPeriod {
		how.write, how.acquired = a.write, time.Now()
		return e.begin(ctx, a.tenure, s.rec.lease, how), nil
	}
	if s.edited {
		if err := e.discard(ctx, s.rec); err != nil {
			return nil, err
		}
		s.rec = record{}
	}
	epoch := s.floor + 1
	if epoch > maxEpoch {
		return nil, fmt.Errorf("epoch %d does not fit into leaseTransitions", epoch)
	}
	cfg := e.paced()
	sent := time.Now()
	n := tenure{holder: e.cfg.Identity, epoch: epoch, acquired: sent.UTC().Truncate(time.Microsecond)}
	if ours {
		n = a.tenure
	}
	w := write{sent, cfg}
	e.attempted(attempt{n, w})
	// Not cut short by ctx: a write that is given up may still land and would
	// lock everyone out for a lease duration.
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.RequestTimeout)
	defer cancel()
	lease, err := e.lease.Write(wctx, held(s.rec.lease, cfg, n, sent))
	if err != nil {
		return nil, err
	}
	how.write, how.acquired = w, time.Now()
	e.measured(how.acquired.Sub(sent), true)
	if how.acquired.Sub(sent) >= cfg.RenewDeadline {
		e.see(lease, lease.ResourceVersion, never)
		return nil, errTooLate
	}
	return e.begin(ctx, n, lease, how), nil
}

// discard deletes the Lease, which the caller may take, as it has an epoch that no
// term had. It is not put right in place, for the fence of the API server rests on
// it that the epoch of one Lease never falls.
func (e *Elector) discard(ctx context.Context, rec record) error {
	e.log.Warn("no term had the epoch of the lease: deleting the lease", "transitions", rec.transitions, "holder", rec.holder)
	ctx, cancel := context.WithTimeout(ctx, e.cfg.RequestTimeout)
	defer cancel()
	if err := e.lease.Delete(ctx, rec.lease); err != nil {
		return fmt.Errorf("deleting the lease with leaseTransitions %d, an epoch that no term had: %w", rec.transitions, err)
	}
	return nil
}

// begin starts the term of a Lease that is known to be taken.
func (e *Elector) begin(ctx context.Context, n tenure, lease *coordinationv1.Lease, how taken) *Term {
	e.cfg.Renewed(lease)
	t := newTerm(ctx, e, n, lease, how)
	e.see(lease, lease.ResourceVersion, never)
	e.mu.Lock()
	e.term = t
	e.attempts = nil
	s := e.seen // perhaps something newer than the write already
	e.mu.Unlock()
	t.observe(s.rec, s.seq)
	t.start()
	return t
}

// write is one of a tenure: the moment before it was sent and the tuning whose
// duration it promises.
type write struct {
	sent     time.Time
	promised Config
}

// deadline is how long a term is valid once the write is known to have landed.
func (w write) deadline() time.Time { return w.sent.Add(w.promised.RenewDeadline) }

// stopBy is when its work must have stopped.
func (w write) stopBy() time.Time { return w.sent.Add(w.promised.stopAfter()) }

// attempt is a write that takes the Lease, or takes it once more for a tenure that
// has not begun.
type attempt struct {
	tenure
	write
}

// attempted remembers an acquisition before it is written. To forget an old one
// costs no more than waiting for the Lease to expire.
func (e *Elector) attempted(a attempt) {
	const remembered = 32
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.attempts) == remembered {
		e.attempts = e.attempts[1:]
	}
	e.attempts = append(e.attempts, a)
}

// attemptSeen returns the attempt that wrote the record. If its write is not known
// any more it is an old one, of which nothing is left.
func (e *Elector) attemptSeen(rec record) (a attempt, ours bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, tried := range e.attempts {
		switch {
		case !tried.holds(rec):
			continue
		case rec.wroteAt(tried.sent):
			return tried, true
		}
		a, ours = attempt{tenure: tried.tenure}, true
	}
	return a, ours
}

// askKnownEpoch takes in the epoch that is on record elsewhere, and returns it.
func (e *Elector) askKnownEpoch(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.RequestTimeout)
	defer cancel()
	known, err := e.knownEpoch(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the known epoch: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen.learn(known)
	return known, nil
}

// finished makes room for the next term.
func (e *Elector) finished(t *Term) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term != t {
		return
	}
	e.term = nil
	if lease, cause := t.left(); errors.Is(cause, ErrRenewDeadline) {
		e.last = lapse{t.tenure, lease}
	}
}

// lapse is a term that was not renewed in time, and the UID of its Lease.
type lapse struct {
	tenure
	lease types.UID
}

// lapsed reports whether the record still is of this elector's last term, which
// was not renewed in time and whose work has stopped: nobody has followed it. It is
// called without the lock held, by judge only.
func (e *Elector) lapsed(rec record) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last.holder != "" && e.last.holds(rec) && e.last.lease == rec.uid
}
