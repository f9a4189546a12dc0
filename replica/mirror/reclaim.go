package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/replica/mirror/internal/fenced"
	"github.com/understudy-ha/understudy/replica/record"
)

// reclaim is a wish for a newer epoch.
type reclaim struct {
	ctx    context.Context
	leader record.Leader
	done   chan reclaimed // holds one
}

// reclaimed is what came of it.
type reclaimed struct {
	fence fenced.Fence
	err   error
}

// Reclaim claims a newer epoch over the one that this mirror writes in, for a lead that
// goes on after a term that has lapsed. What is pending is written in the new epoch. It
// returns the revision of the claim, and fails with ErrFenced if anybody else has claimed
// an epoch since; the mirror has lost its fence then. While etcd does not answer it
// goes on until ctx ends.
func (m *Mirror) Reclaim(ctx context.Context, leader record.Leader) (int64, error) {
	wish := reclaim{ctx, leader, make(chan reclaimed, 1)}
	select {
	case m.reclaims <- wish:
	case <-m.ended:
		return 0, fmt.Errorf("reclaim: %w", ErrStopped)
	case <-ctx.Done():
		return 0, fmt.Errorf("reclaim: %w", context.Cause(ctx))
	}
	select {
	case got := <-wish.done:
		return got.fence.Revision(), got.err
	case <-m.ended:
		return 0, fmt.Errorf("reclaim: %w", ErrStopped)
	}
}

// grant carries out a wish. Nothing else is being written meanwhile.
func (m *Mirror) grant(wish reclaim) reclaimed {
	fence, err := m.writer.store.Reclaim(wish.ctx, m.writer.fence, wish.leader)
	return reclaimed{fence, err}
}

// granted takes note of what came of a wish. An error other than ErrFenced leaves the
// old claim as it is, as far as known.
func (m *Mirror) granted(got reclaimed) error {
	if got.err == nil {
		m.writer.fence, m.writer.epoch, m.writer.pruned = got.fence, got.fence.Epoch(), false
		m.mu.Lock()
		m.revision = max(m.revision, got.fence.Revision())
		m.mu.Unlock()
	}
	if errors.Is(got.err, ErrFenced) {
		return got.err
	}
	return nil
}
