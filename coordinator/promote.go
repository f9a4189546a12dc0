package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/apps"
	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// recover brings this replica from holding the Lease to a loop that is ready to
// run: caught up with the mirror and the cluster, the engine fed and released.
// It is the only way to lead, after a crash as after a hand-over, with the
// mirror as without.
func (l *lead) recover(ctx context.Context) error {
	failpoint.Hit("promote/claimed")
	if err := l.view.WaitRevision(ctx, l.failover.revision); err != nil {
		return fmt.Errorf("catching up with the mirror: %w", err)
	}
	state := l.view.Take()
	l.failover.step(stepCaughtUp)
	l.opts.Standing.SetRevision(l.failover.revision)
	if err := l.cluster.Barrier(ctx, l.kube.Writes, l.term.Epoch()); err != nil {
		return fmt.Errorf("catching up with the cluster: %w", err)
	}
	l.failover.step(stepCluster)

	if err := l.setUp(ctx); err != nil {
		return err
	}
	if err := l.reconcile(state); err != nil {
		return err
	}
	l.failover.step(stepReconciled)
	failpoint.Hit("promote/reconciled")

	for _, effect := range state.Feed() {
		if _, exists := effect.(ledger.Restore); exists && failpoint.Off(failpoint.RecoveryGuard) {
			continue
		}
		l.inside(effect)
	}
	l.failover.step(stepFed)
	if err := l.engine.Release(ctx); err != nil {
		return fmt.Errorf("releasing the engine: %w", err)
	}
	l.failover.step(stepReleased)
	failpoint.Hit("promote/released")
	return nil
}

// setUp makes what the term needs around the ledger: the executors of effects
// and the engine, held, knowing all nodes and pods.
func (l *lead) setUp(ctx context.Context) error {
	sink := func(event ledger.Event) { l.box.push(item{event: event}) }
	l.binder = kube.NewBinder(l.kube.Writes, l.cfg.Binder.Workers, l.term.Epoch(), sink, l.log)
	l.pods = kube.NewPods(l.kube.Writes, kube.PodsConfig{Epoch: l.term.Epoch(), Image: l.cfg.Placeholder.Image, SchedulerName: l.cfg.SchedulerName}, sink, l.log)
	l.recorder = kube.NewRecorder(l.kube.Writes, l.incarnation, l.log)

	var err error
	if l.preds, err = predicates.New(l.log, predicates.WithNamespaces(l.cluster.Factory()), predicates.WithVolumes(l.cluster.Factory(), l.kube.Writes)); err != nil {
		return fmt.Errorf("predicates: %w", err)
	}
	l.binder.Before(l.prepare)
	configuration, err := l.configuration(ctx)
	if err != nil {
		return err
	}
	running := engine.Default()
	running.Version = l.opts.Version
	running.ConfigYAML = configuration
	running.OnUnschedulable = l.unschedulable
	running.PriorityClass = l.cluster.PriorityClass
	l.engine, err = engine.Start(running, l.preds, sink, l.log)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	return l.cluster.Follow(ctx, follower{l})
}

// prepare binds the volumes of a pod ahead of the pod itself.
func (l *lead) prepare(ctx context.Context, taskID, node string) error {
	err := l.preds.BindVolumes(ctx, taskID, node)
	if errors.Is(err, predicates.ErrUnknownNode) {
		return fmt.Errorf("%w: %w", kube.ErrNodeGone, err)
	}
	return err
}

// configurationPeriod is how often a queue configuration that is not valid is
// looked at again.
const configurationPeriod = time.Second

