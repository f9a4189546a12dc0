package drill

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/internal/netfault"
)

const (
	// offered is how many pods a second come while API server or machine are slow.
	offered = 20
	// boundOf is the part of them that has to be bound in each minute.
	boundOf = 0.8
	// oneChangeIn is the time in which the lead may change once.
	oneChangeIn = 10 * time.Minute
	// busyLoops is how much else a machine has to do that is busy.
	busyLoops = 4
)

// delays are by how much answers come later that are slow, and by up to half as much
// again by chance.
var delays = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second}

func withLeaseProxies(o *lab.Options) { o.Proxies, o.LeaseProxies = true, true }

// slow has replicas wait for answers of the API server, to all that they ask of it or
// to some, for a time with each delay.
func slow(link lab.Link, each time.Duration, delays ...time.Duration) func(context.Context, *Session, *load.Generator) error {
	return func(ctx context.Context, s *Session, g *load.Generator) error {
		n := network{Session: s, load: g}
		defer func() {
			for _, name := range s.state.Replicas() {
				s.Lab.Heal(name)
			}
		}()
		for _, d := range delays {
			if err := n.Lab.WaitReady(ctx); err != nil {
				return err
			}
			late := netfault.Fault{Answers: netfault.Way{Delay: d, Jitter: d / 2}}
			for _, name := range s.state.Replicas() {
				if err := s.Lab.Fault(name, link, late); err != nil {
					return err
				}
			}
			if err := n.keepsUp(ctx, each); err != nil {
				return fmt.Errorf("%s, %v: %w", link, late, err)
			}
			for _, name := range s.state.Replicas() {
				s.Lab.Heal(name)
			}
		}
		return nil
	}
}

// busyHost runs busy loops beside the whole lab.
func busyHost(d time.Duration) func(context.Context, *Session, *load.Generator) error {
	return func(ctx context.Context, s *Session, g *load.Generator) error {
		looping, stop := context.WithCancel(ctx)
		var loops []*exec.Cmd
		defer func() {
			stop()
			for _, loop := range loops {
				_ = loop.Wait() // it was killed
			}
		}()
		for range busyLoops {
			loop := exec.CommandContext(looping, "sh", "-c", "while :; do :; done")
			if err := loop.Start(); err != nil {
				return err
			}
			loops = append(loops, loop)
		}
		return network{Session: s, load: g}.keepsUp(ctx, d)
	}
}

// keepsUp waits for d and sees to it that most of the pods are bound in each minute,
// that the lead hardly changes, and that no understudy is started again.
func (n network) keepsUp(ctx context.Context, d time.Duration) error {
	before, err := n.processes()
	if err != nil {
		return err
	}
	lead, err := n.lead(ctx)
	if err != nil {
		return err
	}
	known := len(n.Etcd.Events())
	n.Note()
	for left := d; left > 0; left -= time.Minute {
		created, bound := n.load.Progress()
		if err := pause(ctx, min(left, time.Minute)); err != nil {
			return err
		}
		createdNow, boundNow := n.load.Progress()
		n.log.Info("while it is slow", "created", createdNow-created, "bound", boundNow-bound)
		if float64(boundNow-bound) < boundOf*float64(createdNow-created) {
			return fmt.Errorf("%d pods were created within a minute, and %d bound", createdNow-created, boundNow-bound)
		}
	}
	leads, err := n.changesSince(known, lead.Replica)
	if err != nil {
		return err
	}
	if allowed := max(1, int(d/oneChangeIn)); len(leads) > allowed {
		return fmt.Errorf("the lead changed more than %d times in %v, to %v", allowed, d, leads)
	}
	after, err := n.processes()
	if err != nil {
		return err
	}
	var errs []error
	for name, pid := range before {
		if name != lead.Replica && !slices.Contains(leads, name) && after[name] != pid {
			errs = append(errs, fmt.Errorf("the understudy %s was started again", name))
		}
	}
	return errors.Join(errs...)
}

// changesSince returns who has led since the first known events, one after the other.
// The lead of before who goes on in a newer epoch is no change.
func (s *Session) changesSince(known int, lead string) ([]string, error) {
	var leads []string
	for _, ev := range s.Etcd.Events()[known:] {
		if ev.Key != "leader" || ev.Deleted {
			continue
		}
		_, incarnation, err := verify.LeaderOf(ev.Value)
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(incarnation, "_")
		if name != lead {
			leads = append(leads, name)
			lead = name
		}
	}
	return leads, nil
}

// processes returns the ID of the process that runs each replica.
func (s *Session) processes() (map[string]int, error) {
	pids := map[string]int{}
	for _, name := range s.state.Replicas() {
		p, err := s.Lab.Replica(name).Process()
		if err != nil {
			return nil, err
		}
		pids[name] = p.PID
	}
	return pids, nil
}
