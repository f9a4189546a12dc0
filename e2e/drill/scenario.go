package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/failpoint"
)

// Scenario is a fault under load, and what must be true afterwards besides the
// verdict.
type Scenario struct {
	Name  string
	About string
	// Lasts is how long the load goes on, if the default is too short.
	Lasts time.Duration
	// Rate is that of the load, in pods a second, if not what is asked for.
	Rate float64
	// Long is done only by those who ask for it.
	Long bool
	// Lab changes the lab that it wants; nil for any.
	Lab func(*lab.Options)
	// Do is called when a third of the pods is bound, or as many as come in warmUp.
	Do func(context.Context, *Session, *load.Generator) error
}

// warmUp bounds how long pods come before something is done.
const warmUp = 10 * time.Second

// Scenarios returns all of them.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "kill", About: "the lead is killed", Do: kill},
		{Name: "step-down", About: "the lead is asked to hand over to a replica by name", Do: stepDown},
		{Name: "rolling", About: "all replicas are told to end, one after the other", Lasts: 15 * time.Second, Do: rolling},
		{Name: "freeze", About: "the lead is frozen: its supervisor kills it", Lasts: 15 * time.Second, Do: freeze},
		{Name: "freeze-pod", About: "the lead is frozen with its supervisor past its lease, and thawed when another leads", Lasts: 15 * time.Second, Do: freezePod},
		{Name: "kill-successor", About: "the lead is killed, and its successor as soon as it has the lease", Lasts: 12 * time.Second, Do: successor},
		{Name: "kill-all", About: "all replicas are killed at once", Lasts: 12 * time.Second, Do: everybody},
		{Name: "oom", About: "the lead is killed together with its supervisor: nobody proves its death", Lasts: 15 * time.Second, Do: oom},
		{Name: "etcd-member-loss", About: "one of three members of the mirror's etcd is killed, then the lead", Lasts: 10 * time.Second, Lab: threeMembers, Do: etcdMemberLoss},
		{Name: "etcd-quorum-loss", About: "two of three members of the mirror's etcd are away for ten seconds", Lab: threeMembers, Lasts: 30 * time.Second, Do: etcdQuorumLoss},
		{Name: "kill-understudy", About: "each understudy is killed: the lead stays", Lasts: 12 * time.Second, Do: onNetwork(killUnderstudies)},
		{Name: "lease", About: "the Lease is deleted, then the lead killed, then the Lease forgotten by all: epochs still rise", Lasts: 35 * time.Second, Do: deleteLease},
		{Name: "lease-edits", About: "the Lease is edited by hand, in all ways that were ever seen", Lasts: 90 * time.Second, Rate: offered, Do: leaseEdits},
		{Name: "apiserver-restart", About: "the API server is killed and started again: whoever leads binds again", Lasts: 25 * time.Second, Do: apiserverRestart},
		{Name: "apiserver-and-lead", About: "the API server is killed and started again, and the lead killed meanwhile", Lasts: 25 * time.Second, Do: apiserverAndLead},
		{Name: "wipe", About: "the mirror's etcd loses all its data, then the lead is killed", Lasts: 15 * time.Second, Do: wipe},
		{Name: "relabel", About: "pods of all kinds are given the labels of other applications, then the lead is killed, twice", Lasts: 60 * time.Second, Do: relabel},
		{Name: "contradictions", About: "records that contradict each other are written into the mirror, then the lead is killed, twice", Lasts: 30 * time.Second, Do: contradictions},
		{Name: "etcd-away", About: "the mirror's etcd is away for a minute: scheduling goes on", Lasts: 100 * time.Second, Do: etcdAway},
		{Name: "hang-loop", About: "the lead's loop, which owns the ledger, hangs", Lab: armable, Lasts: lastsHung, Do: hang(failpoint.LoopStep)},
		{Name: "hang-core", About: "the core of the lead hangs while it looks for a node", Lab: armable, Lasts: lastsHung, Do: hang(failpoint.Predicates)},
		{Name: "hang-binder", About: "all that bind pods for the lead hang", Lab: armable, Lasts: lastsHung, Do: hang(failpoint.BindBefore)},
		{Name: "hang-manager", About: "the lead's app manager hangs", Lab: armable, Lasts: lastsHung, Do: hang(failpoint.ManagerHandle)},
		{Name: "cut-from-etcd-after-acquire", About: "whoever takes the Lease is cut off from etcd before it has claimed its epoch", Lab: armable, Lasts: lastsHung, Do: cutFromEtcd},
		{Name: "partition-lead", About: "the lead is cut off from the API server until another leads", Lab: withProxies, Do: onNetwork(partitionLead)},
		{Name: "partition-apiserver", About: "the lead, then each understudy, is cut off from the API server", Lasts: 90 * time.Second, Lab: withProxies, Do: onNetwork(partitionAPIServer)},
		{Name: "partition-etcd", About: "a lead is killed while cut off from etcd, then each replica is cut off from it", Lasts: 75 * time.Second, Lab: withProxies, Do: onNetwork(partitionEtcd)},
		{Name: "partition-gossip", About: "nobody hears anybody, then each replica does not: the lead stays", Lasts: 75 * time.Second, Lab: withProxies, Do: onNetwork(partitionGossip)},
		{Name: "etcd-slow", About: "etcd answers half a second later: scheduling goes on", Lasts: 27 * time.Second, Lab: withProxies, Do: onNetwork(etcdSlow)},
		{Name: "slow-apiserver", About: "the API server's answers come 0.5, 1, 2 and 3 seconds late, for a minute each", Lasts: 5 * time.Minute, Rate: offered, Lab: withProxies, Do: slow(lab.ToAPIServer, time.Minute, delays...)},
		{Name: "slow-lease", About: "the answers to writes of the Lease come 1 and 3 seconds late, for a minute each", Lasts: 150 * time.Second, Rate: offered, Lab: withLeaseProxies, Do: slow(lab.LeaseWrites, time.Minute, delays[1], delays[3])},
		{Name: "busy-host", About: "four busy loops run beside everything, for a minute", Lasts: 75 * time.Second, Rate: offered, Do: busyHost(time.Minute)},
		{Name: "slow-apiserver-long", About: "the API server's answers come 0.5, 1, 2 and 3 seconds late, for ten minutes each", Lasts: 43 * time.Minute, Long: true, Rate: offered, Lab: withProxies, Do: slow(lab.ToAPIServer, 10*time.Minute, delays...)},
		{Name: "slow-lease-long", About: "the answers to writes of the Lease come 0.5, 1, 2 and 3 seconds late, for ten minutes each", Lasts: 43 * time.Minute, Long: true, Rate: offered, Lab: withLeaseProxies, Do: slow(lab.LeaseWrites, 10*time.Minute, delays...)},
		{Name: "busy-host-long", About: "four busy loops run beside everything, for ten minutes", Lasts: 11 * time.Minute, Long: true, Rate: offered, Do: busyHost(10 * time.Minute)},
	}
}

