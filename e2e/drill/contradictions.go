package drill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// contradicted bounds the scenario, with all waiting.
const contradicted = 3 * time.Minute

// contradictions writes records into the mirror that contradict each other, the cluster
// or sense, and has two leads recover from that. Whatever becomes of the applications
// they are about, those of the load are scheduled as always.
func contradictions(ctx context.Context, s *Session, _ *load.Generator) error {
	ctx, cancel := context.WithTimeoutCause(ctx, contradicted, fmt.Errorf("%v have passed", contradicted))
	defer cancel()
	var victims []*v1.Pod
	tag := fmt.Sprint(time.Now().Unix())
	for i := range 6 {
		victims = append(victims, podOf(fmt.Sprintf("victim-%s-%d", tag, i), fmt.Sprintf("victim-%s-%d", tag, i)))
	}
	victims, err := s.create(ctx, victims...)
	if err != nil {
		return err
	}
	s.expect(victims...)
	if err := s.awaitPods(ctx, "pods to run", victims, isRunning); err != nil {
		return err
	}
	for _, when := range []string{"after contradictions were written", "after they were written again"} {
		if err := s.contradict(ctx, victims, tag); err != nil {
			return err
		}
		fault, err := s.KillLead(ctx, syscall.SIGKILL)
		if err != nil {
			return err
		}
		if err := s.boundAgain(ctx, fault); err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		if err := s.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// contradict writes one contradiction of each kind.
func (s *Session) contradict(ctx context.Context, victims []*v1.Pod, tag string) error {
	var tasks []*ledger.Task
	for _, pod := range victims {
		t, err := s.taskOf(ctx, pod)
		if err != nil {
			return err
		}
		tasks = append(tasks, t)
	}
	app := func(name string) *ledger.App {
		return &ledger.App{ID: name + "-" + tag, Manager: "general", Queue: "root.default", State: ledger.AppStateRunning, Submitted: ledger.At(time.Now())}
	}
	forged := func(base *ledger.Task, edit func(*ledger.Task)) *ledger.Task {
		t := *base
		edit(&t)
		return &t
	}
	sized := func(amount int64) func(*ledger.Task) {
		return func(t *ledger.Task) { t.Resources = map[string]int64{"vcore": amount, "memory": amount} }
	}
	all := []*ledger.Task{
		// One UID in two applications: one that exists, one that does not.
		forged(tasks[0], func(t *ledger.Task) { t.AppID = tasks[1].AppID }),
		forged(tasks[1], func(t *ledger.Task) { t.AppID = "unknown-" + tag }),
		// Sizes that there are not, and a sum of them above every quota.
		forged(tasks[2], sized(-1)), forged(tasks[3], sized(math.MaxInt64)), forged(tasks[4], sized(math.MaxInt64)),
		// A node that does not exist, below a pod that runs elsewhere, and for no pod.
		forged(tasks[5], func(t *ledger.Task) { t.Node = "no-such-node" }),
		forged(tasks[5], func(t *ledger.Task) { t.ID, t.Name, t.Node = "no-such-uid-"+tag, "no-such-pod", "no-such-node" }),
		// Tasks, waiting and bound, of an application without a record, and of no pod.
		forged(tasks[5], func(t *ledger.Task) { t.AppID, t.ID, t.Name = "half-"+tag, "half-1-"+tag, "half-1" }),
		forged(tasks[5], func(t *ledger.Task) {
			t.AppID, t.ID, t.Name, t.Node, t.State = "half-"+tag, "half-2-"+tag, "half-2", "", ledger.TaskStatePending
		}),
	}
	var errs []error
	for _, t := range all {
		key := record.Keys{}.Task(t.AppID, t.ID)
		errs = append(errs, s.Forge(ctx, strings.TrimPrefix(key, "/"), record.EncodeTask(t)))
	}
	for _, a := range []*ledger.App{app("without-tasks"), app("victim-of-nobody")} {
		key := record.Keys{}.App(a.ID)
		errs = append(errs, s.Forge(ctx, strings.TrimPrefix(key, "/"), record.EncodeApp(a)))
	}
	return errors.Join(errs...)
}

// taskOf reads the record of a pod that is bound.
func (s *Session) taskOf(ctx context.Context, pod *v1.Pod) (*ledger.Task, error) {
	key := record.Keys{Prefix: s.state.Prefix}.Task(pod.Labels[oldAppLabel], string(pod.UID))
	var raw []byte
	err := await(ctx, "the record "+key, func() (bool, error) {
		got, err := s.Lab.Etcd().Get(ctx, key)
		if err != nil || len(got.Kvs) == 0 {
			return false, err
		}
		raw = got.Kvs[0].Value
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return record.DecodeTask(raw)
}
