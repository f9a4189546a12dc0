package election

import (
	"context"
	"errors"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Observation is the Lease as this replica last saw it. Times said to be local
// carry a monotonic reading; the others are what the holder's clock said.
type Observation struct {
	// Synced is false until the Lease has been read once; the rest is then zero.
	Synced bool
	// Exists is false if there is no Lease.
	Exists bool
	// Holder is the identity that holds the Lease, empty for none.
	Holder string
	// Previous is the last other identity seen to hold it.
	Previous string
	// Transitions is the Lease's leaseTransitions: the holder's epoch.
	Transitions uint64
	// LeaseDuration is what the holder promises to renew within.
	LeaseDuration time.Duration
	// AcquireTime and RenewTime are the holder's.
	AcquireTime, RenewTime time.Time
	// Preferred is the successor that a released Lease names.
	Preferred string
	// ResourceVersion is the version observed.
	ResourceVersion string
	// Since is the local time when Holder was first seen; for an empty Holder,
	// when the loss of Previous was detected.
	Since time.Time
	// Changed is the local time when a sign of life was last seen.
	Changed time.Time
	// Expires is the local time at which the Lease may be taken if nothing
	// changes; in the past for a Lease that is free.
	Expires time.Time
	// Watching is true while a watch is open, false while the Lease is polled.
	Watching bool
	// LastError is why the Lease could not be read or watched the last time, nil
	// once it could.
	LastError error
}

// sighting is the elector's memory of the Lease. Its lock is held for
// assignments only.
type sighting struct {
	synced   bool
	seq      uint64 // counts what has been taken in, see accept
	rec      record
	version  string // highest version seen, also after a deletion
	changed  time.Time
	since    time.Time
	previous string
	patience time.Duration // longest duration promised by the last holder
	known    uint64        // highest epoch found on record elsewhere
	floor    uint64        // highest epoch known
	edited   bool          // no term had the Lease's leaseTransitions, says what is on record
	watching bool
	lastErr  error
	notify   chan struct{} // closed and replaced at each change
}

// accept takes a newly seen record in and reports whether it differs.
//
// A read that was sent after everything taken in so far (asOf equals seq) is
// authoritative whatever its version, so that a restored control plane, whose
// versions start lower, is believed. All else must be newer than what is known:
// a watch and a read may overtake each other.
func (s *sighting) accept(rec record, version string, asOf uint64, now time.Time) bool {
	authoritative := asOf == s.seq
	if !authoritative && !newer(version, s.version) {
		return false
	}
	s.seq++
	if version != "" {
		s.version = version
	}
	first := !s.synced
	s.synced = true
	if !first && rec.exists() == s.rec.exists() && rec.version == s.rec.version {
		return false
	}
	if first || !rec.sameSign(s.rec) {
		s.changed = now
	}
	if first || rec.holder != s.rec.holder {
		if s.rec.holder != "" {
			s.previous = s.rec.holder
		}
		s.since = now
	}
	if rec.holder != "" {
		s.patience = rec.duration
	}
	s.edited = s.edited && rec.exists() && rec.transitions == s.rec.transitions
	s.rec = rec
	s.raise()
	s.wake()
	return true
}

// raise raises the floor to what the Lease says, unless no term can have been so
// far ahead of what is on record.
func (s *sighting) raise() {
	if follows(s.rec.transitions, s.known) {
		s.floor = max(s.floor, s.rec.transitions)
	}
}

// learn takes in the epoch that is on record elsewhere at this moment.
func (s *sighting) learn(known uint64) {
	s.known = max(s.known, known)
	s.floor = max(s.floor, s.known)
	s.raise()
	s.edited = s.rec.exists() && !follows(s.rec.transitions, s.known)
}

// wake has everybody look again who waits for a change.
func (s *sighting) wake() {
	close(s.notify)
	s.notify = make(chan struct{})
}

// never is an asOf that no read has: what comes by watch or as the answer to a
// write is ordered by version alone.
const never = ^uint64(0)

// see takes in what came by watch, by read or as the answer to a write; a nil
// lease means that there is none. It reports whether that was news. When it
// returns, the running term knows at least as much: a renewal must not build on
// less than what the watch has already delivered.
func (e *Elector) see(lease *coordinationv1.Lease, version string, asOf uint64) bool {
	rec := parse(lease)
	e.mu.Lock()
	from, was := e.seen.rec.holder, e.seen.synced
	news := e.seen.accept(rec, version, asOf, time.Now())
	now, seq, term := e.seen.rec, e.seen.seq, e.term
	e.mu.Unlock()
	if news && (!was || from != rec.holder) {
		e.log.Info("lease holder", "from", from, "to", rec.holder, "transitions", rec.transitions,
			"exists", rec.exists())
		e.metrics.holderChanges.Inc()
	}
	if term != nil {
		term.observe(now, seq)
	}
	return news
}

// read gets the Lease and takes it in. A Lease that does not exist is no error.
func (e *Elector) read(ctx context.Context) (rec record, news bool, err error) {
	e.mu.Lock()
	asOf := e.seen.seq
	patience := min(e.cfg.RequestTimeout<<e.hung, e.cfg.stretched(e.cfg.MaxLeaseDuration).RequestTimeout)
	e.mu.Unlock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lease, err := e.lease.Get(ctx)
	if apierrors.IsNotFound(err) {
		lease, err = nil, nil
	}
	e.noteError(err)
	e.noteHung(errors.Is(ctx.Err(), context.DeadlineExceeded), time.Since(began) < patience/4)
	if err != nil {
		return record{}, false, err
	}
	rec = parse(lease)
	return rec, e.see(lease, rec.version, asOf), nil
}

// noteHung has the next read wait longer, where reads take more time than they are
// given, and less again once one is quick. That one was answered just in time is no
// reason: the next would be given up, and its connection lost with it.
func (e *Elector) noteHung(hung, quick bool) {
	const most = 8
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case hung:
		e.hung = min(e.hung+1, most)
	case quick:
		e.hung = max(e.hung-1, 0)
	}
}

func (e *Elector) noteError(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen.lastErr = err
}

// snapshot returns what is known now and a channel that is closed when it
// changes.
func (e *Elector) snapshot() (sighting, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen, e.seen.notify
}

// Observed returns the Lease as last seen.
func (e *Elector) Observed() Observation {
	s, _ := e.snapshot()
	o := Observation{
		Synced: s.synced, Watching: s.watching, LastError: s.lastErr,
		Exists: s.rec.exists(), Holder: s.rec.holder, Previous: s.previous, Transitions: s.rec.transitions,
		LeaseDuration: s.rec.duration, AcquireTime: s.rec.acquired, RenewTime: s.rec.renewed, Preferred: s.rec.preferred,
		ResourceVersion: s.rec.version, Since: s.since, Changed: s.changed,
	}
	if s.synced {
		o.Expires = e.judge(s).at
	}
	return o
}

// Changed returns a channel that is closed when the Lease is next seen to have
// changed. Take it before calling Observed, and no change is missed.
func (e *Elector) Changed() <-chan struct{} {
	_, changed := e.snapshot()
	return changed
}