// Find returns the scenario called name.
func Find(name string) (Scenario, error) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("no drill is called %q", name)
	}
	return all[i], nil
}

// Run does the scenario to a lab that nobody else uses meanwhile, under a load
// of rate pods a second, and judges it.
func (sc Scenario) Run(ctx context.Context, l *lab.Lab, rate float64, log *slog.Logger, out io.Writer) (verify.Verdict, error) {
	var none verify.Verdict
	s, err := Begin(ctx, l, log)
	if err != nil {
		return none, err
	}
	defer s.Close()
	cfg := load.Default().Steady(cmp.Or(sc.Rate, rate), max(sc.Lasts, 8*time.Second))
	// A name of its own, for several drills may be done to one lab.
	cfg.Name = fmt.Sprintf("%s-%d", sc.Name, time.Now().Unix())
	cfg.Timeout += sc.Lasts
	g, err := s.Load(cfg)
	if err != nil {
		return none, err
	}
	var result load.Result
	group, loadCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		result, err = g.Run(loadCtx)
		return err
	})
	group.Go(func() error {
		if err := g.WaitBound(loadCtx, min(cfg.Pods/3, int(cfg.Rate*warmUp.Seconds()))); err != nil {
			return err
		}
		return sc.Do(loadCtx, s, g)
	})
	failed := group.Wait()
	if ctx.Err() != nil {
		return none, errors.Join(failed, context.Cause(ctx))
	}
	_ = result.Print(out)
	verdict, err := s.Verdict(ctx)
	return verdict, errors.Join(failed, err)
}

func kill(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.KillLead(ctx, syscall.SIGKILL)
	if err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	return err
}

// stepDown asks the lead to hand over, as `understudy step-down` does.
func stepDown(ctx context.Context, s *Session, _ *load.Generator) error {
	epoch, err := s.Epoch()
	if err != nil {
		return err
	}
	s.Note()
	fault := Fault{Epoch: epoch, At: time.Now()}
	lead, err := s.Lab.Leader(ctx)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(s.state.Replicas(), func(name string) bool { return name == lead })
	next := others[rand.IntN(len(others))]
	lease := election.KubeLease(s.Lab.Client().CoordinationV1(), s.state.Namespace, s.state.Lease)
	h, err := election.StepDown(ctx, lease, next)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(h.To, next+"_") {
		return fmt.Errorf("%s leads, not %s as was asked for", h.To, next)
	}
	_, err = s.Failover(ctx, fault)
	return err
}

