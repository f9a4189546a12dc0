package drill

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/e2e/load"
)

// backWithin bounds what is done to the API server, until pods are bound again.
const backWithin = 3 * time.Minute

// apiserverRestart kills the API server, which is started again at once. The lead
// stays if it gets to renew its Lease in time; whoever leads binds pods again.
func apiserverRestart(ctx context.Context, s *Session, g *load.Generator) error {
	ctx, cancel := context.WithTimeoutCause(ctx, backWithin, fmt.Errorf("%v have passed", backWithin))
	defer cancel()
	epoch, err := s.Epoch()
	if err != nil {
		return err
	}
	s.Note()
	fault := Fault{Epoch: epoch, At: time.Now()}
	if err := s.Lab.CrashAPIServer(); err != nil {
		return err
	}
	if err := s.Lab.AwaitAPIServer(ctx); err != nil {
		return err
	}
	_, had := g.Progress()
	err = await(ctx, "pods to be bound again", func() (bool, error) {
		_, has := g.Progress()
		return has > had, nil
	})
	if err != nil {
		return err
	}
	if epoch, err = s.Epoch(); err == nil && epoch > fault.Epoch {
		_, err = s.Failover(ctx, fault)
	}
	return err
}

// apiserverAndLead kills the API server, and the lead before that is back: nobody
// can take the Lease until then.
func apiserverAndLead(ctx context.Context, s *Session, _ *load.Generator) error {
	ctx, cancel := context.WithTimeoutCause(ctx, backWithin, fmt.Errorf("%v have passed", backWithin))
	defer cancel()
	fault, err := s.faultOfLead(ctx)
	if err != nil {
		return err
	}
	if err := s.Lab.CrashAPIServer(); err != nil {
		return err
	}
	if err := s.Lab.Kill(fault.Replica, syscall.SIGKILL); err != nil {
		return err
	}
	_, err = s.Failover(ctx, fault)
	return err
}
