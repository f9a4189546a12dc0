package drill

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	binary := failpoints(t.Context(), t)
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

// zombie freezes the lead until another has taken over, and lets it go on as if
// nothing had happened.
func zombie(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.KillLead(ctx, syscall.SIGSTOP)
	if err != nil {
		return err
	}
	_, failed := s.Failover(ctx, fault)
	return errors.Join(failed, s.Lab.Kill(fault.Replica, syscall.SIGCONT))
}

// A lead that ignores the end of its term is stopped by etcd: what it can not
// commit it does not act on. Without etcd's fence it writes and binds beside its
// successor, and the verdict says so.
func TestEtcdFencesALeadThatIgnoresTheEndOfItsTerm(t *testing.T) {
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
	})
}

// A lead whose engine was not told what the nodes hold puts too much on them.
func TestCapacityIsNoticedWithoutRecovery(t *testing.T) {
	l := unguarded(t, "recovery", func(o *lab.Options) {
		o.Nodes, o.Node = 4, lab.NodeSize{CPU: "10", Memory: "64Gi", Pods: "200"}
	})
	cfg := load.Default().Steady(20, 24*time.Second) // 480 pods of 0.1 CPU; 400 fill the nodes
	cfg.Timeout = 60 * time.Second
	v := drilled(t, l, cfg, kill)
	if passed(t, v, "node capacity") {
		t.Error("nodes over their capacity went unnoticed")
	}
}

// Pods that vanish while nobody leads leave records behind, unless the next
// lead asks the cluster.
func TestLeftOverRecordsAreNoticedWithoutReconciling(t *testing.T) {
	cfg := load.Default()
	cfg.Pods, cfg.Timeout = 100, 60*time.Second
	v := drilled(t, unguarded(t, "reconcile", nil), cfg, func(ctx context.Context, s *Session, g *load.Generator) error {
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
