package election_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/understudy-ha/understudy/election"
)

func TestFirstAcquisition(t *testing.T) {
	inWorld(t, func(w *world) {
		began := time.Now()
		a := w.replica("a")
		term := a.lead()
		equal(w, "epoch", term.Epoch(), 1)
		equal(w, "reason", term.Why(), election.Vacant)
		if took := time.Since(began); took > network {
			t.Errorf("a lease that never existed was taken after %v", took)
		}
		if !term.Valid() || term.Context().Err() != nil || term.Cause() != nil {
			t.Error("the new term is over")
		}
		lease := w.store.Lease()
		equal(w, "holder", *lease.Spec.HolderIdentity, "a")
		equal(w, "transitions", *lease.Spec.LeaseTransitions, 1)
		equal(w, "duration", *lease.Spec.LeaseDurationSeconds, 4)

		advance(time.Minute)
		if !term.Valid() {
			t.Errorf("the term did not last: %v", term.Cause())
		}
		if left := time.Until(term.Deadline()); left <= 0 || left > a.cfg.RenewDeadline {
			t.Errorf("%v left to the deadline", left)
		}
		obs := a.Observed()
		equal(w, "observed holder", obs.Holder, "a")
		equal(w, "observed transitions", obs.Transitions, 1)
		equal(w, "watching", obs.Watching, true)
		term.Finished()
	})
}

func TestLeaseDurationIsRoundedUp(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a", func(c *election.Config) { c.LeaseDuration = 4100 * time.Millisecond })
		term := a.lead()
		equal(w, "duration", *w.store.Lease().Spec.LeaseDurationSeconds, 5)
		term.Finished()
	})
}

func TestExpiryTakeover(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(10 * time.Second)
		a.line.Hang()
		cut := time.Now()
		second := within(w, won, 5*time.Second, "takeover")
		took := time.Since(cut)
		if took < 3500*time.Millisecond || took > 4*time.Second+network {
			t.Errorf("taken over after %v", took)
		}
		equal(w, "epoch", second.Epoch(), first.Epoch()+1)
		equal(w, "reason", second.Why(), election.Expired)
		equal(w, "from", second.From(), "a")
		if second.DetectedAt().After(second.AcquiredAt()) || second.DetectedAt().Before(cut) {
			t.Errorf("detected at %v, acquired at %v, cut at %v", second.DetectedAt(), second.AcquiredAt(), cut)
		}
		within(w, a.expired, 0, "the watchdog of a")
		second.Finished()
	})
}

// The term must be over, and its work ended by the watchdog, before anyone else
// can take the Lease.
func TestRenewDeadlineEndsTheTermFirst(t *testing.T) {
	for _, phase := range []time.Duration{0, 100, 250, 400, 499} { // ms
		inWorld(t, func(w *world) {
			a, b := w.replica("a"), w.replica("b")
			first := a.lead()
			won := b.campaign()
			advance(10*time.Second + phase*time.Millisecond)
			a.line.Hang()
			deadline := first.Deadline()
			within(w, first.Context().Done(), a.cfg.RenewDeadline+time.Millisecond, "end of the term")
			if cause := context.Cause(first.Context()); !errors.Is(cause, election.ErrRenewDeadline) {
				t.Errorf("cause is %v", cause)
			}
			if late := time.Since(deadline); late > 0 {
				t.Errorf("the term ended %v after its deadline", late)
			}
			equal(w, "holder at the deadline", w.store.Holder(), "a")
			cause := within(w, a.expired, 501*time.Millisecond, "the watchdog")
			if !errors.Is(cause, election.ErrRenewDeadline) {
				t.Errorf("the watchdog said %v", cause)
			}
			notWithin(w, won, a.cfg.Margin-a.cfg.Jitter-network, "takeover")
			within(w, won, network*3, "takeover").Finished()
		})
	}
}

func TestWatchdogSparesFinishedWork(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		a.line.Hang()
		within(w, term.Context().Done(), 3*time.Second, "end of the term")
		term.Finished()
		notWithin(w, a.expired, time.Minute, "the watchdog")
	})
}