// rolling does what a rolling update does: each replica ends in order, when all
// are ready, the lead last.
func rolling(ctx context.Context, s *Session, _ *load.Generator) error {
	lead, err := s.Lab.Leader(ctx)
	if err != nil {
		return err
	}
	for _, name := range s.state.Replicas() {
		if name == lead {
			continue
		}
		if err := s.Lab.Kill(name, syscall.SIGTERM); err != nil {
			return err
		}
		if err := s.AwaitReady(ctx); err != nil {
			return err
		}
	}
	fault, err := s.KillLead(ctx, syscall.SIGTERM)
	if err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	return err
}

// freeze stops the lead for good: there is nothing to thaw.
func freeze(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.KillLead(ctx, syscall.SIGSTOP)
	if err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	return errors.Join(err, s.Lab.Thaw(fault.Replica)) // where no supervisor has killed it
}

// freezePod stops all that is in the container of the lead, as a node does that hangs.
func freezePod(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.FreezeLead(ctx)
	if err != nil {
		return err
	}
	frozen, err := s.Lab.Replica(fault.Replica).Process()
	if err != nil {
		return err
	}
	_, failed := s.Failover(ctx, fault)
	if err := errors.Join(failed, s.Lab.Thaw(fault.Replica)); err != nil {
		return err
	}
	return await(ctx, "the thawed lead to end", func() (bool, error) { return !frozen.Running(), nil })
}

func successor(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.KillLead(ctx, syscall.SIGKILL)
	if err != nil {
		return err
	}
	next, err := s.heldByAnother(ctx, fault)
	if err != nil {
		return err
	}
	if err := s.Lab.Kill(next, syscall.SIGKILL); err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	return err
}

func everybody(ctx context.Context, s *Session, _ *load.Generator) error {
	epoch, err := s.Epoch()
	if err != nil {
		return err
	}
	s.Note()
	fault := Fault{Epoch: epoch, At: time.Now()}
	for _, name := range s.state.Replicas() {
		if err := s.Lab.Kill(name, syscall.SIGKILL); err != nil {
			return err
		}
	}
	_, err = s.Failover(ctx, fault)
	return err
}

func threeMembers(o *lab.Options) { o.EtcdMembers = 3 }

// oom kills the lead as a container that ran out of memory is: with everything in
// it. Its supervisor cannot tell anyone, so that the Lease has to expire.
func oom(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.faultOfLead(ctx)
	if err != nil {
		return err
	}
	if err := s.Lab.Kill(lab.SupervisorOf(fault.Replica), syscall.SIGKILL); err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	return err
}

func etcdMemberLoss(ctx context.Context, s *Session, _ *load.Generator) error {
	members, err := s.Lab.EtcdMembers()
	if err != nil {
		return err
	}
	if err := s.Lab.Stop(members[0]); err != nil {
		return err
	}
	if err := kill(ctx, s, nil); err != nil {
		return err
	}
	return s.Lab.StartEtcd(ctx)
}

// etcdQuorumLoss leaves etcd without a majority; scheduling goes on.
func etcdQuorumLoss(ctx context.Context, s *Session, g *load.Generator) error {
	members, err := s.Lab.EtcdMembers()
	if err != nil {
		return err
	}
	s.Note()
	for _, name := range members[:2] {
		if err := s.Lab.Stop(name); err != nil {
			return err
		}
	}
	_, before := g.Progress()
	select {
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	_, after := g.Progress()
	if err := s.Lab.StartEtcd(ctx); err != nil {
		return err
	}
	if after == before {
		return errors.New("no pod was bound while etcd had no majority")
	}
	return nil
}

func wipe(ctx context.Context, s *Session, _ *load.Generator) error {
	s.Note()
	s.NoteReset()
	if err := s.Lab.WipeEtcd(ctx); err != nil {
		return err
	}
	fault, err := s.KillLead(ctx, syscall.SIGKILL)
	if err != nil && !errors.Is(err, lab.ErrGone) { // a lead that finds its mirror wiped ends by itself
		return err
	}
	_, err = s.Failover(ctx, fault)
	return err
}

// etcdAway also sees to it that pods are bound while etcd is away.
func etcdAway(ctx context.Context, s *Session, g *load.Generator) error {
	s.Note()
	if err := s.Lab.StopEtcd(); err != nil {
		return err
	}
	_, before := g.Progress()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	_, after := g.Progress()
	if err := s.Lab.StartEtcd(ctx); err != nil {
		return err
	}
	if after == before {
		return errors.New("no pod was bound while etcd was away")
	}
	return nil
}

func await(ctx context.Context, what string, ok func() (bool, error)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}
