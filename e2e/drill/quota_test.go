package drill

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

// Pods wait for a quota when the lead is killed. The next one knows what their queue
// uses: it binds as many of them as others make room for. One whose engine was not
// told of what runs, and that does not compare, gives the queue its quota once more.
func TestQueueQuotaHoldsAcrossAFailover(t *testing.T) {
	t.Parallel()
	const fit, wait = 100, 50
	limited := func(o *lab.Options) { o.Queues = lab.Queues("10", "1Ti") } // in pods of 0.1 CPU
	cfg := load.Default()
	cfg.Pods, cfg.Timeout = fit+wait, 90*time.Second
	// past kills the lead when the quota is used up, has room made for the others once
	// there is another lead, and waits for them.
	past := func(room func(context.Context, *Session) error) func(context.Context, *Session, *load.Generator) error {
		return func(ctx context.Context, s *Session, g *load.Generator) error {
			ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, errors.New("it took too long"))
			defer cancel()
			err := await(ctx, "pods that run", func() (bool, error) { return len(s.Cluster.Running().Pods) >= fit, nil })
			if err != nil {
				return err
			}
			if _, err := s.KillLead(ctx, syscall.SIGKILL); err != nil {
				return err
			}
			if _, err := s.Lab.WaitLeader(ctx); err != nil {
				return err
			}
			if err := room(ctx, s); err != nil {
				return err
			}
			return g.WaitBound(ctx, fit+wait)
		}
	}
	t.Run("known", func(t *testing.T) {
		report(t, drilled(t, unguarded(t, "", limited), cfg, past(func(ctx context.Context, s *Session) error {
			for _, p := range s.Cluster.Running().Pods[:wait] {
				pod := &v1.Pod{}
				pod.Namespace, pod.Name, pod.UID = p.Namespace, p.Name, types.UID(p.UID)
				if err := s.Delete(ctx, pod); err != nil {
					return err
				}
			}
			return nil
		})), nil)
	})
	t.Run("not_known", func(t *testing.T) {
		v := drilled(t, unguarded(t, "recovery,usage", limited), cfg, past(func(context.Context, *Session) error { return nil }))
		if passed(t, v, "queue quota") {
			t.Error("a queue over its quota went unnoticed")
		}
		if !passed(t, v, "node capacity") {
			t.Error("nodes are over their capacity, which is not what this is about")
		}
	})
}
