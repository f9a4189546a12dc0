package election

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// renewLoop renews until the term is over.
func (t *Term) renewLoop() {
	defer close(t.stopped)
	began := t.taken.sent
	for {
		sleep(t.inner, time.Until(began.Add(t.cfg.RetryPeriod)))
		if t.Context().Err() != nil {
			return
		}
		began = time.Now()
		if err := t.renew(); err != nil && t.Valid() {
			t.elector.metrics.renewFailures.Inc()
			t.elector.log.Warn("lease not renewed", "epoch", t.tenure.epoch, "err", err,
				"left", time.Until(t.Deadline()).Round(time.Millisecond))
		}
	}
}

// renew writes the Lease once more. A conflict is looked into at once: either
// the term has been lost, or somebody touched the Lease without taking it.
func (t *Term) renew() error {
	const tries = 3
	var err error
	for range tries {
		if err = t.renewOnce(); err == nil || !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return err
		}
		// Reading tells the term what it finds.
		if _, _, rerr := t.elector.read(t.inner); rerr != nil {
			return errors.Join(err, rerr)
		}
		if !t.Valid() {
			return nil
		}
	}
	return err
}

// renewOnce anchors the new deadline at the moment before the request is sent:
// whoever sees the write saw it later than that.
func (t *Term) renewOnce() error {
	t.mu.Lock()
	last := t.lease
	t.mu.Unlock()
	cfg := t.elector.paced()
	ctx, cancel := context.WithTimeout(t.inner, cfg.RequestTimeout)
	defer cancel()
	sent := time.Now()
	// The renew time follows the monotonic clock from the acquisition on, so that
	// a wall clock that is set back cannot make two renewals look alike.
	renewed := t.taken.sent.Add(sent.Sub(t.taken.sent))
	t.sending(write{renewed, cfg})
	lease, err := t.elector.lease.Write(ctx, held(last, cfg, t.tenure, renewed))
	if err != nil {
		return err
	}
	t.elector.metrics.renewSeconds.Observe(time.Since(sent).Seconds())
	t.cfg.Renewed(lease)
	t.elector.see(lease, lease.ResourceVersion, never)
	t.extend(write{sent, cfg})
	return nil
}

// Release gives the Lease up so that a successor can take it at once, and names
// a preferred one unless that is empty: an identity, or the name of a replica
// that identities begin with, followed by an underscore. It is called only after all work of the
// term has stopped, and ends the term if it is not over. The Lease is touched
// only while this term still holds it; a *LostError says that it does not.
// leaseTransitions stays as it is. The trace that ctx is part of is left on the
// Lease, for the successor to go on with: see Term.Trace.
//
// It retries until ctx ends or the Lease has expired anyway.
func (t *Term) Release(ctx context.Context, preferred string) error {
	t.Finished()
	ctx, cancel := context.WithTimeout(ctx, t.LeaseDuration())
	defer cancel()
	select {
	case <-t.stopped: // no renewal of this term is in flight any more
	case <-ctx.Done():
		return fmt.Errorf("election: release of epoch %d: %w", t.tenure.epoch, ctx.Err())
	}
	for {
		err := t.release(ctx, preferred)
		if err == nil || errors.Is(err, ErrLost) {
			return err
		}
		t.elector.log.Warn("lease not released", "epoch", t.tenure.epoch, "err", err)
		sleep(ctx, t.cfg.RetryPeriod/5)
		if ctx.Err() != nil {
			return fmt.Errorf("election: release of epoch %d: %w", t.tenure.epoch, err)
		}
	}
}

func (t *Term) release(ctx context.Context, preferred string) error {
	rec, _, err := t.elector.read(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	held := rec.exists() && t.holds(rec)
	t.mu.Unlock()
	if !held {
		return &LostError{By: rec.holder, Transitions: rec.transitions, Deleted: !rec.exists()}
	}
	ctx, cancel := context.WithTimeout(ctx, t.elector.paced().RequestTimeout)
	defer cancel()
	lease, err := t.elector.lease.Write(ctx, vacated(ctx, rec.lease, preferred))
	if err != nil {
		return err
	}
	t.elector.see(lease, lease.ResourceVersion, never)
	t.elector.log.Info("lease released", "epoch", t.tenure.epoch, "preferred", preferred)
	return nil
}
