package term

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/standby"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// Budgets bound the steps of a promotion. A step that takes longer is given up, and
// the Lease with it, for another replica to try.
type Budgets struct {
	Claim, CatchUp, Cluster, Reconcile, Verify, Release time.Duration
}

// DefaultBudgets are a hundred times what a step takes as a rule, and long enough for
// an API server that takes seconds for each answer.
func DefaultBudgets() Budgets {
	return Budgets{
		Claim: 5 * time.Second, CatchUp: 10 * time.Second, Cluster: 15 * time.Second,
		Reconcile: 10 * time.Second, Verify: 15 * time.Second, Release: 10 * time.Second,
	}
}

// Sum is how long a promotion can take at most.
func (b Budgets) Sum() time.Duration {
	return b.Claim + b.CatchUp + b.Cluster + b.Reconcile + b.Verify + b.Release
}

// ErrOverBudget says that a step of a promotion took too long.
var ErrOverBudget = errors.New("it has taken too long")

// promotion is the way from holding the Lease to a loop that is ready to run. It is
// the only way to lead, after a crash as after a hand-over, with the mirror as without.
// Its cost follows what has changed since the standby saw ledger and cluster agree,
// not what exists.
type promotion struct {
	*tenure
	writing context.Context // of the mirror

	state      *ledger.Ledger
	taken      bool // the view's ledger: there is no way back
	reconciled standby.Reconciled
	repairs    []ledger.Change
	setAside   []string
}

// step is one step of a promotion.
type step struct {
	name   string // in the term's record, once it is done
	budget time.Duration
	do     func(ctx context.Context) error
}

// promote goes through all steps. Nothing that it decides is written, and nothing
// leaves the process, before the engine's account has been verified.
func (t *tenure) promote(writing context.Context) error {
	p := &promotion{tenure: t, writing: writing}
	b := t.lead.Budgets
	t.raiseBarrier()
	steps := []step{
		{stepClaimed, b.Claim, p.claim},
		{stepCaughtUp, b.CatchUp, p.catchUp},
		{stepCluster, b.Cluster, p.syncCluster},
		{stepReconciled, b.Reconcile, p.reconcile},
		{stepVerified, b.Verify, p.verify},
		{stepReleased, b.Release, p.release},
	}
	for _, s := range steps {
		if err := t.run(s); err != nil {
			err = fmt.Errorf("promotion: step %q: %w", s.name, err)
			if !p.taken && !t.lead.hung.Load() {
				err = fmt.Errorf("%w: %w", ErrStepBack, err)
			}
			return err
		}
		t.timings.step(s.name)
		failpoint.Hit("promote/" + s.name)
	}
	p.attach()
	return nil
}

