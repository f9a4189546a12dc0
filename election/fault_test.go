package election_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/understudy-ha/understudy/election"
)

// An API server that applies a renewal and answers late: the term counts from
// when the renewal was sent, so it is over before the Lease can be taken.
func TestLateAnswerCountsFromItsSendTime(t *testing.T) {
	inWorld(t, func(w *world) {
		patient := func(c *election.Config) { c.RequestTimeout = c.RenewDeadline }
		a, b := w.replica("a", patient), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(3 * time.Second)
		a.line.Deafen() // or it sees what the answer is to say
		a.line.Slow(0, 1800*time.Millisecond)
		applied := nextWrite(w)
		// The answer arrives just before the old deadline; then the line is cut.
		advance(1850 * time.Millisecond)
		a.line.Hang()
		if d := first.Deadline().Sub(applied); !first.Valid() || d > a.cfg.RenewDeadline {
			t.Errorf("valid %v, with a deadline %v after the renewal was sent", first.Valid(), d)
		}
		second := within(w, won, 5*time.Second, "takeover")
		if first.Valid() || first.Deadline().After(second.AcquiredAt()) {
			t.Errorf("the old term ends %v after the new one began", first.Deadline().Sub(second.AcquiredAt()))
		}
		within(w, a.expired, 0, "the watchdog")
	})
}

// nextWrite waits until the Lease changes and returns when it did.
func nextWrite(w *world) time.Time {
	version := w.store.Lease().ResourceVersion
	for w.store.Lease().ResourceVersion == version {
		advance(time.Millisecond)
	}
	return time.Now()
}

func TestSlowButSteadyAPIKeepsTheTerm(t *testing.T) {
	for _, way := range [][2]time.Duration{{time.Second, 0}, {0, time.Second}, {500 * time.Millisecond, 500 * time.Millisecond}} {
		inWorld(t, func(w *world) {
			a, b := w.replica("a"), w.replica("b")
			term := a.lead()
			won := b.campaign()
			a.line.Slow(way[0], way[1])
			notWithin(w, won, time.Minute, "takeover")
			if !term.Valid() {
				t.Errorf("delays %v: term lost: %v", way, term.Cause())
			}
		})
	}
}

// A request that is given up may land all the same. Nobody has worked under the
// epoch it wrote: the elector leads under it.
func TestUnansweredAcquisitionIsResumed(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		advance(time.Second)
		a.line.Slow(2*time.Second, 0) // lands after the sender has given up
		won := a.campaign()
		advance(1300 * time.Millisecond)
		a.line.Slow(0, 0)
		term := within(w, won, 3*time.Second, "acquisition")
		equal(w, "holder", w.store.Holder(), "a")
		if *w.store.Lease().Spec.LeaseTransitions != int32(term.Epoch()) {
			t.Errorf("epoch %d, transitions %d", term.Epoch(), *w.store.Lease().Spec.LeaseTransitions)
		}
		advance(10 * time.Second)
		if !term.Valid() {
			t.Errorf("term lost: %v", term.Cause())
		}
	})
	inWorld(t, func(w *world) {
		a := w.replica("a")
		advance(time.Second)
		a.line.Slow(0, 2*time.Second) // lands, the answer is lost
		won := a.campaign()
		advance(100 * time.Millisecond)
		equal(w, "holder", w.store.Holder(), "a")
		a.line.Slow(0, 0)
		term := within(w, won, 3*time.Second, "acquisition")
		equal(w, "reason", term.Why(), election.Resumed)
		equal(w, "epoch", term.Epoch(), 1)
	})
}

func TestPartitionedLead(t *testing.T) {
	cuts := map[string]func(r *replica){
		"hanging":  func(r *replica) { r.line.Hang() },
		"refusing": func(r *replica) { r.line.Refuse() },
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.replica("a"), w.replica("b")
				first := a.lead()
				won := b.campaign()
				advance(5200 * time.Millisecond)
				cut(a)
				second := within(w, won, 4*time.Second+network, "takeover")
				if first.Deadline().After(second.AcquiredAt()) {
					t.Error("two terms at once")
				}
				// Back again, the old lead sees who leads and touches nothing.
				a.line.Heal()
				advance(10 * time.Second)
				equal(w, "holder", w.store.Holder(), "b")
				equal(w, "seen by a", a.Observed().Holder, "b")
				equal(w, "seen by a before", a.Observed().Previous, "a")
				if err := first.Release(w.ctx, ""); !errors.Is(err, election.ErrLost) {
					t.Errorf("release of a lost lease: %v", err)
				}
				equal(w, "holder", w.store.Holder(), "b")
				if first.Valid() || !second.Valid() {
					t.Errorf("valid: old %v, new %v", first.Valid(), second.Valid())
				}
			})
		})
	}
}

