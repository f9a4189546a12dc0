package election

import (
	"context"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Depose releases the Lease on behalf of a holder that is proven dead, so that
// nobody has to wait for it to expire. dead says whether an identity is one of
// which there is such proof: its process has been waited for. died is when that
// ended, by the wall clock of this machine; the Lease tells the successor. last is
// the Lease as the dead knew it, which saves reading it if that is still so; it may
// be nil. Depose returns the holder that was deposed and its epoch; the holder is empty
// if the Lease was not held by the dead. The trace that ctx is part of goes on in the
// successor, as with Release.
func Depose(
	ctx context.Context, client LeaseClient, last *coordinationv1.Lease, died time.Time, dead func(holder string) bool,
) (holder string, epoch uint64, err error) {
	for {
		lease := last
		if last == nil {
			lease, err = client.Get(ctx)
		}
		if apierrors.IsNotFound(err) {
			return "", 0, nil
		}
		if err != nil {
			return "", 0, fmt.Errorf("election: depose: %w", err)
		}
		rec := parse(lease)
		last = nil
		if rec.holder == "" || !dead(rec.holder) {
			return "", 0, nil
		}
		_, err = client.Write(ctx, bereft(ctx, lease, died))
		// The last renewal of the dead may have been under way.
		if (apierrors.IsConflict(err) || apierrors.IsNotFound(err)) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return "", 0, fmt.Errorf("election: depose %q: %w", rec.holder, err)
		}
		return rec.holder, rec.transitions, nil
	}
}

// ProvenDead tells the elector that the process which campaigned as identity has
// ended, and will never be back: if it holds the Lease, that is free. The proof is
// the caller's responsibility; see doc.go for what is one. To be told of an
// identity that never leads does no harm.
func (e *Elector) ProvenDead(identity string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dead = remember(e.dead, identity)
	e.seen.wake()
}

// remembered is more than there can be to know between two terms. To forget something
// costs no more than waiting for the Lease to expire.
const remembered = 64

// remember adds what is not known yet, in place of the oldest where that is too much.
func remember[T comparable](known []T, it T) []T {
	if slices.Contains(known, it) {
		return known
	}
	return append(known[max(0, len(known)-remembered+1):], it)
}

// provenDead is called without the lock held, by judge only.
func (e *Elector) provenDead(identity string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.dead, identity)
}
