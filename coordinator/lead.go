package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// mailboxLimit is how many events may wait before app managers have to.
const mailboxLimit = 8192

// windUp bounds what a replica that hands over still waits for: requests under
// way, and the last changes to become durable.
const windUp = 2 * time.Second

// lead is a replica in its term: everything that exists only while it leads. It
// is made in one place, serveTerm, and taken down there.
type lead struct {
	*replica
	log  *slog.Logger
	term *election.Term
	// ctx ends with the term, or when the replica is asked to stop.
	ctx context.Context

	box      *mailbox
	loop     *loop
	counts   atomic.Pointer[ledger.Counts] // for readers on other goroutines
	mirror   atomic.Pointer[mirror.Mirror] // nil until the epoch is claimed
	binder   *kube.Binder
	pods     *kube.Pods
	recorder *kube.Recorder
	// refusedAt is when it was last told that the API server refuses the term.
	refusedAt atomic.Int64

	// barrier tells when this replica has caught up with the cluster, or why not:
	// see raiseBarrier.
	barrier  chan error
	catching sync.WaitGroup

	// unassigned are pods to schedule that nobody has reported yet; replay is
	// done when they have been.
	unassigned []*v1.Pod
	replay     sync.WaitGroup

	failover *failover
}

// serveTerm leads until the term ends or ctx does. It returns only when all
// work of the term has stopped: nil if the Lease was handed over, else why the
// term ended.
func (r *replica) serveTerm(ctx context.Context, term *election.Term) error {
	limit := term.Context()
	if failpoint.Off(failpoint.TermGuard) {
		limit = context.WithoutCancel(limit)
	}
	work, stop := context.WithCancelCause(limit)
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(errHandOver) })()
	go func() {
		select {
		case <-term.Asked():
			r.log.Info("asked to step down", "successor", term.Successor())
			stop(errHandOver)
		case <-work.Done():
		}
	}()

	l := &lead{replica: r, term: term, ctx: work, box: newMailbox(mailboxLimit), log: r.log}
	l.failover = startFailover(work, r, term)
	defer l.failover.end()
	r.lead.Store(l)
	r.setRole(serve.Recovering, term.Epoch())
	r.log.Info("holding the lease, recovering", "detected", term.DetectedAt(), "acquired", term.AcquiredAt())

	var writers sync.WaitGroup // the mirror: it outlives the work, to write what the work left
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriting()
	l.raiseBarrier(work)
	// The engine holds no asks yet.
	err := l.standby.engine.Open()
	if err == nil {
		err = l.claim(work)
	}
	if err == nil {
		writers.Go(func() {
			if err := l.mirror.Load().Run(writing); err != nil {
				stop(fmt.Errorf("mirror: %w", err))
			}
		})
		err = l.work(work)
	}
	l.box.close()

	cause := context.Cause(work)
	if errors.Is(cause, errHandOver) {
		cause = nil
	} else if cause == nil {
		cause = err
	}
	stop(nil) // if nobody has yet
	l.catching.Wait()
	r.setRole(serve.Exiting, term.Epoch())
	if m := l.mirror.Load(); m != nil && term.Valid() {
		l.failover.finish(m, cause)
		flush, cancel := context.WithTimeout(writing, windUp)
		if err := m.Flush(flush); err != nil {
			r.log.Warn("handing over with changes that are not durable", "err", err)
		}
		cancel()
	}
	stopWriting()
	writers.Wait()
	releasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), windUp)
	defer cancel()
	if err := l.failover.release(releasing, term, r.successor(term.Successor())); err != nil {
		r.log.Warn("the lease could not be released and has to expire", "err", err)
	}
	if cause != nil {
		return fmt.Errorf("term %d ended: %w", term.Epoch(), cause)
	}
	r.log.Info("handed over")
	return nil
}

// claim makes this epoch the one that etcd accepts writes of.
func (l *lead) claim(ctx context.Context) error {
	wait := 50 * time.Millisecond
	for {
		attempt, cancel := context.WithTimeout(ctx, l.cfg.Etcd.RequestTimeout)
		claimed, err := mirror.Claim(l.failover.within(attempt), l.etcd, l.cfg.Etcd.Prefix, record.Leader{
			Epoch:       l.term.Epoch(),
			Incarnation: l.incarnation,
			Since:       ledger.At(l.now()),
			Trace:       l.failover.traceparent(),
		})
		cancel()
		if err == nil {
			l.failover.claimed(claimed.Revision)
			m, err := mirror.New(l.etcd, claimed, l.mirrorConfig(), l.log, l.metrics)
			if err != nil {
				return err
			}
			l.mirror.Store(m)
			return nil
		}
		if errors.Is(err, mirror.ErrFenced) || ctx.Err() != nil {
			return fmt.Errorf("claiming the epoch: %w", err)
		}
		l.log.Warn("epoch not claimed yet", "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		}
	}
}

func (r *replica) mirrorConfig() mirror.Config {
	cfg := mirror.Default()
	cfg.Prefix = r.cfg.Etcd.Prefix
	cfg.Policy = mirror.Policy(r.cfg.Mirror.Policy)
	cfg.RequestTimeout = r.cfg.Etcd.RequestTimeout
	cfg.Patience = r.cfg.Mirror.Patience
	cfg.MaxOps, cfg.MaxBytes = r.cfg.Mirror.MaxOps, r.cfg.Mirror.MaxBytes
	return cfg
}

// work recovers and then leads until ctx ends.
func (l *lead) work(ctx context.Context) error {
	defer l.takeDown()
	if err := l.recover(ctx); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	l.attach()
	l.setRole(serve.Lead, l.term.Epoch())
	l.fence.again()
	l.log.Info("leading", "timings", l.failover.summary())
	l.loop.run(ctx)
	l.log.Info("term over", "cause", context.Cause(ctx))
	return nil
}

// takeDown stops everything that recover and attach started; when it returns
// nothing of the term is at work but the mirror.
func (l *lead) takeDown() {
	l.box.close()
	l.standby.stop()
	l.replay.Wait()
	if l.binder != nil {
		l.binder.Stop()
	}
	if l.pods != nil {
		l.pods.Stop()
	}
	if l.recorder != nil {
		l.recorder.Stop()
	}
}
