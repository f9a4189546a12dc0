package drill

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
)

// unguarded starts a lab whose replicas have the guards switched off.
func unguarded(t *testing.T, guards string, change func(*lab.Options)) *lab.Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	binary := failpoints(t)
	return up(t, func(o *lab.Options) {
		o.Binary, o.Env = binary, []string{"UNDERSTUDY_GUARDS_OFF=" + guards}
		if change != nil {
			change(o)
		}
	})
}

// drilled puts a steady load on l, has do done to it, and returns the verdict.
func drilled(t *testing.T, l *lab.Lab, cfg load.Config, do func(context.Context, *Session, *load.Generator) error) verify.Verdict {
	t.Helper()
	s, err := Begin(t.Context(), l, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g, err := s.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.Go(func() error {
		// What an unguarded lead breaks may leave pods unbound for ever.
		if _, err := g.Run(ctx); err != nil && ctx.Err() == nil {
			t.Logf("load: %v", err)
		}
		return nil
	})
	group.Go(func() error {
		if err := g.WaitBound(ctx, cfg.Pods/4); err != nil {
			return err
		}
		return do(ctx, s, g)
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	verdict, err := s.Verdict(t.Context())
	var out strings.Builder
	_ = verdict.Print(&out)
	t.Logf("err %v\n%s", err, out.String())
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

func passed(t *testing.T, v verify.Verdict, name string) bool {
	t.Helper()
	for _, c := range v.Checks {
		if c.Name == name {
			return c.OK
		}
	}
	t.Fatalf("no check is called %q", name)
	return false
}

// zombie freezes the lead and its supervisor until another has taken over, and lets it go on as if
// nothing had happened.
func zombie(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.FreezeLead(ctx)
	if err != nil {
		return err
	}
	_, failed := s.Failover(ctx, fault)
	return errors.Join(failed, s.Lab.Thaw(fault.Replica))
}

// A lead that ignores the end of its term is stopped by etcd: what it can not
// commit it does not act on. Without etcd's fence it writes beside its successor,
// and without that of the API server it also binds; the verdict says so.
func TestEtcdFencesALeadThatIgnoresTheEndOfItsTerm(t *testing.T) {
	t.Parallel()
	cfg := load.Default().Steady(40, 25*time.Second)
	cfg.Timeout = 90 * time.Second
	t.Run("fenced", func(t *testing.T) {
		report(t, drilled(t, unguarded(t, "term", nil), cfg, zombie), nil)
	})
	t.Run("unfenced", func(t *testing.T) {
		v := drilled(t, unguarded(t, "term,etcd-fence", nil), cfg, zombie)
		if passed(t, v, "fenced writes") {
			t.Error("writes of an older epoch went unnoticed")
		}
		if !passed(t, v, "one epoch binds") {
			t.Error("the API server let an older epoch bind")
		}
	})
	t.Run("unfenced_by_both", func(t *testing.T) {
		l := unguarded(t, "term,etcd-fence", func(o *lab.Options) { o.NoFence = true })
		fenceIs(t, l, serve.FenceAbsent)
		if passed(t, drilled(t, l, cfg, zombie), "one epoch binds") {
			t.Error("bindings of an older epoch went unnoticed")
		}
	})
}

// What a lead decides while etcd does not answer, it does not act upon: when it
// dies before etcd is back, nobody else has ever heard of it. Without the guard
// it binds, and the verdict says that only its successor wrote down what it did.
func TestEffectsWaitForTheCommit(t *testing.T) {
	l := unguarded(t, "", func(o *lab.Options) {
		o.Configure = func(_ string, file map[string]any) { file["mirror"] = map[string]any{"policy": "strict"} }
	})
	cfg := load.Default()
	cfg.Pods, cfg.Timeout = 40, 2*time.Minute
	t.Run("guarded", func(t *testing.T) {
		cfg.Name = "guarded"
		report(t, drilled(t, l, cfg, func(ctx context.Context, s *Session, g *load.Generator) error {
			return etcdFrozen(ctx, t, s, g, cfg, func(ctx context.Context, _ *load.Generator) error {
				return await(ctx, "decisions that are held back", func() (bool, error) {
					return leadSays(ctx, s, func(now serve.Status) bool { return now.Counts.Tasks["TaskAllocated"] >= cfg.Pods }), nil
				})
			})
		}), nil)
	})
	t.Run("unguarded", func(t *testing.T) {
		restartWith(t, l, "UNDERSTUDY_GUARDS_OFF=commit-before-act")
		cfg.Name = "unguarded"
		v := drilled(t, l, cfg, func(ctx context.Context, s *Session, g *load.Generator) error {
			return etcdFrozen(ctx, t, s, g, cfg, func(ctx context.Context, late *load.Generator) error {
				return late.WaitBound(ctx, cfg.Pods)
			})
		})
		if passed(t, v, "intent before bind") {
			t.Error("bindings ahead of their records went unnoticed")
		}
	})
}

// etcdFrozen freezes the mirror's etcd when g is done and puts another load of
// cfg on, whose decisions etcd cannot get; it kills the lead when decided has
// returned, and thaws etcd.
func etcdFrozen(
	ctx context.Context, t *testing.T, s *Session, g *load.Generator, cfg load.Config,
	decided func(_ context.Context, late *load.Generator) error,
) error {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, errors.New("it took too long"))
	defer cancel()
	if err := g.WaitBound(ctx, cfg.Pods); err != nil {
		return err
	}
	var loads sync.WaitGroup
	defer loads.Wait()
	put := func(name string, pods int) (*load.Generator, error) {
		more := cfg
		more.Name, more.Pods = cfg.Name+"-"+name, pods
		g, err := s.Load(more)
		if err == nil {
			loads.Go(func() {
				if _, err := g.Run(ctx); err != nil {
					t.Logf("load %s: %v", name, err)
				}
			})
		}
		return g, err
	}
	const etcd = "etcd-0"
	if err := s.Lab.Kill(etcd, syscall.SIGSTOP); err != nil {
		return err
	}
	thaw := sync.OnceValue(func() error { return s.Lab.Kill(etcd, syscall.SIGCONT) })
	defer thaw()
	// One batch is on its way to etcd, and arrives when that thaws. Once it is
	// missed, everything else waits behind it.
	if _, err := put("first", 1); err != nil {
		return err
	}
	err := await(ctx, "etcd to be missed", func() (bool, error) {
		return leadSays(ctx, s, func(now serve.Status) bool { return now.Mirror.LastError != "" }), nil
	})
	if err != nil {
		return err
	}
	late, err := put("late", cfg.Pods)
	if err != nil {
		return err
	}
	if err := decided(ctx, late); err != nil {
		return err
	}
	_, err = s.KillLead(ctx, syscall.SIGKILL)
	if err := errors.Join(err, thaw()); err != nil {
		return err
	}
	// There may be nothing left to bind, so the failover as such is not waited for.
	_, err = s.Lab.WaitLeader(ctx)
	return err
}

// restartWith restarts all replicas with something in their environment.
func restartWith(t *testing.T, l *lab.Lab, env string) {
	t.Helper()
	replicas, err := l.Replicas()
	for _, r := range replicas {
		err = errors.Join(err, l.SetEnv(r.Name, env), l.Restart(r.Name))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := l.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
}

// leadSays reports whether something is so by the status of the lead.
func leadSays(ctx context.Context, s *Session, so func(serve.Status) bool) bool {
	lead, err := s.Lab.Leader(ctx)
	if err != nil {
		return false
	}
	now, err := s.Lab.Replica(lead).Status(ctx)
	return err == nil && so(now)
}

// A lead whose engine was not told what the nodes hold would put too much on
// them. It compares its engine's account with the ledger's, and gives the Lease
// up; without that comparison the nodes are overcommitted, and the verdict says so.
func TestEngineThatDoesNotKnowWhatNodesHold(t *testing.T) {
	t.Parallel()
	small := func(o *lab.Options) {
		o.Nodes, o.Node = 4, lab.NodeSize{CPU: "10", Memory: "64Gi", Pods: "200"}
	}
	cfg := load.Default().Steady(20, 24*time.Second) // 480 pods of 0.1 CPU; 400 fill the nodes
	cfg.Timeout = 60 * time.Second
	t.Run("compared", func(t *testing.T) {
		cfg := load.Default().Steady(20, 10*time.Second) // which nobody completes
		cfg.Timeout = 20 * time.Second
		v := drilled(t, unguarded(t, "recovery", small), cfg, func(ctx context.Context, s *Session, _ *load.Generator) error {
			lead, err := s.Lab.Leader(ctx)
			if err != nil {
				return err
			}
			if err := s.Lab.Kill(lead, syscall.SIGKILL); err != nil {
				return err
			}
			return await(ctx, "a replica that does not trust its engine", func() (bool, error) {
				return said(s.Lab, "the engine's usage of queues is not the ledger's")
			})
		})
		if !passed(t, v, "node capacity") {
			t.Error("nodes are over their capacity")
		}
	})
	t.Run("not_compared", func(t *testing.T) {
		if passed(t, drilled(t, unguarded(t, "recovery,usage", small), cfg, kill), "node capacity") {
			t.Error("nodes over their capacity went unnoticed")
		}
	})
}

// said reports whether any replica has logged the text.
func said(l *lab.Lab, text string) (bool, error) {
	replicas, err := l.Replicas()
	if err != nil {
		return false, err
	}
	for _, r := range replicas {
		p, err := r.Process()
		if err != nil {
			return false, err
		}
		if raw, err := os.ReadFile(p.Log); err == nil && strings.Contains(string(raw), text) {
			return true, nil
		}
	}
	return false, nil
}

// Pods that vanish while nobody leads leave records behind, unless the next
// lead asks the cluster.
func TestLeftOverRecordsAreNoticedWithoutReconciling(t *testing.T) {
	t.Parallel()
	cfg := load.Default()
	cfg.Pods, cfg.Timeout = 100, 60*time.Second
	// Nobody leads for as long as the Lease lasts.
	l := unguarded(t, "reconcile", func(o *lab.Options) { o.Supervise = false })
	v := drilled(t, l, cfg, func(ctx context.Context, s *Session, g *load.Generator) error {
		if err := g.WaitBound(ctx, cfg.Pods); err != nil {
			return err
		}
		for _, name := range s.state.Replicas() {
			if err := s.Lab.Kill(name, syscall.SIGKILL); err != nil {
				return err
			}
		}
		for _, pod := range g.Created()[:20] {
			if err := s.Lab.Client().CoreV1().Pods(cfg.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
				return err
			}
		}
		// No pod is left to be bound, so the failover as such is not waited for.
		_, err := s.Lab.WaitLeader(ctx)
		return err
	})
	if passed(t, v, "records agree") {
		t.Error("records without pods went unnoticed")
	}
}
