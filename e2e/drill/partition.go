package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/internal/netfault"
)

const (
	// partitioned bounds what a scenario does to the network, with all waiting.
	partitioned = 5 * time.Minute
	// pastTheLease is longer than a Lease lasts that is not renewed, pastPatience
	// than a mirror waits for etcd.
	pastTheLease, pastPatience = 6 * time.Second, 4 * time.Second
	// pastRelease is longer than a supervisor takes to release a Lease.
	pastRelease = 2 * time.Second
	// pastSuspicion is longer than gossip takes to give a silent member up.
	pastSuspicion = 4 * time.Second
	// takenWithin bounds the time to the next lead. One whose requests arrive
	// without its knowing renews the Lease once more before it gives up.
	takenWithin = 15 * time.Second
	// attempts is how often a fault is repeated that met a lead which gave up for
	// want of CPU.
	attempts = 3
)

func withProxies(o *lab.Options) { o.Proxies = true }

// network is a session whose replicas get cut off.
type network struct {
	*Session
	load *load.Generator
	// shows waits, before a fault is mended, for what shows that it works; it may
	// be nil.
	shows func(context.Context, crew) error
}

// onNetwork makes a scenario of do, which is given a bounded time and need not
// heal what it breaks.
func onNetwork(do func(context.Context, network) error) func(context.Context, *Session, *load.Generator) error {
	return func(ctx context.Context, s *Session, g *load.Generator) error {
		ctx, cancel := context.WithTimeoutCause(ctx, partitioned, fmt.Errorf("%v have passed", partitioned))
		defer cancel()
		defer func() {
			for _, name := range s.state.Replicas() {
				s.Lab.Heal(name)
			}
		}()
		return do(ctx, network{Session: s, load: g})
	}
}

// crew is who leads, and who does not.
type crew struct {
	lead         Fault
	understudies []string
}

// standing waits until everybody is ready.
func (n network) standing(ctx context.Context) (crew, error) {
	var c crew
	if err := n.Lab.WaitReady(ctx); err != nil {
		return c, err
	}
	var err error
	c.lead, err = n.Session.lead(ctx)
	c.understudies = slices.DeleteFunc(n.state.Replicas(), func(other string) bool { return other == c.lead.Replica })
	return c, err
}

// Whom a fault is for.
func theLead(c crew) []string         { return []string{c.lead.Replica} }
func allUnderstudies(c crew) []string { return c.understudies }
func everyReplica(c crew) []string    { return append(theLead(c), c.understudies...) }

// eachUnderstudy are all there are, one at a time.
func (n network) eachUnderstudy() []func(crew) []string {
	var each []func(crew) []string
	for i := range len(n.state.Replicas()) - 1 {
		each = append(each, func(c crew) []string { return c.understudies[i : i+1] })
	}
	return each
}

// failover breaks a link of the lead, and mends it when somebody else leads.
func (n network) failover(ctx context.Context, link lab.Link, f netfault.Fault) error {
	c, err := n.standing(ctx)
	if err != nil {
		return err
	}
	n.Note()
	c.lead.At = time.Now()
	if err := n.Lab.Fault(c.lead.Replica, link, f); err != nil {
		return err
	}
	if err := n.succeeded(ctx, c.lead); err != nil {
		return fmt.Errorf("%s of %s, %v: %w", link, c.lead.Replica, f, err)
	}
	n.Lab.Heal(c.lead.Replica)
	return nil
}