// A lead that does not notice the end of its term: the deadline tells on the
// first look, and the watchdog has ended the process.
func TestZombie(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b, c := w.replica("a"), w.replica("b"), w.replica("c")
		first := a.lead()
		wonB, wonC := b.campaign(), c.campaign()
		advance(time.Second)
		a.line.Hang()
		var second *election.Term
		select {
		case second = <-wonB:
		case second = <-wonC:
		case <-time.After(5 * time.Second):
			t.Fatal("no takeover")
		}
		if first.Valid() || first.Context().Err() == nil || time.Until(first.Deadline()) > 0 {
			t.Errorf("zombie: valid %v, err %v, %v left", first.Valid(), first.Context().Err(), time.Until(first.Deadline()))
		}
		within(w, a.expired, 0, "the watchdog")
		a.line.Heal() // renewals that were stuck land now
		advance(10 * time.Second)
		if !second.Valid() || first.Valid() {
			t.Errorf("valid: zombie %v, lead %v (%v)", first.Valid(), second.Valid(), second.Cause())
		}
	})
}

// Somebody wipes the Lease: the lead stops at once, nobody takes the Lease
// before the lead must have stopped, and the epoch does not start over.
func TestWipedLease(t *testing.T) {
	wipes := map[string]func(w *world){
		"spec":         func(w *world) { w.store.Wipe() },
		"all":          func(w *world) { w.store.WipeAll() },
		"holder":       wipeHolder,
		"spec, unseen": func(w *world) { w.store.Wipe() },
	}
	for name, wipe := range wipes {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.replica("a"), w.replica("b")
				for range 4 {
					a.lead().Finished()
				}
				first := a.lead()
				equal(w, "epoch", first.Epoch(), 5)
				won := b.campaign()
				advance(5 * time.Second)
				if name == "spec, unseen" {
					a.line.Hang()
				}
				wipe(w)
				notWithin(w, won, 4*time.Second-time.Millisecond, "takeover")
				within(w, first.Context().Done(), 0, "end of the term")
				second := within(w, won, 2*network, "takeover")
				equal(w, "epoch", second.Epoch(), 6)
				equal(w, "reason", second.Why(), election.Cleared)
			})
		})
	}
}

// wipeHolder is what client-go's release does to a successor's Lease.
func wipeHolder(w *world) {
	w.store.Edit(func(lease *coordinationv1.Lease) {
		one, none := int32(1), ""
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &none, &one
	})
}

func TestWipedLeaseEndsTheTermAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		advance(5300 * time.Millisecond)
		w.store.Wipe()
		within(w, term.Context().Done(), network, "end of the term")
		advance(time.Minute)
		equal(w, "holder", w.store.Holder(), "")
	})
}

func TestDeletedLease(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		for range 4 {
			a.lead().Finished()
		}
		first := a.lead()
		won := b.campaign()
		advance(5300 * time.Millisecond)
		w.store.Delete()
		within(w, first.Context().Done(), network, "end of the term")
		var lost *election.LostError
		if !errors.As(first.Cause(), &lost) || !lost.Deleted {
			t.Errorf("cause is %v", first.Cause())
		}
		notWithin(w, won, 3900*time.Millisecond, "takeover")
		second := within(w, won, 200*time.Millisecond, "takeover")
		equal(w, "epoch", second.Epoch(), 6)
	})
}

// A deletion that nobody watched is found by the next renewal.
func TestDeletedLeaseIsSeenByTheRenewal(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		advance(time.Second)
		a.line.Deafen()
		w.store.Delete()
		within(w, term.Context().Done(), a.cfg.RetryPeriod+network, "end of the term")
		if w.store.Lease() != nil {
			t.Error("the renewal has recreated the lease")
		}
	})
}

