package drill

import (
	"context"
	"fmt"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/e2e/load"
)

// leadsWithin bounds how long an edit of the Lease keeps everybody from leading: a
// stranger's fifteen seconds, and some.
const leadsWithin = time.Minute

// leaseEdits does to the Lease what people have been seen to do, and kills the lead
// after some of it. There is always one lead again, which binds pods.
func leaseEdits(ctx context.Context, s *Session, g *load.Generator) error {
	for _, edit := range []struct {
		patch string
		kills bool
	}{
		{patch: `{"spec":{"holderIdentity":""}}`},
		{patch: `{"spec":{"holderIdentity":"somebody","leaseDurationSeconds":15,"renewTime":"2026-11-28T00:00:00.000000Z"}}`},
		{patch: `{"spec":{"leaseDurationSeconds":3600}}`, kills: true},
		{patch: `{"spec":{"renewTime":"2099-01-01T00:00:00.000000Z"}}`, kills: true},
		{patch: `{"metadata":{"annotations":{"understudy.dev/epoch":"abc"}}}`},
		{patch: `{"spec":{"leaseTransitions":2000000000}}`, kills: true},
		{patch: `{"spec":{"leaseTransitions":2147483647}}`, kills: true},
	} {
		if err := s.leadsDespite(ctx, g, edit.patch, edit.kills); err != nil {
			return fmt.Errorf("the Lease edited, %s: %w", edit.patch, err)
		}
	}
	return nil
}

func (s *Session) leadsDespite(ctx context.Context, g *load.Generator, patch string, kills bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, leadsWithin, fmt.Errorf("%v have passed", leadsWithin))
	defer cancel()
	fault, err := s.faultOfLead(ctx)
	if err != nil {
		return err
	}
	leases := s.Lab.Client().CoordinationV1().Leases(s.state.Namespace)
	_, err = leases.Patch(ctx, s.state.Lease, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return err // the fence refuses some edits, of which none is above
	}
	if kills {
		if err := s.Lab.Kill(fault.Replica, syscall.SIGKILL); err != nil {
			return err
		}
		if _, err := s.Failover(ctx, fault); err != nil {
			return err
		}
	}
	_, had := g.Progress()
	if err := await(ctx, "pods to be bound", func() (bool, error) {
		_, has := g.Progress()
		return has > had, nil
	}); err != nil {
		return err
	}
	if _, err := s.Lab.WaitLeader(ctx); err != nil {
		return err
	}
	return s.AwaitReady(ctx)
}
