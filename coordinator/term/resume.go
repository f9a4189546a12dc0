package term

import (
	"context"
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// A lead whose renewals did not get through in time has lost its term, and nothing
// else: as long as nobody has followed it, what it knows is what there is. It would be
// a waste to end the process, and to list everything anew makes a slow API server
// slower. So it campaigns again, and leads on under a new epoch with the engine and the
// ledger that it has. Two compare-and-swaps see to it that nobody has been there in
// between: that of the Lease, which must still name this incarnation, or nobody since,
// and that of the leader key in etcd. Between the two terms the transport sends nothing.

// resume begins another term after one that lapsed. The error says why there is none.
func (l *Lead) resume(lapsed *tenure) error {
	if !within(windUp, lapsed.silence) {
		l.giveUp("what carries out effects on the cluster")
		return ErrHung
	}
	lapsed.executors.Store(nil)
	l.Role(serve.Recovering, lapsed.term.Epoch()) // it does not lead, for now
	lapsed.timings.finish(*l.mirror.Load(), context.Cause(lapsed.work))
	lapsed.timings.end()
	l.log.Warn("the term has lapsed: campaigning again with what is there", "epoch", lapsed.term.Epoch())
	lapsed.term.Finished()
	lapsed.tellStopped()
	won, err := l.Resume(l.living)
	if err != nil {
		l.log.Warn("the lead does not resume", "err", err)
		return err
	}
	t := l.begin(won)
	for _, s := range []step{
		{stepClaimed, l.Budgets.Claim, t.claimAgain},
		{stepCluster, l.Budgets.Cluster, t.syncAgain},
		{stepReconciled, l.Budgets.Reconcile, t.takeUp},
	} {
		if err := t.run(s); err != nil {
			err = fmt.Errorf("resuming: step %q: %w", s.name, err)
			t.stop(err)
			l.log.Error("the lead does not resume", "err", err)
			return err
		}
		t.timings.step(s.name)
	}
	t.timings.leading()
	t.timings.put(*l.mirror.Load())
	l.Role(serve.Lead, t.term.Epoch())
	l.log.Info("leading again", "timings", t.timings.summary())
	return nil
}

// claimAgain claims the epoch in etcd, unless anybody else has claimed one since.
func (t *tenure) claimAgain(ctx context.Context) error {
	revision, err := (*t.lead.mirror.Load()).Reclaim(t.timings.within(ctx), t.leader())
	if err == nil {
		t.timings.claimed(revision)
	}
	return err
}

// syncAgain waits for the informers, which have followed the API server all along.
func (t *tenure) syncAgain(ctx context.Context) error {
	return t.lead.Barrier(t.timings.within(ctx), t.term.Epoch())
}

// takeUp asks again for all that was under way when the term lapsed.
func (t *tenure) takeUp(ctx context.Context) error {
	t.start()
	_, ok := loop.Ask(ctx, t.lead.box, func(*ledger.Ledger) struct{} {
		t.carryOutDue(func(ledger.Effect) bool { return false })
		return struct{}{}
	})
	if !ok {
		return errors.Join(errors.New("the loop does not answer"), context.Cause(ctx))
	}
	return nil
}