// run does a step within its budget. One that does not heed its context is given up.
func (t *tenure) run(s step) error {
	if failpoint.Off(failpoint.BudgetGuard) {
		return s.do(t.work)
	}
	ctx, cancel := context.WithTimeoutCause(t.work, s.budget, ErrOverBudget)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	var err error
	if !within(windUp, func() { err = <-done }) {
		t.lead.giveUp("step " + s.name + " of the promotion")
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return context.Cause(t.work) // done in the last moment, unless the term is over
}

// raiseBarrier begins to catch up with the cluster, for syncCluster to wait for. It does
// so as soon as the Lease is held, beside the claim: what an older epoch still does
// to the cluster after that, it had announced in etcd before the claim.
func (t *tenure) raiseBarrier() {
	t.barrier = make(chan error, 1)
	t.catching.Go(func() {
		if failpoint.Off(failpoint.PodBarrier) {
			t.barrier <- nil
			return
		}
		t.barrier <- t.lead.Barrier(t.timings.within(t.work), t.term.Epoch())
	})
}

// claim makes this epoch the one that etcd accepts writes of.
func (p *promotion) claim(ctx context.Context) error {
	failpoint.Hit(failpoint.Claiming)
	// The engine holds no asks yet.
	if err := p.lead.Standby.Open(); err != nil {
		return err
	}
	m, revision, err := p.lead.Claim(p.timings.within(ctx), p.leader(), p.timings.snapshot())
	if err != nil {
		return err
	}
	p.revision = revision
	p.timings.claimed(revision)
	p.lead.mirror.Store(&m)
	p.lead.writers.Go(func() {
		if err := m.Run(p.writing); err != nil {
			p.lead.die(fmt.Errorf("mirror: %w", err))
		}
	})
	return nil
}

// leader is the leader record of the term.
func (t *tenure) leader() record.Leader {
	return record.Leader{
		Epoch: t.term.Epoch(), Incarnation: t.lead.Incarnation,
		Since: ledger.At(t.lead.Now()), Trace: t.timings.traceparent(),
	}
}

// catchUp takes over the view's ledger once it holds all that any older epoch has
// committed.
func (p *promotion) catchUp(ctx context.Context) error {
	if !failpoint.Off(failpoint.BarrierGuard) {
		if err := p.lead.View.WaitRevision(ctx, p.revision); err != nil {
			return fmt.Errorf("catching up with the mirror: %w", err)
		}
	}
	followed := p.lead.View.Status()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.taken = true
	state, held := p.lead.View.Take()
	state.Remember(p.lead.History)
	p.state = state
	p.timings.caughtUp(held)
	p.repairs = nil
	p.reconciled.Refused = followed.Refused
	if n := failedPromotions(followed.Terms, p.term.Epoch()); n >= failuresBeforeCluster {
		p.lead.log.Error("the last promotions failed: this one recovers from the cluster alone", "failed", n)
		p.timings.fromCluster()
		p.setAside = slices.Sorted(maps.Keys(appsOf(state)))
	}
	return nil
}

func (p *promotion) syncCluster(ctx context.Context) error {
	select {
	case err := <-p.barrier:
		if err != nil {
			return fmt.Errorf("catching up with the cluster: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reconcile steps what the cluster says into the recovered ledger.
func (p *promotion) reconcile(ctx context.Context) error {
	p.start()
	refused := p.reconciled.Refused
	p.reconciled = p.lead.Standby.Promote(standby.Promotion{
		Context: p.writing, State: p.state, Refused: refused, Keys: p.lead.Keys,
		Mailbox: p.lead.box, Stuck: p.lead.stuck, Step: p.lead.step, Now: p.lead.Now,
	})
	if len(p.setAside) > 0 {
		return p.rebuild(ctx, p.setAside)
	}
	return nil
}

// verify checks that the engine's account is the ledger's. What does not agree is set
// aside and rebuilt from its pods, once; the others are not to suffer for it.
func (p *promotion) verify(ctx context.Context) error {
	for tries := 0; ; tries++ {
		differ, err := p.lead.Standby.Verify(ctx, p.state)
		switch {
		case err != nil:
			return fmt.Errorf("verifying the engine: %w", err)
		case len(differ) == 0:
			return nil
		}
		apps := differ.Apps()
		if tries > 0 || len(apps) == 0 {
			return fmt.Errorf("verifying the engine: %w", differ)
		}
		p.lead.log.Error("records that the engine's account contradicts are set aside: their applications are rebuilt from their pods",
			"apps", apps, "differ", differ.Error())
		if err := p.rebuild(ctx, apps); err != nil {
			return err
		}
	}
}

// rebuild forgets what the mirror says of applications, and asks their pods.
func (p *promotion) rebuild(ctx context.Context, apps []string) error {
	again, err := p.lead.Standby.SetAside(ctx, p.state, apps)
	if err != nil {
		return fmt.Errorf("setting applications aside: %w", err)
	}
	p.reconciled.Merge(again)
	p.timings.setAside(apps)
	return nil
}

// release commits what the promotion has found, and lets the engine go.
func (p *promotion) release(ctx context.Context) error {
	l := p.lead
	l.loop = loop.New(loop.Config{
		Ledger: p.state, Mailbox: l.box, Journal: *l.mirror.Load(), Now: l.Now,
		Inside: l.inside, Outside: l.outside, Step: l.step, Observe: l.observe, Counts: &l.counts,
		Durable: l.Standby.Durable, Reader: l.reader,
	})
	counts := p.state.Counts()
	l.counts.Store(&counts)
	if found := p.reconciled.Changes.All(); len(p.reconciled.Outside) > 0 {
		l.loop.Commit(found, p.reconciled.Outside)
	} else {
		(*l.mirror.Load()).AppendLater(found, func() { l.Standby.Durable(found) })
	}
	l.log.Info("reconciled with the cluster", "findings", p.reconciled.Findings, "events", p.reconciled.Events,
		"changes", p.reconciled.Changes.Len(), "refused", len(p.reconciled.Refused), "tasks", taskCount(counts))
	if err := l.Standby.Begin(ctx); err != nil {
		return fmt.Errorf("releasing the engine: %w", err)
	}
	// Not before what the promotion has found is durable.
	(*l.mirror.Load()).AppendLater(nil, l.Standby.Announce)
	return nil
}

// attach carries out what the recovered state still asks for. The app managers
// report the pods that came while nobody led once the loop runs.
func (p *promotion) attach() {
	l := p.lead
	p.carryOutDue(p.durable)
	p.timings.leading()
	l.attached.Store(true)
	l.Configured()
	p.timings.put(*l.mirror.Load())
	l.Role(serve.Lead, p.term.Epoch())
	l.Leads()
	l.log.Info("leading", "timings", p.timings.summary())
}

// durable reports whether an effect is a binding that follows from what is in the mirror, as an
// older lead decided it: the promotion has changed neither the task nor its application, which
// says whether the tasks of a crew are bound.
func (p *promotion) durable(effect ledger.Effect) bool {
	bind, ok := effect.(ledger.Bind)
	changed := &p.reconciled.Changes
	return ok && !changed.Has(ledger.Key{AppID: bind.Task.AppID}) &&
		!changed.Has(ledger.Key{AppID: bind.Task.AppID, TaskID: bind.Task.ID})
}

// carryOutDue asks for everything that no event has confirmed. What is known to be durable does
// not wait for what was decided before.
func (t *tenure) carryOutDue(durable func(ledger.Effect) bool) {
	l := t.lead
	for _, effect := range l.loop.Ledger.Due(ledger.At(l.Now())) {
		switch {
		case !effect.External():
			l.inside(effect)
		case durable(effect):
			l.outside(effect)
		default:
			l.loop.Commit(nil, []ledger.Effect{effect})
		}
	}
}

func taskCount(c ledger.Counts) (n int) {
	for _, in := range c.Tasks {
		n += in
	}
	return n
}

// appsOf returns the IDs of all applications of which a ledger has anything.
func appsOf(l *ledger.Ledger) map[string]bool {
	ids := make(map[string]bool)
	for app := range l.Apps() {
		ids[app.ID] = true
	}
	for task := range l.Orphans() {
		ids[task.AppID] = true
	}
	return ids
}

// failuresBeforeCluster is after how many failed promotions in a row, by anybody, the
// mirror is no longer believed.
const failuresBeforeCluster = 2

// failedPromotions counts the newest terms in a row, of those before epoch, in which
// a promotion failed or its process died: they took the mirror's state over and never
// led.
func failedPromotions(terms []record.Term, epoch uint64) (n int) {
	for _, term := range slices.Backward(terms) {
		switch {
		case term.Epoch >= epoch:
			continue
		case strings.HasPrefix(term.EndReason, handedOver) || strings.HasPrefix(term.EndReason, steppedBack):
			continue // says nothing of what the mirror holds
		case slices.ContainsFunc(term.Timings, func(t record.Timing) bool { return t.Step == stepLeading }):
			return n
		}
		n++
	}
	return n
}
