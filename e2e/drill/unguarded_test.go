package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/internal/netfault"
)

// failing turns a drill into one that passes if that fails with want.
func failing(want error, do func(context.Context, *Session, *load.Generator) error) func(context.Context, *Session, *load.Generator) error {
	return func(ctx context.Context, s *Session, g *load.Generator) error {
		err := do(ctx, s, g)
		s.log.Info("the drill without its guard", "failed", err)
		if !errors.Is(err, want) {
			return fmt.Errorf("want it to fail with %q, got %w", want.Error(), cmp.Or(err, errors.New("success")))
		}
		return nil
	}
}

// Scenarios that pass with every guard on fail without the one that they are
// about.
func TestDrillsFailWithoutTheirGuard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		guard string
		lab   func(*lab.Options)
		do    func(context.Context, *Session, *load.Generator) error
		want  error
	}{
		{"gossip", withProxies, onNetwork(func(ctx context.Context, n network) error { return n.nobodyHearsAnybody(ctx) }), errDisputed},
		{"proof", nil, onNetwork(killUnderstudies), errDisputed},
		{"epoch-floor", nil, forgetLease, errEpochFell},
		{"budget", armable, cutFromEtcd, timeline.ErrNoSuccessor},
	} {
		t.Run(tt.guard, func(t *testing.T) {
			cfg := load.Default().Steady(40, 15*time.Second)
			cfg.Timeout = 40 * time.Second // leads may follow each other for ever
			drilled(t, unguarded(t, tt.guard, tt.lab), cfg, failing(tt.want, tt.do))
		})
	}
}

// A lead that is cut off from the API server, and ignores that its term is over, is
// stopped when it is back: by etcd, and without etcd's fence by the API server, as
// far as that can see. Without either it binds beside its successor.
func TestALeadThatWasCutOffIgnoresTheEndOfItsTerm(t *testing.T) {
	t.Parallel()
	cfg := load.Default().Steady(40, 30*time.Second)
	cfg.Timeout = 90 * time.Second
	t.Run("fenced", func(t *testing.T) {
		l := unguarded(t, "term", withProxies)
		fenceIs(t, l, serve.FenceEnforced)
		var old string
		v := drilled(t, l, cfg, func(ctx context.Context, s *Session, _ *load.Generator) (err error) {
			if old, err = s.Lab.Leader(ctx); err != nil {
				return err
			}
			cut, err := l.Replica(old).Process()
			if err != nil {
				return err
			}
			if err := cutOff(ctx, s, nil); err != nil {
				return err
			}
			return await(ctx, "the lead that was cut off to end", func() (bool, error) { return !cut.Running(), nil })
		})
		report(t, v, nil)
		if !wrote(t, l, old, "fenced") {
			t.Error("it does not say that etcd refused it")
		}
	})
	t.Run("unfenced", func(t *testing.T) {
		l := unguarded(t, "term,etcd-fence", withProxies)
		fenceIs(t, l, serve.FenceEnforced)
		v := drilled(t, l, cfg, cutOff)
		if passed(t, v, "fenced writes") {
			t.Error("writes of an older epoch went unnoticed")
		}
		if !passed(t, v, "one epoch binds") {
			t.Error("the API server let an older epoch bind")
		}
	})
	t.Run("unfenced_by_both", func(t *testing.T) {
		l := unguarded(t, "term,etcd-fence", func(o *lab.Options) { o.Proxies, o.NoFence = true, true })
		fenceIs(t, l, serve.FenceAbsent)
		if passed(t, drilled(t, l, cfg, cutOff), "one epoch binds") {
			t.Error("bindings of an older epoch went unnoticed")
		}
	})
}

// cutOff keeps the lead from the API server until another has taken over, and then
// lets it go on as if nothing had happened.
func cutOff(ctx context.Context, s *Session, _ *load.Generator) error {
	fault, err := s.faultOfLead(ctx)
	if err != nil {
		return err
	}
	if err := s.Lab.Fault(fault.Replica, lab.ToAPIServer, netfault.Cut); err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	s.Lab.Heal(fault.Replica)
	return err
}
