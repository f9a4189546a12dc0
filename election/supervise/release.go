package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/understudy-ha/understudy/election"
)

// Lease is the Lease that a child contends for.
type Lease struct {
	// Client is nil if it is not known which Lease that is.
	Client election.LeaseClient
	// Duration is how long after the last sign of life the others take it anyway.
	Duration time.Duration
}

// release releases the Lease in the background, if the child that has died holds
// it. It tries for as long as that is of use to anybody.
func (s *supervisor) release(lease Lease, suffix string, d death, log *slog.Logger) {
	if lease.Client == nil {
		return
	}
	s.releases.Go(func() {
		ctx, cancel := context.WithDeadline(context.Background(), d.at.Add(lease.Duration))
		defer cancel()
		ctx, released := s.trace(ctx, d.at)
		holder, epoch, err := s.depose(ctx, lease.Client, suffix, d)
		switch {
		case err != nil:
			log.Warn("lease not released for the dead replica, it expires", "error", err)
		case holder != "":
			released(holder, epoch)
			log.Info("lease released for the dead replica", "holder", holder, "epoch", epoch, "after", time.Since(d.at))
		default:
			log.Debug("lease is not held by the dead replica")
		}
	})
}

func (s *supervisor) depose(
	ctx context.Context, client election.LeaseClient, suffix string, d death,
) (holder string, epoch uint64, err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, s.pace.request)
		holder, epoch, err = election.Depose(attempt, client, d.left, d.at, func(holder string) bool {
			return isOf(holder, suffix) || s.Careless
		})
		cancel()
		if err == nil {
			return holder, epoch, nil
		}
		d.left = nil // the write may have been made
		select {
		case <-ctx.Done():
			return "", 0, fmt.Errorf("given up: %w", err)
		case <-time.After(jittered(s.pace.retry)):
		}
	}
}

func (s *supervisor) trace(ctx context.Context, died time.Time) (context.Context, func(string, uint64)) {
	if s.Trace == nil {
		return ctx, func(string, uint64) {}
	}
	return s.Trace(ctx, died)
}

// keepWarm reads the Lease now and then, so that a release finds an open
// connection to the API server, until cool is called.
func (s *supervisor) keepWarm(lease Lease) (cool func()) {
	over := make(chan struct{})
	s.warming.Go(func() {
		shed()
		for reachable := true; lease.Client != nil; {
			// A request that is under way when the child dies is not given up: that
			// would close the connection just when it is needed.
			ctx, cancel := context.WithTimeout(context.Background(), s.pace.request)
			_, err := lease.Client.Get(ctx)
			cancel()
			failed := err != nil && !apierrors.IsNotFound(err)
			if failed && reachable {
				s.Log.Warn("lease cannot be read", "error", err)
			}
			reachable = !failed
			select {
			case <-over:
				return
			case <-time.After(jittered(s.pace.warm)):
			}
		}
	})
	return func() { close(over) }
}