// succeeded waits for the successor, whose lead nobody may dispute.
func (n network) succeeded(ctx context.Context, lead Fault) error {
	tl, err := n.Failover(ctx, lead)
	if err != nil {
		return err
	}
	steps := []any{"lead", lead.Replica, "epoch", tl.NewEpoch, "noBind", tl.NoBind}
	for _, name := range []string{timeline.Claimed, "leading", timeline.FirstBind} {
		if step := tl.Step(name); step != nil {
			steps = append(steps, name, step.Offset)
		}
	}
	n.log.Info("the lead was succeeded", steps...)
	if claimed := tl.Step(timeline.Claimed); claimed != nil && claimed.Offset > takenWithin {
		return fmt.Errorf("the next epoch was claimed after %v", claimed.Offset)
	}
	// Who cannot be asked is about to be started again.
	if s, err := n.Lab.Replica(lead.Replica).Status(ctx); err == nil && s.Role == serve.Lead && s.Epoch == lead.Epoch {
		return errors.New("it still leads")
	}
	return nil
}

// errDisputed says that a lead lost its Lease though it lived and renewed it.
var errDisputed = errors.New("the lead was followed by another though it lived")

// stays does what must leave the lead alone, and again if that gave up meanwhile
// for want of CPU.
func (n network) stays(ctx context.Context, what string, do func(context.Context, crew) error) error {
	for attempt := 1; ; attempt++ {
		before, err := n.standing(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		n.Note()
		if err := do(ctx, before); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		epoch, err := n.Epoch()
		if err == nil && epoch == before.lead.Epoch {
			var after crew
			after, err = n.standing(ctx)
			epoch = after.lead.Epoch
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if epoch == before.lead.Epoch {
			return nil
		}
		late, err := n.notRenewed(before.lead)
		if err != nil {
			return err
		}
		if !late || attempt == attempts {
			return fmt.Errorf("%s: %w: epoch %d of %s, then %d", what, errDisputed, before.lead.Epoch, before.lead.Replica, epoch)
		}
	}
}

// unmoved breaks a link of replicas for d. The lead has to lead on, and pods have
// to be bound.
func (n network) unmoved(ctx context.Context, whom func(crew) []string, link lab.Link, f netfault.Fault, d time.Duration) error {
	return n.stays(ctx, fmt.Sprintf("%s, %v", link, f), func(ctx context.Context, c crew) error {
		for _, name := range whom(c) {
			if err := n.Lab.Fault(name, link, f); err != nil {
				return err
			}
		}
		_, had := n.load.Progress()
		if err := pause(ctx, d); err != nil {
			return err
		}
		created, has := n.load.Progress()
		if n.shows != nil {
			if err := n.shows(ctx, c); err != nil {
				return err
			}
		}
		for _, name := range whom(c) {
			n.Lab.Heal(name)
		}
		if has == had && created > had {
			return fmt.Errorf("of %v: none of %d pods was bound in %v", whom(c), created-had, d)
		}
		return nil
	})
}

// notRenewed reports whether the term of a lead that can reach the API server
// ended because it did not renew its Lease in time, as happens on a busy machine:
// nobody took it.
func (n network) notRenewed(lead Fault) (bool, error) {
	log, err := os.ReadFile(n.state.Process(lead.Replica).Log)
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(log) {
		var said struct {
			Msg, Cause string
			Epoch      uint64
		}
		if json.Unmarshal(line, &said) == nil && said.Msg == "term over" &&
			said.Epoch == lead.Epoch && said.Cause == election.ErrRenewDeadline.Error() {
			return true, nil
		}
	}
	return false, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waysToBeCutOff are all there are.
var waysToBeCutOff = []netfault.Fault{netfault.Cut, netfault.LostRequests, netfault.LostAnswers}

// unmovedByAll cuts off each of whom in turn, in every way.
func (n network) unmovedByAll(ctx context.Context, whom []func(crew) []string, link lab.Link, d time.Duration) error {
	for _, one := range whom {
		for _, f := range waysToBeCutOff {
			if err := n.unmoved(ctx, one, link, f, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// partitionAPIServer costs a lead its Lease. Understudies believe it to be free,
// and what they do about it arrives, or does not.
func partitionAPIServer(ctx context.Context, n network) error {
	for _, f := range waysToBeCutOff {
		if err := n.failover(ctx, lab.ToAPIServer, f); err != nil {
			return err
		}
	}
	if err := n.unmoved(ctx, allUnderstudies, lab.ToAPIServer, netfault.LostAnswers, pastTheLease); err != nil {
		return err
	}
	return n.unmovedByAll(ctx, n.eachUnderstudy(), lab.ToAPIServer, pastTheLease)
}

// partitionLead is one failover and no more, to be repeated and measured.
func partitionLead(ctx context.Context, n network) error {
	return n.failover(ctx, lab.ToAPIServer, netfault.Cut)
}

// partitionEtcd leaves the lead to lead, ahead of its records. What it owes when
// it dies meanwhile, its successor finds in the cluster.
func partitionEtcd(ctx context.Context, n network) error {
	c, err := n.standing(ctx)
	if err != nil {
		return err
	}
	if err := n.Lab.Fault(c.lead.Replica, lab.ToEtcd, netfault.Cut); err != nil {
		return err
	}
	if err := pause(ctx, pastPatience); err != nil {
		return err
	}
	fault, err := n.KillLead(ctx, syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := n.succeeded(ctx, fault); err != nil {
		return fmt.Errorf("killed while cut off from etcd: %w", err)
	}
	n.Lab.Heal(c.lead.Replica)
	return n.unmovedByAll(ctx, append(n.eachUnderstudy(), theLead), lab.ToEtcd, pastPatience)
}

// partitionGossip takes hints away, and gives wrong ones: when nobody hears anybody,
// the others believe the lead to be dead. Neither moves the Lease.
func partitionGossip(ctx context.Context, n network) error {
	if err := n.nobodyHearsAnybody(ctx); err != nil {
		return err
	}
	if err := n.unmovedByAll(ctx, append(n.eachUnderstudy(), theLead), lab.Gossip, pastSuspicion); err != nil {
		return err
	}
	return await(ctx, "everybody to know everybody", func() (bool, error) {
		return !slices.ContainsFunc(n.state.Replicas(), func(name string) bool {
			s, err := n.Lab.Replica(name).Status(ctx)
			return err != nil || len(present(s.Members)) < len(n.state.Replicas())
		}), nil
	})
}

func (n network) nobodyHearsAnybody(ctx context.Context) error {
	n.shows = n.leadTakenForDead
	return n.unmoved(ctx, everyReplica, lab.Gossip, netfault.Cut, pastTheLease)
}

// killUnderstudies is no loss to the lead: the death of one who does not hold the
// Lease proves nothing about who does.
func killUnderstudies(ctx context.Context, n network) error {
	for _, whom := range n.eachUnderstudy() {
		err := n.stays(ctx, "SIGKILL to an understudy", func(ctx context.Context, c crew) error {
			for _, name := range whom(c) {
				if err := n.Lab.Kill(name, syscall.SIGKILL); err != nil {
					return err
				}
			}
			return pause(ctx, pastRelease)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (n network) leadTakenForDead(ctx context.Context, c crew) error {
	return await(ctx, "gossip to take the lead for dead", func() (bool, error) {
		return !slices.ContainsFunc(c.understudies, func(name string) bool {
			s, err := n.Lab.Replica(name).Status(ctx)
			return err != nil || present(s.Members)[c.lead.Replica]
		}), nil
	})
}

// present returns the replicas that gossip does not take for gone.
func present(members []serve.Member) map[string]bool {
	replicas := map[string]bool{}
	for _, m := range members {
		if !m.Gone {
			replicas[m.Replica] = true
		}
	}
	return replicas
}

// etcdSlow holds up what everybody asks of etcd by less than the mirror's patience.
func etcdSlow(ctx context.Context, n network) error {
	for _, d := range []time.Duration{200 * time.Millisecond, 350 * time.Millisecond, 500 * time.Millisecond} {
		if err := n.unmoved(ctx, everyReplica, lab.ToEtcd, netfault.Slow(d), 7*time.Second); err != nil {
			return err
		}
	}
	return nil
}