// A replica that has never seen the Lease learns from etcd that there was one,
// and leaves its lead the time to notice.
func TestKnownEpochSurvivesTheLease(t *testing.T) {
	for name, ruin := range map[string]func(w *world){
		"deleted": func(w *world) { w.store.Delete() },
		"wiped":   func(w *world) { w.store.WipeAll() },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.known.Store(41)
				a := w.replica("a")
				first := a.lead()
				equal(w, "epoch", first.Epoch(), 42)
				a.line.Hang() // as late as can be
				ruin(w)
				b := w.replica("b")
				won := b.campaign()
				second := within(w, won, 5*time.Second, "takeover")
				equal(w, "epoch", second.Epoch(), 43)
				if first.Deadline().After(second.AcquiredAt()) {
					t.Error("two terms at once")
				}
			})
		})
	}
}

func TestReleasedLeaseIsTakenAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(5 * time.Second)
		began := time.Now()
		if err := first.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(context.Cause(first.Context()), election.ErrReleased) {
			t.Errorf("cause is %v", first.Cause())
		}
		second := within(w, won, network, "takeover")
		if took := time.Since(began); took > b.cfg.Jitter+time.Millisecond {
			t.Errorf("taken after %v", took)
		}
		equal(w, "epoch", second.Epoch(), 2)
		equal(w, "reason", second.Why(), election.Released)
		equal(w, "from", second.From(), "a")
		notWithin(w, a.expired, time.Minute, "the watchdog of a")
		if !second.Valid() {
			t.Errorf("the new term is over: %v", second.Cause())
		}
	})
}

// Candidates that know who goes first do not all write at once; when that one does
// not, another does.
func TestWhoGoesFirst(t *testing.T) {
	order := func(first bool, told *string) func(*election.Config) {
		return func(c *election.Config) {
			c.First = func(previous string) bool {
				*told = previous
				return first
			}
		}
	}
	inWorld(t, func(w *world) {
		a := w.replica("a")
		first := a.lead()
		var previous, ignored string
		later, next := w.replica("b", order(false, &ignored)), w.replica("c", order(true, &previous))
		won := next.campaign()
		late := later.campaign()
		advance(5 * time.Second)
		began, calls := time.Now(), later.line.Calls()
		if err := first.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		second := within(w, won, network, "takeover")
		if took := time.Since(began); took > time.Millisecond {
			t.Errorf("taken after %v", took)
		}
		advance(later.cfg.Deference)
		equal(w, "requests of the other", later.line.Calls(), calls)
		equal(w, "whom it comes after", previous, a.cfg.Identity)

		next.line.Hang()
		began = time.Now()
		third := within(w, late, time.Minute, "takeover by the other")
		equal(w, "epoch", third.Epoch(), second.Epoch()+1)
		if took, most := time.Since(began), later.cfg.LeaseDuration+later.cfg.Deference+network; took > most {
			t.Errorf("taken after %v, at most %v", took, most)
		}
	})
}

func TestReleaseKeepsTransitions(t *testing.T) {
	inWorld(t, func(w *world) {
		w.known.Store(8)
		a := w.replica("a")
		if err := a.lead().Release(w.ctx, "c"); err != nil {
			t.Fatal(err)
		}
		lease := w.store.Lease()
		equal(w, "transitions", *lease.Spec.LeaseTransitions, 9)
		equal(w, "holder", *lease.Spec.HolderIdentity, "")
		equal(w, "preferred", lease.Annotations[election.AnnotationPreferred], "c")
		if _, marked := lease.Annotations[election.AnnotationTerm]; marked {
			t.Error("the released lease still carries the term")
		}
	})
}

// The holder is looked at in what has been fetched, not in what is remembered.
func TestReleaseSparesASuccessor(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		term := a.lead()
		a.line.Deafen()
		w.store.Plant("b", 2, 4*time.Second, time.Now())
		err := term.Release(w.ctx, "")
		var lost *election.LostError
		if !errors.As(err, &lost) || lost.By != "b" {
			t.Errorf("release returned %v", err)
		}
		equal(w, "holder", w.store.Holder(), "b")
	})
}

