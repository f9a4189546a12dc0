package term

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// promotionSteps are those of which each is stopped in turn.
var promotionSteps = []struct {
	name     string
	budget   func(Budgets) time.Duration
	stepBack bool // nothing has been taken over yet
}{
	{stepClaimed, func(b Budgets) time.Duration { return b.Claim }, true},
	{stepCaughtUp, func(b Budgets) time.Duration { return b.CatchUp }, true},
	{stepCluster, func(b Budgets) time.Duration { return b.Cluster }, false},
	{stepReconciled, func(b Budgets) time.Duration { return b.Reconcile }, false},
	{stepVerified, func(b Budgets) time.Duration { return b.Verify }, false},
	{stepReleased, func(b Budgets) time.Duration { return b.Release }, false},
}

// takeDownParts is how many parts of a lead may each hang for windUp, and as many
// steps may not end.
const takeDownParts = 8

// TestNoStepHoldsTheLeaseForLongerThanItsBudget is guarantee 6: a step that fails, waits
// or hangs has the Lease released in time, with a manager that asks something and waits
// for the answer, and nothing is written before the verification has passed.
func TestNoStepHoldsTheLeaseForLongerThanItsBudget(t *testing.T) {
	for _, s := range promotionSteps {
		for how, wrong := range map[string]func(*house) func(context.Context) error{
			"fails": func(*house) func(context.Context) error { return fails },
			"waits": func(*house) func(context.Context) error { return waits },
			"hangs": func(h *house) func(context.Context) error { return h.hangs },
		} {
			if s.name == stepReconciled && how != "hangs" {
				continue // it takes no context and returns no error
			}
			t.Run(s.name+"/"+how, func(t *testing.T) {
				inHouse(t, func(h *house) {
					h.hooks[s.name] = wrong(h)
					began := time.Now()
					_, ended, _ := h.lead()
					err := <-ended
					if took, most := time.Since(began), s.budget(DefaultBudgets())+takeDownParts*windUp; took > most {
						t.Errorf("held the lease for %v, more than %v", took, most)
					}
					if holder := h.lease.Holder(); holder != "" {
						t.Errorf("the lease is still held by %q", holder)
					}
					hung := how == "hangs"
					if errors.Is(err, ErrHung) != hung || errors.Is(err, ErrStepBack) != (s.stepBack && !hung) {
						t.Errorf("ended with %v", err)
					}
					if how == "fails" && !errors.Is(err, errBroken) || how == "waits" && !errors.Is(err, ErrOverBudget) {
						t.Errorf("ended with %v", err)
					}
					if s.name != stepReleased && len(h.written) > 0 {
						t.Errorf("written before the verification: %v", h.written)
					}
					if s.stepBack && !hung && h.stopped > 0 {
						t.Error("what is warm was stopped, though nothing had been taken over")
					}
				})
			})
		}
	}
}

