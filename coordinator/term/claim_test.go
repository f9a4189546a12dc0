package term

import (
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