// The same identity at a later term is a successor too.
func TestReleaseSparesALaterTermOfTheSameIdentity(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		first := a.lead()
		first.Finished()
		second := a.lead()
		if err := first.Release(w.ctx, ""); !errors.Is(err, election.ErrLost) {
			t.Errorf("release of the first term: %v", err)
		}
		equal(w, "holder", w.store.Holder(), "a")
		if !second.Valid() {
			t.Errorf("second term is over: %v", second.Cause())
		}
	})
}

func TestReleaseThroughAFlakyLine(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(time.Second)
		a.line.Refuse()
		done := make(chan error, 1)
		go func() { done <- first.Release(w.ctx, "") }()
		advance(time.Second)
		a.line.Heal()
		if err := within(w, done, 500*time.Millisecond, "release"); err != nil {
			t.Error(err)
		}
		equal(w, "reason", within(w, won, network, "takeover").Why(), election.Released)
	})
}

func TestDepose(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		a.lead()
		won := b.campaign()
		advance(time.Second)
		admin := w.store.Client("supervisor")
		died := time.Now()
		holder, _, err := election.Depose(w.ctx, admin, nil, died, func(h string) bool { return h == "z" })
		if holder != "" || err != nil {
			t.Errorf("deposed %q, %v", holder, err)
		}
		notWithin(w, won, time.Second, "takeover from a living lead")
		a.line.Hang() // a is dead
		holder, epoch, err := election.Depose(w.ctx, admin, nil, died, func(h string) bool { return h == "a" })
		if holder != "a" || epoch != 1 || err != nil {
			t.Errorf("deposed %q of epoch %d, %v", holder, epoch, err)
		}
		second := within(w, won, network, "takeover")
		equal(w, "epoch", second.Epoch(), 2)
		equal(w, "reason", second.Why(), election.Dead)
		if !second.DiedAt().Equal(died) {
			t.Errorf("died at %v, not %v", second.DiedAt(), died)
		}
		if note, left := w.store.Lease().Annotations[election.AnnotationDied]; left {
			t.Errorf("the Lease of the living says %q", note)
		}
		// An orderly release after it is one.
		if err := second.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		third := w.replica("c").lead()
		equal(w, "reason", third.Why(), election.Released)
		equal(w, "died at", third.DiedAt(), time.Time{})
		third.Finished()
	})
}

func TestProvenDeadHolderIsNotWaitedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a_1"), w.replica("b_1")
		first := a.lead()
		won := b.campaign()
		advance(time.Second)
		// Neither another replica nor another incarnation of this one counts.
		for _, other := range []string{"c_1", "a_0", "a", "a_", "a_11", ""} {
			b.ProvenDead(other)
		}
		notWithin(w, won, time.Second, "takeover from a living lead")
		a.line.Hang() // a is dead
		b.ProvenDead("a_1")
		second := within(w, won, network, "takeover")
		equal(w, "epoch", second.Epoch(), first.Epoch()+1)
		equal(w, "reason", second.Why(), election.Dead)
		equal(w, "from", second.From(), "a_1")
	})
}

// Pods are seen by another watch than the Lease: that a holder is dead may be
// known before that it is the holder.
func TestProofComesBeforeTheHolderIsSeen(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.replica("b_1")
		won := b.campaign()
		b.ProvenDead("a_1")
		first := within(w, won, network, "first term")
		first.Finished()
		won = b.campaign()
		advance(time.Second)
		w.store.Plant("a_1", 7, 4*time.Second, time.Now())
		second := within(w, won, network, "takeover")
		equal(w, "epoch", second.Epoch(), 8)
		equal(w, "reason", second.Why(), election.Dead)
	})
}

// The last renewal of the dead arrives after the proof, and changes the Lease under
// the hands of the successor.
func TestRenewalOfTheDeadArrivesLate(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a_1"), w.replica("b_1")
		a.lead()
		won := b.campaign()
		advance(10*time.Second + 100*time.Millisecond)
		a.line.Slow(time.Second, 0)
		advance(a.cfg.RetryPeriod) // a renewal is on its way
		b.line.Deafen()
		b.line.Slow(100*time.Millisecond, 0)
		before := w.store.Lease().ResourceVersion
		advance(850 * time.Millisecond)
		equal(w, "version", w.store.Lease().ResourceVersion, before)
		b.ProvenDead("a_1")
		second := within(w, won, 2*time.Second, "takeover")
		equal(w, "reason", second.Why(), election.Dead)
		equal(w, "holder", w.store.Holder(), "b_1")
	})
}

