package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/term"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// termDeps is what a term of this replica works with.
func (r *replica) termDeps() term.Deps {
	return term.Deps{
		Incarnation: r.incarnation,
		Keys:        record.Keys{Prefix: r.cfg.Etcd.Prefix},
		Budgets:     term.DefaultBudgets(),
		Standby:     noting{r.standby, r},
		View:        r.view,
		Claim:       r.claim,
		Barrier: func(ctx context.Context, epoch uint64) error {
			return r.cluster.Barrier(ctx, r.kube.Writes, epoch)
		},
		Executors: r.newExecutors,
		Resume:    r.resume,
		Successor: r.successor,
		Look:      r.elector.Look,
		Role:      r.setRole,
		Leads: func() {
			r.fence.again()
			r.markAlone()
			close(r.chronicler.begun)
		},
		Stopped:  r.tellStopped,
		Events:   r.events,
		Refusals: r.refusals,
		Tracing:  r.opts.Tracing,
		Standing: r.opts.Standing,
		Log:      r.log,
		Now:      r.now,
		History:  ledger.History{Count: r.cfg.History.Applications, Age: r.cfg.History.ApplicationAge},
	}
}

// podsFirst is for how long a new lead leaves processors, etcd and the API server to the pods
// that wait for it: to read what older leads have written takes as long as to bind these.
const podsFirst = time.Second

// claim makes an epoch the one that etcd accepts writes of.
func (r *replica) claim(ctx context.Context, leader record.Leader, begun record.Term) (term.Mirror, int64, error) {
	claimed, err := mirror.Claim(ctx, r.etcd, r.cfg.Etcd.Prefix, leader, begun)
	if err != nil {
		return nil, 0, err
	}
	m, err := mirror.New(r.etcd, claimed, r.mirrorConfig(), r.log, r.metrics)
	if err != nil {
		return nil, 0, err
	}
	r.chronicler.writer = m
	return m, claimed.Revision, nil
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

var errFollowed = errors.New("another replica holds the lease")

// resume campaigns for the Lease for as long as nobody else has it.
func (r *replica) resume(ctx context.Context) (*election.Term, error) {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching.Go(func() {
		for {
			changed := r.elector.Changed()
			if held := r.elector.Observed(); held.Synced && held.Holder != "" && held.Holder != r.incarnation {
				cancel(fmt.Errorf("%w: %s", errFollowed, held.Holder))
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	won, err := r.elector.Campaign(ctx)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return won, err
}

// executors carry out effects on the cluster in one term.
type executors struct {
	binder   *kube.Binder
	pods     *kube.Pods
	recorder *kube.Recorder
	// gangProblem says why the cluster can not hold a gang, if it can not.
	gangProblem func([]v1alpha1.TaskGroup) string
}

func (r *replica) newExecutors(tenure kube.Tenure, sink kube.Sink) term.Executors {
	placeholder := r.placeholder()
	e := &executors{
		binder: kube.NewBinder(r.kube.Writes, r.cfg.Binder.Workers, tenure, sink, r.log),
		pods: kube.NewPods(r.kube.Writes, kube.PodsConfig{
			Tenure: tenure, Image: placeholder.Image, SchedulerName: r.cfg.SchedulerName,
			RunAsUser: int64(placeholder.RunAsUser), RunAsGroup: int64(placeholder.RunAsGroup), FSGroup: int64(placeholder.FSGroup),
		}, sink, r.log),
	}
	e.gangProblem = r.standby.GangProblem
	e.recorder = kube.NewRecorder(r.kube.Writes, kube.RecorderConfig{
		Instance: r.incarnation, Yield: e.binder.Quiet, Pod: r.cluster.Pod,
	}, r.log)
	e.binder.Before(r.standby.Prepare, r.standby.HasVolumes)
	r.standby.SetVoice(e.recorder)
	return e
}

// Do hands an effect to its executor.
func (e *executors) Do(effect ledger.Effect) {
	switch x := effect.(type) {
	case ledger.Bind:
		e.binder.Do(x)
	case ledger.CreatePlaceholder, ledger.CancelPlaceholders, ledger.DeletePod, ledger.FailPod:
		e.pods.Do(x)
	case ledger.AssessGang:
		if why := e.gangProblem(x.App.TaskGroups); why != "" {
			e.recorder.Task(ledger.ReportTask{
				Task: x.Originator, Warning: true, Reason: ledger.ReasonGang, Action: "GangTooBig",
				Message: fmt.Sprintf("Application %s cannot be held by the cluster as it is: %s", x.App.ID, why),
			})
		}
	case ledger.ReportTask:
		e.recorder.Task(x)
	}
}

func (e *executors) Forget(taskID string) { e.recorder.Forget(taskID) }

func (e *executors) Stop() {
	e.binder.Stop()
	e.pods.Stop()
	e.recorder.Stop()
}

// What one attempt of an executor may take is bounded by the timeout of its requests.
const executorPatience = 11 * time.Second

func (e *executors) Probes() []term.Probe {
	return []term.Probe{
		{Name: "the binder", Patience: executorPatience, Look: e.binder.Progress},
		{Name: "what creates and deletes pods", Patience: executorPatience, Look: e.pods.Progress},
	}
}
