package term

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// tenure is one term of a lead: everything that carries its epoch.
type tenure struct {
	lead *Lead
	term *election.Term
	// work ends with the term, or when the replica is asked to stop. writes ends with
	// it too, at the latest when the tenure is sealed: it is what requests live by.
	work   context.Context
	stop   context.CancelCauseFunc
	writes context.Context
	seal   context.CancelFunc
	undo   func() bool

	silencing atomic.Bool
	silent    chan struct{} // closed when nothing can write any more
	executors atomic.Pointer[Executors]
	timings   *timings
	revision  int64 // of the claim

	// barrier tells when this replica has caught up with the cluster, or why not:
	// see raiseBarrier.
	barrier  chan error
	catching sync.WaitGroup

	// told sees to it that the end of its work is told once.
	told sync.Once

	// refusedAt is when it was last told that the API server refuses the term.
	refusedAt atomic.Int64
}

// begin makes the tenure of a term that was won; it becomes the lead's.
func (l *Lead) begin(won *election.Term) *tenure {
	limit := won.Context()
	if failpoint.Off(failpoint.TermGuard) {
		limit = context.WithoutCancel(limit)
	}
	t := &tenure{lead: l, term: won, silent: make(chan struct{})}
	t.work, t.stop = context.WithCancelCause(limit)
	t.writes, t.seal = context.WithCancel(won.Context())
	t.undo = context.AfterFunc(l.living, func() { t.stop(context.Cause(l.living)) })
	t.catching.Go(func() {
		select {
		case <-won.Asked():
			l.log.Info("asked to step down", "successor", won.Successor())
			t.stop(errHandOver)
		case <-t.work.Done():
		}
	})
	followed := l.View.Status()
	l.Standing.SetRevision(followed.Revision)
	t.timings = startTimings(t.work, l.Deps, won, followed.Leader.Trace)
	l.tenure.Store(t)
	l.Role(serve.Recovering, won.Epoch())
	l.log.Info("holding the lease, recovering", "detected", won.DetectedAt(), "acquired", won.AcquiredAt())
	return t
}

// start makes the executors of effects.
func (t *tenure) start() {
	executors := t.lead.Executors(kube.Tenure{
		Epoch: t.term.Epoch(), Holder: t.lead.Incarnation, Lease: t.term.Lease(), OnRefusal: t.refused,
	}, t.lead.Heard)
	t.executors.Store(&executors)
}

// silence ends everything that can write in the name of the term; it may be called more
// than once. Of a term that is over nothing can outlive it then: what is left is clean-up,
// and may take its time on a busy machine. A term that still holds the Lease is renewed
// until that is given up.
func (t *tenure) silence() {
	if t.silencing.Swap(true) {
		<-t.silent
		return
	}
	t.undo()
	t.seal()
	if e := t.executors.Load(); e != nil {
		(*e).Stop()
	}
	if !t.term.Valid() {
		t.term.Quiet()
	}
	close(t.silent)
}

// tellStopped has others know that all work of the term has stopped, if the Lease was not
// renewed in time and so cannot be released. Of work that hangs nothing is said.
func (t *tenure) tellStopped() {
	if errors.Is(context.Cause(t.term.Context()), election.ErrRenewDeadline) && !t.lead.hung.Load() {
		t.told.Do(func() { t.lead.Stopped(t.term.Epoch()) })
	}
}

// refusalPeriod is how often it is told that the API server refuses the term.
const refusalPeriod = 10 * time.Second

// refused is told that the API server takes the term for over. Whether it is
// says the Lease alone: the elector reads it, and ends the term if it is held no
// more. Otherwise the API server has yet to hear of the Lease.
func (t *tenure) refused(err error) {
	t.lead.Look()
	now, last := t.lead.Now().UnixNano(), t.refusedAt.Load()
	if now-last >= int64(refusalPeriod) && t.refusedAt.CompareAndSwap(last, now) {
		t.lead.log.Warn("the API server takes this term for over, asking the lease", "err", err)
	}
}

// outside hands an effect on the cluster to its executor. It does not wait. Between
// two terms there is none: what is due is asked for again in the next.
func (l *Lead) outside(effect ledger.Effect) {
	if e := l.tenure.Load().executors.Load(); e != nil {
		(*e).Do(effect)
	}
}
