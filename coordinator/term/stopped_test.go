package term

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// says reports which terms it has been said of that their work has stopped.
func (h *house) says() []uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.said)
}

// TestACutOffLeadSaysThatItsWorkHasStopped: when it has, before the Lease expires, and
// also if it had not come to lead.
func TestACutOffLeadSaysThatItsWorkHasStopped(t *testing.T) {
	for _, promoting := range []bool{false, true} {
		inHouse(t, func(h *house) {
			early := make(chan []uint64, 1)
			h.hooks["stop executors"] = func(context.Context) error {
				<-time.After(300 * time.Millisecond)
				early <- h.says()
				return nil
			}
			if promoting {
				h.hooks[stepVerified] = waits
			}
			l, ended, _ := h.lead()
			if h.leads() == promoting {
				t.Fatal("leads too early or not")
			}
			epoch := l.Epoch()
			h.line.Hang()
			<-time.After(3200 * time.Millisecond)
			if got := <-early; len(got) > 0 {
				t.Errorf("said of %v while work went on", got)
			}
			if got := h.says(); !slices.Equal(got, []uint64{epoch}) {
				t.Errorf("said of %v, want of %d", got, epoch)
			}
			h.line.Heal()
			if promoting {
				if err := <-ended; err == nil {
					t.Error("ended in order")
				}
			}
			<-time.After(time.Minute)
			if got := h.says(); !slices.Equal(got, []uint64{epoch}) {
				t.Errorf("said of %v in all", got)
			}
		})
	}
}

// TestNothingIsSaidOfWorkThatMayGoOn: of what hangs, or of a term that ended otherwise.
func TestNothingIsSaidOfWorkThatMayGoOn(t *testing.T) {
	t.Run("executors hang", func(t *testing.T) {
		inHouse(t, func(h *house) {
			h.hooks["stop executors"] = h.hangs
			h.outlives.Store(true)
			_, ended, _ := h.lead()
			if !h.leads() {
				t.Fatal("does not lead")
			}
			h.line.Hang()
			if err := <-ended; !errors.Is(err, ErrHung) {
				t.Errorf("ended with %v", err)
			}
			if got := h.says(); len(got) > 0 {
				t.Errorf("said of %v", got)
			}
		})
	})
	t.Run("handed over", func(t *testing.T) {
		inHouse(t, func(h *house) {
			_, ended, stop := h.lead()
			if !h.leads() {
				t.Fatal("does not lead")
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
			if got := h.says(); len(got) > 0 {
				t.Errorf("said of %v", got)
			}
		})
	})
}
