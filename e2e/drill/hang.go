package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/internal/netfault"
	"github.com/understudy-ha/understudy/replica/failpoint"
)

const (
	// boundAgainWithin bounds how long a lead that gets on with nothing, or a replica
	// that has taken the Lease and cannot go on, keeps all others from binding pods. As a rule
	// it is 12 to 13 seconds: a machine may be busy.
	boundAgainWithin = 30 * time.Second
	// hung bounds what a scenario does with such a replica, with all waiting.
	hung = 2 * time.Minute
	// lastsHung is how long pods come, so that work waits all the while.
	lastsHung = 30 * time.Second
)

// armable replicas have proxies as well, so that all scenarios that want them can
// share a lab.
func armable(o *lab.Options) { o.Armable, o.Proxies = true, true }

// hang has a part of the lead wait for ever, while all others of it work, and it
// renews the Lease. Somebody else has to bind pods.
func hang(point string) func(context.Context, *Session, *load.Generator) error {
	return func(ctx context.Context, s *Session, _ *load.Generator) error {
		ctx, cancel := context.WithTimeoutCause(ctx, hung, fmt.Errorf("%v have passed", hung))
		defer cancel()
		fault, err := s.faultOfLead(ctx)
		if err != nil {
			return err
		}
		p, err := s.Lab.Replica(fault.Replica).Process()
		if err != nil {
			return err
		}
		if err := tellFailpoints(ctx, p, "hold="+point); err != nil {
			return err
		}
		if err := s.boundAgain(ctx, fault); err != nil {
			return fmt.Errorf("%s of %s: %w", point, fault.Replica, err)
		}
		if err := await(ctx, "the replica that hangs to end", func() (bool, error) { return !p.Running(), nil }); err != nil {
			return err
		}
		return s.AwaitReady(ctx)
	}
}

// cutFromEtcd kills the lead, and cuts whoever takes the Lease off from etcd before it
// has asked etcd for anything. It holds a Lease with which it can begin nothing, and
// has to leave that to another.
func cutFromEtcd(ctx context.Context, s *Session, g *load.Generator) error {
	return onNetwork(func(ctx context.Context, n network) error {
		ctx, cancel := context.WithTimeoutCause(ctx, hung, fmt.Errorf("%v have passed", hung))
		defer cancel()
		c, err := n.standing(ctx)
		if err != nil {
			return err
		}
		if err := n.tellAll(ctx, c.understudies, "hold="+failpoint.Claiming); err != nil {
			return err
		}
		fault, err := n.KillLead(ctx, syscall.SIGKILL)
		if err != nil {
			return err
		}
		holder, err := n.heldByAnother(ctx, fault)
		if err != nil {
			return err
		}
		cut, err := n.Lab.Replica(holder).Process()
		if err != nil {
			return err
		}
		err = errors.Join(n.Lab.Fault(holder, lab.ToEtcd, netfault.Cut), n.tellAll(ctx, c.understudies, "release="+failpoint.Claiming))
		if err != nil {
			return err
		}
		if err := n.boundAgain(ctx, fault); err != nil {
			return fmt.Errorf("%s took the Lease: %w", holder, err)
		}
		lead, err := n.Lab.WaitLeader(ctx)
		switch {
		case err != nil:
			return err
		case lead == holder:
			return fmt.Errorf("%s leads, which is cut off from etcd", holder)
		case !cut.Running(): // it had taken nothing over
			return fmt.Errorf("%s has ended, and has to be warm", holder)
		}
		n.Lab.Heal(holder)
		return n.AwaitReady(ctx)
	})(ctx, s, g)
}

// tellAll tells the failpoints of several replicas the same.
func (s *Session) tellAll(ctx context.Context, replicas []string, query string) error {
	for _, name := range replicas {
		p, err := s.Lab.Replica(name).Process()
		if err != nil {
			return err
		}
		if err := tellFailpoints(ctx, p, query); err != nil {
			return err
		}
	}
	return nil
}

// boundAgain waits until a successor of the lead that f hit binds pods, and is
// told when that took too long. On a slow machine no other pods may come any more, so that
// it makes one.
func (s *Session) boundAgain(ctx context.Context, f Fault) error {
	waits, err := s.create(ctx, podOf("again", fmt.Sprintf("again-%d-%d", f.Epoch, f.At.UnixNano())))
	if err != nil {
		return err
	}
	s.expect(waits...)
	line, err := s.Failover(ctx, f)
	if err != nil {
		return err
	}
	bound := line.Step(timeline.FirstBind)
	if bound == nil || bound.Offset > boundAgainWithin {
		return fmt.Errorf("nobody bound a pod within %v: %+v", boundAgainWithin, bound)
	}
	s.log.Info("pods are bound again", "after", bound.Offset, "epoch", line.NewEpoch)
	return nil
}

// tellFailpoints arms, holds or releases one in a replica.
func tellFailpoints(ctx context.Context, replica lab.Process, query string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, replica.HTTP+"/debug/failpoint?"+query, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s", query, replica.Name, answer.Status)
	}
	return nil
}
