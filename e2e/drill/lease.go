package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
)

// errEpochFell says that somebody came to hold the Lease under an epoch that had
// been claimed before.
var errEpochFell = errors.New("an epoch was used again")

// deleteLease takes away what tells the epoch, but for etcd.
func deleteLease(ctx context.Context, s *Session, g *load.Generator) error {
	epoch, err := s.Epoch()
	if err != nil {
		return err
	}
	s.Note()
	fault := Fault{Epoch: epoch, At: time.Now()}
	if err := s.Lab.DeleteLease(ctx); err != nil {
		return err
	}
	// Whoever creates it anew leads a newer epoch, and so does the next.
	if err := s.rises(ctx, fault); err != nil {
		return err
	}
	if err := kill(ctx, s, nil); err != nil {
		return err
	}
	return forgetLease(ctx, s, g)
}

// forgetLease deletes the Lease while nobody is there to remember it.
func forgetLease(ctx context.Context, s *Session, _ *load.Generator) error {
	s.Note()
	var stopping errgroup.Group
	for _, name := range s.state.Replicas() {
		stopping.Go(func() error { return s.Lab.Stop(name) })
	}
	if err := errors.Join(stopping.Wait(), s.Lab.DeleteLease(ctx), s.Etcd.Settle(ctx)); err != nil {
		return err
	}
	epoch, err := s.Epoch()
	if err != nil {
		return err
	}
	fault := Fault{Epoch: epoch, At: time.Now()}
	for _, name := range s.state.Replicas() {
		if err := s.Lab.Start(name); err != nil {
			return err
		}
	}
	return s.rises(ctx, fault)
}

// rises waits for the successor, and sees to it that the Lease was held under
// newer epochs only.
func (s *Session) rises(ctx context.Context, f Fault) error {
	line, err := s.Failover(ctx, f)
	if err != nil {
		return err
	}
	for _, step := range line.Steps {
		if step.Name == timeline.LeaseTaken && step.Epoch <= f.Epoch {
			return fmt.Errorf("%w: the Lease was taken for epoch %d, and etcd knew of %d", errEpochFell, step.Epoch, f.Epoch)
		}
	}
	return nil
}