// A Lease that is older than what is on record elsewhere says nothing about who
// leads: the dead holder may have been followed.
func TestProvenDeadHolderOfAnOldLease(t *testing.T) {
	inWorld(t, func(w *world) {
		b := w.replica("b_1")
		w.store.Plant("a_1", 3, 4*time.Second, time.Now())
		w.claim(5)
		won := b.campaign()
		b.ProvenDead("a_1")
		notWithin(w, won, 3900*time.Millisecond, "takeover")
		second := within(w, won, 200*time.Millisecond, "takeover")
		equal(w, "epoch", second.Epoch(), 6)
		equal(w, "reason", second.Why(), election.Expired)
	})
}

// client-go leaves the note of a death where it is; its own release is none.
func TestNoteOfADeathIsOfThatHolderOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		a.lead().Finished()
		_, _, err := election.Depose(w.ctx, w.store.Client("supervisor"), nil, time.Now(), func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		w.store.Edit(func(lease *coordinationv1.Lease) {
			none, more := "", *lease.Spec.LeaseTransitions+1
			lease.Spec.HolderIdentity, lease.Spec.LeaseTransitions = &none, &more
		})
		term := w.replica("b").lead()
		equal(w, "reason", term.Why(), election.Released)
		term.Finished()
	})
}

func TestPreferredSuccessor(t *testing.T) {
	t.Run("takes the lease", func(t *testing.T) {
		inWorld(t, func(w *world) {
			for i := range 20 {
				a := w.replica(fmt.Sprintf("a%d", i))
				b, c := w.replica(fmt.Sprintf("b%d", i)), w.replica(fmt.Sprintf("c%d", i))
				first := a.lead()
				ctx, cancel := context.WithCancel(w.ctx)
				go func() { _, _ = b.Campaign(ctx) }()
				won := c.campaign()
				advance(time.Second)
				if err := first.Release(w.ctx, c.name); err != nil {
					t.Fatal(err)
				}
				second := within(w, won, network, "takeover")
				if _, still := w.store.Lease().Annotations[election.AnnotationPreferred]; still {
					t.Error("the preference outlives the takeover")
				}
				cancel()
				synctest.Wait()
				if err := second.Release(w.ctx, ""); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
	t.Run("is not waited for longer than a moment", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.replica("a"), w.replica("b")
			first := a.lead()
			won := b.campaign()
			advance(time.Second)
			if err := first.Release(w.ctx, "long gone"); err != nil {
				t.Fatal(err)
			}
			notWithin(w, won, b.cfg.PreferredWait-time.Millisecond, "takeover")
			within(w, won, network, "takeover")
		})
	})
	t.Run("in the spec", func(t *testing.T) {
		inWorld(t, func(w *world) {
			a, b := w.replica("a"), w.replica("b")
			first := a.lead()
			advance(time.Second)
			if err := first.Release(w.ctx, ""); err != nil {
				t.Fatal(err)
			}
			other := "c"
			w.store.Edit(func(lease *coordinationv1.Lease) { lease.Spec.PreferredHolder = &other })
			advance(time.Millisecond)
			began := time.Now()
			b.lead()
			if took := time.Since(began); took < 200*time.Millisecond {
				t.Errorf("taken after %v", took)
			}
		})
	})
}

// What the holder's clock says does not matter, in either direction.
func TestClockIndependence(t *testing.T) {
	for _, skew := range []time.Duration{-100 * 365 * 24 * time.Hour, -10 * time.Second, 10 * time.Second, 24 * time.Hour} {
		inWorld(t, func(w *world) {
			w.store.Plant("ancient", 3, 4*time.Second, time.Now().Add(skew))
			b := w.replica("b")
			won := b.campaign()
			notWithin(w, won, 4*time.Second-time.Millisecond, "takeover")
			second := within(w, won, network, "takeover")
			equal(w, "epoch", second.Epoch(), 4)
			second.Finished()

			c := w.replica("c")
			c.line.Skew(skew)
			wonC := c.campaign()
			within(w, wonC, 4*time.Second+network, "takeover by a skewed clock")
			again := b.campaign()
			notWithin(w, again, time.Minute, "takeover from a skewed clock that renews")
		})
	}
}

// A record may promise less than its holder takes: client-go rounds down.
func TestShortPromiseIsNotBelieved(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.Plant("rounded", 3, time.Second, time.Now())
		b := w.replica("b")
		won := b.campaign()
		notWithin(w, won, 4*time.Second-time.Millisecond, "takeover")
		within(w, won, network, "takeover")
	})
}