// configuration returns the queue configuration once it is valid. Without one
// there are no quotas to schedule by, and to end the term would only hand the
// same problem to the next replica; so the lead waits, and says why.
func (l *lead) configuration(ctx context.Context) (map[string]string, error) {
	told := ""
	for {
		data, err := l.cluster.Configuration()
		if err == nil {
			err = engine.Validate(data)
		}
		if err == nil {
			return data, nil
		}
		if err.Error() != told {
			told = err.Error()
			l.log.Error("queue configuration is not valid: scheduling waits until it is", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(configurationPeriod):
		}
	}
}

// reconcile steps what the cluster says into the recovered ledger. The engine
// knows nothing yet and is fed from the result, so effects on it are not
// carried out here; effects on the cluster wait for the commit as always.
func (l *lead) reconcile(state *ledger.Ledger) error {
	general := l.newGeneral()
	events, err := reconciliation(state, []recoverer{general}, l.cluster.Pods(), general.Task, l.now())
	if err != nil {
		return err
	}
	if failpoint.Off(failpoint.ReconcileGuard) {
		events = nil
	}
	var changes changeSet
	var outside []ledger.Effect
	step := func(event ledger.Event) {
		delta := state.Step(event)
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
	for _, event := range idle(state, general.Name(), l.now()) {
		step(event)
	}
	l.general = general
	l.loop = &loop{
		ledger: state, box: l.box, journal: l.mirror.Load(),
		inside: l.inside, outside: l.outside, observe: l.observe,
		now: l.now, log: l.log, counts: &l.counts,
	}
	counts := state.Counts()
	l.counts.Store(&counts)
	if l.opts.Tracing.Enabled() {
		l.loop.trace = l.traced
	}
	l.loop.commit(changes.list, outside)
	l.log.Info("reconciled with the cluster", "events", len(events), "changes", len(changes.list), "tasks", state.Counts().Tasks)
	return nil
}

// attach carries out what the recovered state still asks for and lets the app
// managers in. Their handlers replay every pod, which repeats what is known and
// adds what is not assigned yet.
func (l *lead) attach() error {
	for _, effect := range l.loop.ledger.Due(ledger.At(l.now())) {
		if effect.External() {
			l.loop.commit(nil, []ledger.Effect{effect})
		} else {
			l.inside(effect)
		}
	}
	if err := l.general.ServiceInit(); err != nil {
		return err
	}
	if err := l.general.Start(); err != nil {
		return err
	}
	l.failover.step(stepLeading)
	l.failover.put(l.mirror.Load())
	return nil
}

func (l *lead) newGeneral() *apps.General {
	speak := &contract{ctx: l.ctx, manager: "general", box: l.box, pods: l.preds, now: l.now, log: l.log}
	return apps.NewGeneral(speak, l.cluster, apps.Config{
		SchedulerName: l.cfg.SchedulerName,
		UserLabel:     l.cfg.Workload.UserLabel,
		Resources:     engine.ResourcesOf,
	}, l.recorder.Problems, l.log)
}

// inside carries out an effect on the engine.
func (l *lead) inside(effect ledger.Effect) {
	if err := l.engine.Do(effect); err != nil {
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

// traced describes an event by a span before it is stepped.
func (l *lead) traced(state *ledger.Ledger, event ledger.Event) ledger.Event {
	l.opts.Standing.SetRevision(l.mirror.Load().Status().Revision)
	return stepTracer{l.opts.Tracing}.trace(state, event)
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
		l.failover.firstBind(l.mirror.Load(), e.At.Time())
	case ledger.RemoveTask:
		l.recorder.Forget(e.TaskID)
	}
}

// unschedulable tells the user of a pod why it fits nowhere.
func (l *lead) unschedulable(_, taskID, reason string) {
	if pod := l.preds.Pod(taskID); pod != nil {
		l.recorder.Pod(pod, true, "FailedScheduling", reason)
	}
}

// follower keeps engine and predicates in step with the informers.
type follower struct{ l *lead }

func (f follower) SetNode(node *v1.Node) {
	f.l.preds.SetNode(node)
	if err := f.l.engine.SetNode(node); err != nil {
		f.l.log.Error("engine refused a node", "node", node.Name, "err", err)
	}
}

func (f follower) RemoveNode(name string) {
	if err := f.l.engine.RemoveNode(name); err != nil {
		f.l.log.Error("engine did not let a node go", "node", name, "err", err)
	}
	f.l.preds.RemoveNode(name)
}

func (f follower) SetPod(pod *v1.Pod) {
	if terminated(pod) {
		f.RemovePod(pod)
		return
	}
	if pod.Spec.NodeName != "" && failpoint.Off(failpoint.RecoveryGuard) {
		return
	}
	f.l.preds.SetPod(pod)
	if pod.Spec.NodeName != "" && f.l.foreign(pod) {
		if err := f.l.engine.SetForeign(pod); err != nil {
			f.l.log.Error("engine did not count a pod", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		}
	}
}

func (f follower) RemovePod(pod *v1.Pod) {
	f.l.preds.RemovePod(string(pod.UID))
	if f.l.foreign(pod) {
		if err := f.l.engine.RemoveForeign(string(pod.UID)); err != nil {
			f.l.log.Error("engine did not let a pod go", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		}
	}
}

func (f follower) Configure(configuration map[string]string, err error) {
	if err == nil {
		err = f.l.engine.Configure(configuration)
	}
	if err != nil {
		f.l.log.Error("queue configuration refused, the old one stays in force", "err", err)
	}
}
