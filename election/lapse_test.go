package election_test

import (
	"errors"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/understudy-ha/understudy/election"
)

// lapse cuts a lead off until its term is over.
func (r *replica) lapse(term *election.Term) {
	r.w.t.Helper()
	r.line.Hang()
	within(r.w, term.Context().Done(), r.cfg.LeaseDuration, "end of the term")
	if !errors.Is(term.Cause(), election.ErrRenewDeadline) {
		r.w.t.Fatalf("the term ended with %v", term.Cause())
	}
}

func TestLapsedTermIsFollowedByItsHolderAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a_1")
		first := a.lead()
		advance(time.Second)
		a.lapse(first)
		first.Finished()
		a.line.Heal()
		second := within(w, a.campaign(), a.cfg.RetryPeriod, "the next term")
		equal(w, "reason", second.Why(), election.Lapsed)
		equal(w, "epoch", second.Epoch(), first.Epoch()+1)
	})
}

// A lead that has been followed in etcd but not in the Lease waits like anybody.
func TestLapsedTermThatWasFollowedIsNotResumed(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a_1")
		first := a.lead()
		a.lapse(first)
		first.Finished()
		w.claim(first.Epoch() + 4)
		a.line.Heal()
		won := a.campaign()
		notWithin(w, won, time.Second, "the next term")
		second := within(w, won, a.cfg.LeaseDuration, "the next term")
		equal(w, "reason", second.Why(), election.Expired)
		equal(w, "epoch", second.Epoch(), first.Epoch()+5)
	})
}

// A term that was given up is not one that lapsed: its holder wants others to lead.
func TestTermThatWasGivenUpIsNotResumed(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a_1")
		a.lead().Finished()
		notWithin(w, a.campaign(), 3*time.Second, "the next term")
	})
}

func TestStatedEndIsNotWaitedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a_1"), w.replica("b_1")
		first := a.lead()
		won := b.campaign()
		// Neither another incarnation nor another epoch counts.
		b.TermEnded("a_0", first.Epoch())
		b.TermEnded("a", first.Epoch())
		b.TermEnded("", first.Epoch())
		b.TermEnded("a_1", first.Epoch()-1)
		b.TermEnded("a_1", first.Epoch()+1)
		notWithin(w, won, time.Second, "takeover from a lead at work")
		a.lapse(first)
		first.Finished()
		b.TermEnded("a_1", first.Epoch())
		second := within(w, won, network, "takeover")
		equal(w, "reason", second.Why(), election.Stated)
		equal(w, "epoch", second.Epoch(), first.Epoch()+1)
	})
}

// What is stated of one term says nothing of the next of the same holder.
func TestStatementIsOfThatEpochOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a_1"), w.replica("b_1")
		first := a.lead()
		a.lapse(first)
		first.Finished()
		a.line.Heal()
		second := a.lead()
		won := b.campaign()
		b.TermEnded("a_1", first.Epoch())
		notWithin(w, won, 10*time.Second, "takeover from a lead at work")
		equal(w, "valid", second.Valid(), true)
	})
}

// A Lease that is older than what is on record elsewhere does not say who leads.
func TestStatementAboutAnOldLease(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.replica("b_1")
		w.store.Plant("a_1", 3, 4*time.Second, time.Now())
		w.claim(5)
		won := b.campaign()
		b.TermEnded("a_1", 3)
		notWithin(w, won, 3900*time.Millisecond, "takeover")
		equal(w, "reason", within(w, won, 200*time.Millisecond, "takeover").Why(), election.Expired)
	})
}

// The last renewal arrives when its sender has stated the end already.
func TestStatementBeforeALateRenewal(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a_1"), w.replica("b_1")
		first := a.lead()
		won := b.campaign()
		advance(time.Second)
		first.Finished()
		w.store.Edit(func(lease *coordinationv1.Lease) {
			lease.Spec.RenewTime.Time = lease.Spec.RenewTime.Add(time.Second)
		})
		b.TermEnded("a_1", first.Epoch())
		equal(w, "reason", within(w, won, network, "takeover").Why(), election.Stated)
	})
}

// Answers that come after the request has been given up do not make an epoch each,
// and what they would have said is seen on the Lease.
func TestLateAnswersDoNotMakeEpochs(t *testing.T) {
	for _, delay := range []time.Duration{500 * time.Millisecond, time.Second, 1400 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		inWorld(t, func(w *world) {
			a := w.replica("a_1")
			advance(time.Second)
			a.line.Slow(0, delay)
			won := a.campaign()
			first := within(w, won, 10*time.Second, "acquisition")
			equal(w, "epoch", first.Epoch(), 1)
			advance(30 * time.Second)
			if !first.Valid() {
				t.Errorf("answers %v late: %v", delay, first.Cause())
			}
		})
	}
}

// Where somebody has the epoch of an unanswered write on record, it is not led under.
func TestUnansweredAcquisitionOfAnEpochOnRecord(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a_1")
		advance(time.Second)
		a.line.Slow(0, 2*time.Second)
		won := a.campaign()
		advance(100 * time.Millisecond)
		w.claim(1)
		a.line.Slow(0, 0)
		equal(w, "epoch", within(w, won, 3*time.Second, "acquisition").Epoch(), 2)
	})
}

// Work that can not write any more may take its time, as it does on a busy machine.
func TestWatchdogSparesQuietWork(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a_1")
		lost := a.lead()
		a.lapse(lost)
		lost.Quiet()
		notWithin(w, a.expired, time.Minute, "the watchdog")
		if _, err := a.Campaign(w.ctx); !errors.Is(err, election.ErrTermUnfinished) {
			t.Errorf("a term that is only quiet is taken for finished: %v", err)
		}
		lost.Finished()
		a.line.Heal()
		// A term that is given up ends when it is quiet.
		next := a.lead()
		next.Quiet()
		equal(w, "valid", next.Valid(), false)
		notWithin(w, a.expired, time.Minute, "the watchdog")
	})
}
