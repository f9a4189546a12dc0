package term

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/understudy-ha/understudy/replica/record"
)

// TestAPromotionThatFailsHasBeenRecorded: what is written with the claim names the term
// and does not say that it led, so that who comes next can count it.
func TestAPromotionThatFailsHasBeenRecorded(t *testing.T) {
	for _, step := range []string{stepCaughtUp, stepCluster, stepReconciled, stepVerified, stepReleased} {
		t.Run(step, func(t *testing.T) {
			inHouse(t, func(h *house) {
				h.hooks[step] = h.hangs // as one that dies there it writes nothing more
				_, _, stop := h.lead()
				defer stop()
				synctest.Wait()
				h.mu.Lock()
				defer h.mu.Unlock()
				if len(h.begun) != 1 || len(h.put) != 0 {
					t.Fatalf("written: %+v with the claim, then %+v", h.begun, h.put)
				}
				begun := h.begun[0]
				named := begun.Epoch == h.claims[0] && begun.Incarnation == "me" && begun.Reason != "" && begun.Started != 0
				taken := slices.ContainsFunc(begun.Timings, func(s record.Timing) bool { return s.Step == stepTaken })
				if !named || !taken || failedPromotions([]record.Term{begun}, begun.Epoch+1) != 1 {
					t.Errorf("the record is %+v", begun)
				}
			})
		})
	}
}

// TestALeadWritesTheConfigurationInForce: once it leads, and whenever there is another;
// not before the promotion is over.
func TestALeadWritesTheConfigurationInForce(t *testing.T) {
	inHouse(t, func(h *house) {
		wait := make(chan struct{})
		h.hooks[stepVerified] = func(context.Context) error { <-wait; return nil }
		h.queues = "a"
		l, _, stop := h.lead()
		defer stop()
		written := func(want ...string) {
			t.Helper()
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			if !slices.Equal(h.configured, want) {
				t.Errorf("written %q, want %q", h.configured, want)
			}
		}
		takes := func(queues string) {
			h.mu.Lock()
			h.queues = queues
			h.mu.Unlock()
			l.Configured()
		}
		synctest.Wait()
		takes("b")
		written()
		close(wait)
		written("b")
		takes("c")
		written("b", "c")
	})
}