func TestPartitionHealedInTimeKeepsTheTerm(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		term := a.lead()
		won := b.campaign()
		for range 10 {
			advance(5 * time.Second)
			a.line.Hang()
			advance(1500 * time.Millisecond)
			a.line.Heal()
		}
		notWithin(w, won, time.Second, "takeover")
		if !term.Valid() {
			t.Errorf("term lost: %v", term.Cause())
		}
		term.Finished()
		within(w, won, 5*time.Second, "takeover").Finished()
	})
}

func TestForeignHolderEndsTheTermAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		advance(3100 * time.Millisecond)
		w.store.Plant("thief", 7, 15*time.Second, time.Now())
		within(w, term.Context().Done(), network, "end of the term")
		var lost *election.LostError
		if !errors.As(term.Cause(), &lost) || !errors.Is(term.Cause(), election.ErrLost) {
			t.Fatalf("cause is %v", term.Cause())
		}
		equal(w, "thief", lost.By, "thief")
		equal(w, "transitions", lost.Transitions, 7)
		if term.Deadline().After(time.Now()) {
			t.Error("the deadline of a lost term lies ahead")
		}
		within(w, a.expired, 501*time.Millisecond, "the watchdog")
		advance(time.Second)
		equal(w, "holder", w.store.Holder(), "thief")
	})
}

// Without a working watch the conflict of the next renewal tells.
func TestForeignHolderIsSeenByTheRenewal(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		a.line.Deafen()
		advance(3100 * time.Millisecond)
		w.store.Plant("thief", 7, 15*time.Second, time.Now())
		within(w, term.Context().Done(), a.cfg.RetryPeriod+network, "end of the term")
		if !errors.Is(term.Cause(), election.ErrLost) {
			t.Errorf("cause is %v", term.Cause())
		}
		advance(time.Second)
		equal(w, "holder", w.store.Holder(), "thief")
		term.Finished()
	})
}

func TestForeignEditKeepsTheTerm(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		for range 10 {
			a.line.Deafen() // so that the renewal runs into the conflict
			advance(700 * time.Millisecond)
			w.store.Edit(func(lease *coordinationv1.Lease) { lease.Labels = map[string]string{"seen": "yes"} })
		}
		advance(5 * time.Second)
		if !term.Valid() {
			t.Errorf("term lost: %v", term.Cause())
		}
		equal(w, "label", w.store.Lease().Labels["seen"], "yes")
		term.Finished()
	})
}

func TestCampaignNeedsTheLastTermFinished(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		if _, err := a.Campaign(w.ctx); !errors.Is(err, election.ErrTermUnfinished) {
			t.Errorf("campaigning while leading: %v", err)
		}
		term.Finished()
		again := a.lead()
		equal(w, "epoch of the same identity", again.Epoch(), 2)
		again.Finished()
	})
}

func TestCampaignEndsWithItsContext(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		term := a.lead()
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		defer cancel()
		if _, err := b.Campaign(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("campaign returned %v", err)
		}
		term.Finished()
	})
}

func TestKnownEpochFailureIsRetried(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		var back atomic.Bool
		e, err := election.New(a.cfg, a.line, func(context.Context) (uint64, error) {
			if !back.Load() {
				return 0, errors.New("etcd is away")
			}
			return 41, nil
		}, w.log)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = e.Run(w.ctx) }()
		won := make(chan *election.Term, 1)
		go func() {
			if term, err := e.Campaign(w.ctx); err == nil {
				w.won(term)
				won <- term
			}
		}()
		notWithin(w, won, time.Minute, "taking the lease without knowing the epoch")
		if w.store.Lease() != nil {
			t.Error("the lease has been written")
		}
		back.Store(true)
		term := within(w, won, 5*time.Second, "taking the lease")
		equal(w, "epoch", term.Epoch(), 42)
		term.Finished()
	})
}
