package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// recover brings this replica from holding the Lease to a loop that is ready to
// run: caught up with the mirror and the cluster, the engine's account verified
// and the engine released. It is the only way to lead, after a crash as after a
// hand-over, with the mirror as without. Its cost follows what has changed since
// the standby saw ledger and cluster agree, not what exists.
func (l *lead) recover(ctx context.Context) error {
	failpoint.Hit("promote/claimed")
	if !failpoint.Off(failpoint.BarrierGuard) {
		if err := l.view.WaitRevision(ctx, l.failover.revision); err != nil {
			return fmt.Errorf("catching up with the mirror: %w", err)
		}
	}
	refused := l.view.Status().Refused
	state, held := l.view.Take()
	l.failover.caughtUp(held)
	if err := <-l.barrier; err != nil {
		return fmt.Errorf("catching up with the cluster: %w", err)
	}
	l.failover.step(stepCluster)

	l.setUp()
	l.reconcile(state, refused)
	l.failover.step(stepReconciled)
	failpoint.Hit("promote/reconciled")

	if err := l.standby.verify(ctx, state); err != nil {
		return fmt.Errorf("verifying the engine: %w", err)
	}
	l.standby.release()
	l.failover.step(stepVerified)
	if err := l.standby.engine.Release(ctx); err != nil {
		return fmt.Errorf("releasing the engine: %w", err)
	}
	l.failover.step(stepReleased)
	failpoint.Hit("promote/released")
	return nil
}

// raiseBarrier begins to catch up with the cluster, for recover to wait for. It does
// so as soon as the Lease is held, beside the claim: what an older epoch still does
// to the cluster after that, it had announced in etcd before the claim.
func (l *lead) raiseBarrier(ctx context.Context) {
	l.barrier = make(chan error, 1)
	l.catching.Go(func() {
		if failpoint.Off(failpoint.PodBarrier) {
			l.barrier <- nil
			return
		}
		l.barrier <- l.cluster.Barrier(l.failover.within(ctx), l.kube.Writes, l.term.Epoch())
	})
}

// setUp makes the executors of effects.
func (l *lead) setUp() {
	sink := l.standby.heard
	l.binder = kube.NewBinder(l.kube.Writes, l.cfg.Binder.Workers, l.tenure(), sink, l.log)
	l.binder.Before(l.prepare, l.standby.preds.HasClaims)
	l.pods = kube.NewPods(l.kube.Writes, kube.PodsConfig{Tenure: l.tenure(), Image: l.cfg.Placeholder.Image, SchedulerName: l.cfg.SchedulerName}, sink, l.log)
	l.recorder = kube.NewRecorder(l.kube.Writes, l.incarnation, l.log)
	l.standby.recorder.Store(l.recorder)
}

// prepare binds the volumes of a pod ahead of the pod itself.
func (l *lead) prepare(ctx context.Context, taskID, node string) error {
	err := l.standby.preds.BindVolumes(ctx, taskID, node)
	var refusal *predicates.Refusal
	switch {
	case errors.Is(err, predicates.ErrUnknownNode):
		return fmt.Errorf("%w: %w", kube.ErrNodeGone, err)
	case errors.As(err, &refusal):
		return fmt.Errorf("%w: %w", kube.ErrUnfit, err)
	}
	return err
}