func TestStampede(t *testing.T) {
	inWorld(t, func(w *world) {
		lead := w.replica("lead")
		first := lead.lead()
		won := make(chan *election.Term, 5)
		var crowd []*replica
		for i := range 5 {
			r := w.replica(fmt.Sprintf("r%d", i))
			crowd = append(crowd, r)
			go func() {
				if term, err := r.Campaign(w.ctx); err == nil {
					w.won(term)
					won <- term
				}
			}()
		}
		advance(5 * time.Second)
		calls := func() (n int) {
			for _, r := range crowd {
				n += r.line.Calls()
			}
			return n
		}
		before := calls()
		if err := first.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		within(w, won, network, "takeover")
		notWithin(w, won, 5*time.Second, "a second takeover")
		// One write, ten renewals; the others are told by their watches.
		if n := calls() - before; n > 20 {
			t.Errorf("%d requests for one takeover", n)
		}
	})
}

// The poll stands in for a watch that has gone deaf, and replaces it.
func TestDeafWatch(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(5 * time.Second)
		b.line.Deafen()
		notWithin(w, won, 3*b.cfg.PollPeriod, "takeover from a living lead")
		b.line.Deafen() // once more: this time nothing but the release is missed
		if err := first.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		within(w, won, b.cfg.PollPeriod+network, "takeover")
	})
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(5 * time.Second)
		b.line.Deafen()
		advance(3 * b.cfg.PollPeriod)
		if err := first.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		within(w, won, network, "takeover by the new watch")
	})
}

func TestBrokenWatches(t *testing.T) {
	breaks := map[string]func(w *world, r *replica){
		"closed":    func(_ *world, r *replica) { r.line.BreakWatches() },
		"compacted": func(w *world, r *replica) { w.store.Compact(); r.line.BreakWatches() },
		// As after a restore from a backup; the lead's own version is gone too.
		"rewound": func(w *world, _ *replica) { w.store.Rewind(1) },
	}
	for name, ruin := range breaks {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.replica("a"), w.replica("b")
				first := a.lead()
				won := b.campaign()
				for range 5 {
					advance(2600 * time.Millisecond)
					ruin(w, b)
				}
				notWithin(w, won, 20*time.Second, "takeover from a living lead")
				if !first.Valid() {
					t.Fatalf("term lost: %v", first.Cause())
				}
				equal(w, "watching", b.Observed().Watching, true)
				if err := first.Release(w.ctx, ""); err != nil {
					t.Fatal(err)
				}
				within(w, won, network, "takeover")
			})
		})
	}
}

// A lease that nobody renews has a version the server has long forgotten.
func TestIdleLeaseIsStillWatched(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.Plant("gone", 3, time.Hour, time.Now())
		w.store.Edit(func(*coordinationv1.Lease) {})
		a := w.replica("a")
		advance(time.Second)
		for range 3 {
			w.store.Compact()
			a.line.BreakWatches()
			advance(10 * time.Second)
		}
		equal(w, "watching", a.Observed().Watching, true)
		changed := a.Changed()
		w.store.Plant("", 3, time.Second, time.Now())
		within(w, changed, network, "the change")
		equal(w, "holder", a.Observed().Holder, "")
		equal(w, "previous", a.Observed().Previous, "gone")
	})
}

func TestLookReadsAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.Plant("gone", 3, time.Hour, time.Now())
		a := w.replica("a", func(c *election.Config) { c.PollPeriod = time.Hour })
		advance(time.Second)
		a.line.Deafen()
		w.store.Plant("", 3, time.Second, time.Now())
		changed := a.Changed()
		notWithin(w, changed, time.Minute, "the change")
		a.Look()
		within(w, changed, network, "the change")
	})
}