// TestTakeDownGivesUpWhatHangs: neither an executor nor an engine that does not stop
// keeps the Lease.
func TestTakeDownGivesUpWhatHangs(t *testing.T) {
	for _, part := range []string{"stop executors", "stop standby"} {
		t.Run(part, func(t *testing.T) {
			inHouse(t, func(h *house) {
				h.hooks[part] = h.hangs
				_, ended, stop := h.lead()
				if !h.leads() {
					t.Fatal("does not lead")
				}
				stop()
				began := time.Now()
				if err := <-ended; !errors.Is(err, ErrHung) {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took > takeDownParts*windUp || h.lease.Holder() != "" {
					t.Errorf("after %v the lease is held by %q", took, h.lease.Holder())
				}
			})
		})
	}
}

// TestAHandOverEndsInOrder is what the others are measured by.
func TestAHandOverEndsInOrder(t *testing.T) {
	inHouse(t, func(h *house) {
		l, ended, stop := h.lead()
		if !h.leads() {
			t.Fatal("does not lead")
		}
		if len(h.written) != 1 || l.Counts() == nil {
			t.Errorf("committed %v", h.written)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		last := h.put[len(h.put)-1]
		if h.lease.Holder() != "" || last.EndReason != handedOver || last.Ended == 0 {
			t.Errorf("holder %q, record %+v", h.lease.Holder(), last)
		}
		if _, _, ok := l.Guard(); ok {
			t.Error("may still write")
		}
	})
}

// TestALeadWithoutProgressIsEnded is guarantee 6: whatever hangs, the Lease goes to
// another; and one that is only busy, or has nothing to do, keeps it.
func TestALeadWithoutProgressIsEnded(t *testing.T) {
	for _, part := range []string{"the binder", "the scheduling engine"} {
		t.Run(part, func(t *testing.T) {
			inHouse(t, func(h *house) {
				_, ended, _ := h.lead()
				<-time.After(time.Minute)
				if !h.leads() {
					t.Fatal("does not lead, though nothing waits")
				}
				h.mu.Lock()
				h.stuck[part] = true
				h.mu.Unlock()
				began := time.Now()
				err := <-ended
				if !errors.Is(err, ErrStuck) || !errors.Is(err, ErrHung) {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took > 11*time.Second+takeDownParts*windUp || h.lease.Holder() != "" {
					t.Errorf("after %v the lease is held by %q", took, h.lease.Holder())
				}
			})
		})
	}
}

// TestALoopThatHangsIsEnded: the goroutine that owns the ledger does not come back.
func TestALoopThatHangsIsEnded(t *testing.T) {
	inHouse(t, func(h *house) {
		l, ended, _ := h.lead()
		if !h.leads() {
			t.Fatal("does not lead")
		}
		go loop.Ask(h.over, l.box, func(*ledger.Ledger) error { return h.hangs(h.over) })
		began := time.Now()
		err := <-ended
		if !errors.Is(err, ErrStuck) || time.Since(began) > loopPatience+takeDownParts*windUp || h.lease.Holder() != "" {
			t.Errorf("after %v ended with %v, the lease held by %q", time.Since(began), err, h.lease.Holder())
		}
	})
}

// TestStarvationIsNoHang: time in which this process did not run counts for nobody.
func TestStarvationIsNoHang(t *testing.T) {
	var p progress
	probe := Probe{Patience: 10 * time.Second, Look: func() (bool, uint64) { return true, 0 }}
	for range 19 {
		// Each look came an hour after the last.
		if still := p.look(probe, min(time.Hour, watchPeriod+watchSlack)); still > probe.Patience {
			t.Fatalf("hangs after %v", still)
		}
	}
}

// TestWhatContradictsIsSetAside: one application whose records are not what the engine
// has is rebuilt, all others are led; where that does not help, nothing is written.
func TestWhatContradictsIsSetAside(t *testing.T) {
	bad := engine.Mismatches{{App: "bad", Queue: "root.q", Resource: "vcore", Engine: 2, Ledger: 1}}
	inHouse(t, func(h *house) {
		h.differ = []engine.Mismatches{bad}
		_, _, _ = h.lead()
		if !h.leads() || !reflect.DeepEqual(h.aside, [][]string{{"bad"}}) {
			t.Fatalf("leads: %v, set aside: %v", h.roles, h.aside)
		}
		if term := h.put[len(h.put)-1]; !slices.Equal(term.SetAside, []string{"bad"}) {
			t.Errorf("the record of the term does not tell: %+v", term)
		}
	})
	for name, differ := range map[string][]engine.Mismatches{
		"again":             {bad, bad},
		"of no application": {{{Queue: "root.q", Resource: "vcore", Engine: 2, Ledger: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(h *house) {
				h.differ = differ
				_, ended, _ := h.lead()
				var mismatches engine.Mismatches
				if err := <-ended; !errors.As(err, &mismatches) || len(h.written) > 0 || h.lease.Holder() != "" {
					t.Errorf("ended with %v, wrote %v, the lease held by %q", err, h.written, h.lease.Holder())
				}
			})
		})
	}
}

// TestManagersHearOfWhatIsDurable: of a promotion that is not verified nothing, of another
// once the mirror says that what it has found is durable, for managers may write to the
// cluster what they hear.
func TestManagersHearOfWhatIsDurable(t *testing.T) {
	for _, verified := range []bool{true, false} {
		inHouse(t, func(h *house) {
			var order []string
			for _, step := range []string{stepVerified, stepReleased, "durable", "announce"} {
				h.hooks[step] = func(context.Context) error {
					order = append(order, step)
					if step == stepVerified && !verified {
						return errBroken
					}
					return nil
				}
			}
			_, ended, _ := h.lead()
			if !verified {
				<-ended
			} else if !h.leads() {
				t.Fatalf("roles %v", h.roles)
			}
			want := []string{stepVerified}
			if verified { // what is found, and that it is durable
				want = append(want, "durable", stepReleased, "durable", "announce")
			}
			if len(order) < len(want) || !slices.Equal(order[:len(want)], want) || !verified && len(order) > len(want) {
				t.Errorf("verified %v: %v, want %v", verified, order, want)
			}
		})
	}
}

// TestWhatIsDurableIsBoundAtOnce: what an older lead has written down waits for nothing that this
// one has to write; what the promotion has changed does.
func TestWhatIsDurableIsBoundAtOnce(t *testing.T) {
	inHouse(t, func(h *house) {
		for id, app := range map[string]string{"durable": "a", "changed": "a", "of-changed": "b"} {
			h.state.Step(ledger.AddApp{Stamp: ledger.Stamp{At: 1}, ID: app})
			h.state.Step(ledger.AppAccepted{Stamp: ledger.Stamp{At: 1}, AppID: app})
			h.state.Step(ledger.AddTask{Stamp: ledger.Stamp{At: 2}, AppID: app, ID: id, Namespace: "ns", Name: id})
			h.state.Step(ledger.Allocated{Stamp: ledger.Stamp{At: 3}, AppID: app, TaskID: id, Node: "n"})
		}
		h.found = []ledger.Change{
			{Key: ledger.Key{AppID: "a", TaskID: "changed"}, Task: h.state.TaskByID("changed")},
			{Key: ledger.Key{AppID: "b"}, App: h.state.App("b")},
		}
		h.hooks["durable"] = fails
		_, _, _ = h.lead()
		if !h.leads() {
			t.Fatalf("roles %v", h.roles)
		}
		var bound []string
		for _, effect := range h.done {
			if bind, ok := effect.(ledger.Bind); ok {
				bound = append(bound, bind.Task.ID)
			}
		}
		if !slices.Equal(bound, []string{"durable"}) {
			t.Errorf("bound is %q before anything of this term is durable", bound)
		}
	})
}

// TestMismatchesNameWhatDiffers: application, queue and resource.
func TestMismatchesNameWhatDiffers(t *testing.T) {
	err := engine.Mismatches{engine.Mismatch{App: "bad", Queue: "root.q", Resource: "vcore", Engine: 2, Ledger: 1}}
	for _, want := range []string{"bad", "root.q", "vcore"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err.Error(), want)
		}
	}
}

// TestAfterFailedPromotionsTheClusterAloneIsBelieved: what the mirror holds keeps nobody
// from leading for long.
func TestAfterFailedPromotionsTheClusterAloneIsBelieved(t *testing.T) {
	led := record.Term{Timings: []record.Timing{{Step: stepLeading, At: 1}}}
	failed := record.Term{EndReason: "promotion: verifying the engine"}
	died := record.Term{}
	asked := record.Term{EndReason: handedOver}
	back := record.Term{EndReason: steppedBack + "etcd was away"}
	for _, tc := range []struct {
		terms []record.Term
		alone bool
	}{
		{nil, false},
		{[]record.Term{led, failed}, false},
		{[]record.Term{led, failed, died}, true},
		{[]record.Term{failed, failed}, true},
		{[]record.Term{failed, failed, led}, false},
		{[]record.Term{failed, asked, back, failed}, true},
		{[]record.Term{led, back, back, asked}, false},
	} {
		inHouse(t, func(h *house) {
			for i, term := range tc.terms {
				term.Epoch = uint64(i + 1)
				h.terms = append(h.terms, term)
			}
			for _, id := range []string{"a", "b"} {
				h.state.Step(ledger.AddApp{ID: id})
			}
			h.lease.Plant("", int32(len(tc.terms)), time.Second, time.Now())
			_, _, _ = h.lead()
			if !h.leads() {
				t.Fatal("does not lead")
			}
			if got := len(h.aside) == 1 && slices.Equal(h.aside[0], []string{"a", "b"}); got != tc.alone {
				t.Errorf("%+v: set aside %v", tc.terms, h.aside)
			}
			if term := h.put[len(h.put)-1]; term.FromCluster != tc.alone {
				t.Errorf("the record of the term says %v", term.FromCluster)
			}
		})
	}
}

// TestALapsedLeadGoesOn: a lead whose renewals do not get through for a while leads on
// under a new epoch with what it has, if nobody has followed; between the terms it may
// not write.
func TestALapsedLeadGoesOn(t *testing.T) {
	inHouse(t, func(h *house) {
		l, ended, stop := h.lead()
		if !h.leads() {
			t.Fatal("does not lead")
		}
		before := l.Epoch()
		h.line.Hang()
		<-time.After(3 * time.Second)
		synctest.Wait()
		if _, _, ok := l.Guard(); ok {
			t.Error("may write without a term")
		}
		h.box.Push(ledger.AddApp{Stamp: ledger.Stamp{At: 1}, ID: "meanwhile"})
		h.line.Heal()
		<-time.After(15 * time.Second)
		if !h.leads() || l.Epoch() <= before {
			t.Fatalf("leads: %v, epoch %d after %d", h.roles, l.Epoch(), before)
		}
		if _, _, ok := l.Guard(); !ok {
			t.Error("may not write")
		}
		if !slices.Equal(h.claims, []uint64{before, l.Epoch()}) || h.stopped != 0 {
			t.Errorf("claims %v, stopped %d times", h.claims, h.stopped)
		}
		if !slices.ContainsFunc(h.written, func(c ledger.Change) bool { return c.Key.AppID == "meanwhile" }) {
			t.Error("what came between the terms is lost")
		}
		stop()
		if err := <-ended; err != nil || h.lease.Holder() != "" {
			t.Errorf("ended with %v, the lease held by %q", err, h.lease.Holder())
		}
	})
}

// TestALapsedLeadThatWasFollowedEnds: etcd knows of another, even if the Lease is free
// again.
func TestALapsedLeadThatWasFollowedEnds(t *testing.T) {
	inHouse(t, func(h *house) {
		_, ended, _ := h.lead()
		if !h.leads() {
			t.Fatal("does not lead")
		}
		h.hooks["reclaim"] = func(context.Context) error { return fmt.Errorf("fenced: %w", errBroken) }
		h.line.Hang()
		<-time.After(3 * time.Second)
		h.line.Heal()
		if err := <-ended; err == nil || h.stopped != 1 || h.lease.Holder() != "" {
			t.Errorf("ended with %v, stopped %d times, the lease held by %q", err, h.stopped, h.lease.Holder())
		}
	})
}