// reconcile steps what the cluster says into the recovered ledger. The engine is
// told of the changes as the standby is, so effects on it are not carried out
// here; effects on the cluster wait for the commit as always. Records that were
// refused are put right with the same commit.
func (l *lead) reconcile(state *ledger.Ledger, refused []view.Refused) {
	// From now on the manager's reports are events; what it reported before is
	// among the findings.
	l.standby.general.Address(&contract{
		ctx: l.ctx, manager: l.standby.general.Name(), box: l.box, pods: l.standby.preds, now: l.now, log: l.log,
	})
	findings := l.standby.promote(state)
	events, unassigned := reconciliation(state, l.standby.general, findings, l.now())
	l.unassigned = unassigned
	if failpoint.Off(failpoint.ReconcileGuard) {
		events = nil
	}
	var changes changeSet
	var outside []ledger.Effect
	step := func(event ledger.Event) {
		delta := l.step(state, event)
		changes.add(delta.Changes)
		for _, effect := range delta.Effects {
			if effect.External() {
				outside = append(outside, effect)
			}
		}
	}
	for _, event := range events {
		step(event)
	}
	for _, event := range idle(state, l.standby.general.Name(), l.now()) {
		step(event)
	}
	for _, change := range changes.list {
		l.standby.apply(change)
	}
	if repairs := repairs(state, refused, record.Keys{Prefix: l.cfg.Etcd.Prefix}); len(repairs) > 0 {
		l.log.Warn("records that could not be read are written anew or deleted", "refused", len(refused), "repaired", len(repairs))
		changes.add(repairs)
	}
	l.loop = &loop{
		ledger: state, box: l.box, journal: l.mirror.Load(),
		inside: l.inside, outside: l.outside, step: l.step, observe: l.observe,
		now: l.now, log: l.log, counts: &l.counts,
	}
	counts := state.Counts()
	l.counts.Store(&counts)
	l.loop.commit(changes.list, outside)
	l.log.Info("reconciled with the cluster", "findings", len(findings), "events", len(events), "changes", len(changes.list), "tasks", taskCount(counts))
}

func taskCount(c ledger.Counts) (n int) {
	for _, in := range c.Tasks {
		n += in
	}
	return n
}

// attach carries out what the recovered state still asks for, and has the app
// manager report the pods that came while nobody led.
func (l *lead) attach() {
	for _, effect := range l.loop.ledger.Due(ledger.At(l.now())) {
		if effect.External() {
			l.loop.commit(nil, []ledger.Effect{effect})
		} else {
			l.inside(effect)
		}
	}
	// Its questions are answered by the loop, which runs next.
	l.replay.Go(func() { l.standby.general.Replay(l.unassigned) })
	l.failover.leading()
	l.failover.put(l.mirror.Load())
}

// inside carries out an effect on the engine.
func (l *lead) inside(effect ledger.Effect) {
	if err := l.standby.engine.Do(effect); err != nil {
		l.log.Error("engine refused", "effect", fmt.Sprintf("%T", effect), "err", err)
	}
}

// outside hands an effect on the cluster to its executor. It does not wait.
func (l *lead) outside(effect ledger.Effect) {
	switch e := effect.(type) {
	case ledger.Bind:
		l.binder.Do(e)
	case ledger.CreatePlaceholder, ledger.DeletePod, ledger.FailPod:
		l.pods.Do(e)
	case ledger.ReportTask:
		l.recorder.Task(e)
	case ledger.ReportApp:
		// Only applications of the Application resource's manager are reported.
	default:
		l.log.Error("no executor", "effect", fmt.Sprintf("%T", effect))
	}
}

// step steps an event, and describes by spans what comes of it.
func (l *lead) step(state *ledger.Ledger, event ledger.Event) ledger.Delta {
	if !l.opts.Tracing.Enabled() {
		return state.Step(event)
	}
	l.opts.Standing.SetRevision(l.mirror.Load().Status().Revision)
	return stepTracer{l.opts.Tracing}.step(state, event)
}

// observe keeps the caches around the ledger in step with it.
func (l *lead) observe(event ledger.Event, delta ledger.Delta) {
	l.replica.events.WithLabelValues(eventName(event)).Inc()
	if delta.Refused != "" {
		l.refusals.WithLabelValues(eventName(event)).Inc()
		l.log.Debug("refused", "event", eventName(event), "why", delta.Refused)
	}
	switch e := event.(type) {
	case ledger.BindDone:
		l.failover.firstBind(l.mirror.Load(), e)
	case ledger.RemoveTask:
		l.recorder.Forget(e.TaskID)
	}
}
