package election_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/election"
)

// leads campaigns again whenever a term is over; the function that it returns says
// which is the last.
func (r *replica) leads() func() *election.Term {
	var last atomic.Pointer[election.Term]
	go func() {
		for {
			term, err := r.Campaign(r.w.ctx)
			if err != nil {
				return
			}
			r.w.won(term)
			last.Store(term)
			<-term.Context().Done()
			term.Finished()
		}
	}()
	return last.Load
}

// A holder keeps its term on a slow API server, by promising more, and promises
// less again once that is quick.
func TestDurationFollowsTheAPIServer(t *testing.T) {
	for _, delay := range []time.Duration{700 * time.Millisecond, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				reg := prometheus.NewRegistry()
				a := w.replica("a", func(c *election.Config) { c.Metrics = reg })
				lead := a.leads()
				advance(time.Second)
				equal(w, "duration", lead().LeaseDuration(), 4*time.Second)
				a.line.Slow(delay, 0)
				advance(time.Minute)
				term := lead()
				if term.Epoch() > 4 {
					t.Errorf("it took %d terms to find out", term.Epoch())
				}
				equal(w, "longer", term.LeaseDuration() > 4*time.Second, true)
				equal(w, "within bounds", term.LeaseDuration() <= 15*time.Second, true)
				equal(w, "on the Lease", time.Duration(*w.store.Lease().Spec.LeaseDurationSeconds)*time.Second, term.LeaseDuration())
				equal(w, "observed", a.Observed().LeaseDuration, term.LeaseDuration())
				equal(w, "metric", metric(t, reg, "understudy_election_lease_duration_seconds"), term.LeaseDuration().Seconds())
				advance(10 * time.Minute)
				equal(w, "valid", term.Valid(), true)
				a.line.Slow(0, 0)
				advance(time.Minute)
				equal(w, "duration", term.LeaseDuration(), 4*time.Second)
				equal(w, "valid", term.Valid(), true)
				equal(w, "metric", metric(t, reg, "understudy_election_lease_duration_seconds"), 4)
			})
		})
	}
}

// An API server that is slow now and then, as a busy one is, costs no term either: quick
// writes in between do not hide the slow ones. In a row they end the longer promise.
func TestDurationFollowsAnAPIServerThatIsSlowNowAndThen(t *testing.T) {
	for _, quick := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
		t.Run(quick.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				a := w.replica("a")
				lead := a.leads()
				advance(time.Second)
				term := lead()
				for range 20 { // each time one write, or two, is slow
					a.line.Slow(time.Second, 0)
					advance(600 * time.Millisecond)
					a.line.Slow(0, 0)
					advance(time.Second + quick)
				}
				equal(w, "longer", term.LeaseDuration() > 4*time.Second, true)
				equal(w, "valid", term.Valid(), true)
				advance(time.Minute)
				equal(w, "duration", term.LeaseDuration(), 4*time.Second)
			})
		})
	}
}

// An API server whose answers come late all of a sudden, to everybody and to all that
// they ask, costs one term, and somebody leads again after some few answers.
func TestALeadIsFoundSoonOnAnAPIServerThatTurnsSlow(t *testing.T) {
	for _, delay := range []time.Duration{1500 * time.Millisecond, 2 * time.Second, 3 * time.Second, 4500 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			inWorld(t, func(w *world) {
				var leads []func() *election.Term
				replicas := []*replica{w.replica("a"), w.replica("b"), w.replica("c")}
				for _, r := range replicas {
					leads = append(leads, r.leads())
					advance(time.Second)
				}
				first := leads[0]()
				context.AfterFunc(first.Context(), func() { // it says so
					for _, r := range replicas[1:] {
						r.TermEnded("a", first.Epoch())
					}
				})
				for _, r := range replicas {
					r.line.Slow(0, delay)
					r.line.Lag(delay)
				}
				<-first.Context().Done()
				lapsed := time.Now()
				advance(time.Minute)
				for _, last := range leads {
					if term := last(); term != nil && term.Valid() {
						if took, most := term.AcquiredAt().Sub(lapsed), 4*delay+2*time.Second; took > most {
							t.Errorf("nobody led for %v, want %v at most", took, most)
						}
						advance(10 * time.Minute)
						equal(w, "valid", term.Valid(), true)
						if term.Epoch() > 3 {
							t.Errorf("it took %d terms", term.Epoch())
						}
						return
					}
				}
				t.Error("nobody leads")
			})
		})
	}
}

// A longer promise is kept for as long as there is a slow write every now and then, too
// rarely to make it longer yet.
func TestALongerPromiseIsKeptWhereItIsNeeded(t *testing.T) {
	for _, slow := range []time.Duration{1200 * time.Millisecond, 2 * time.Second} { // in between, and slow
		inWorld(t, func(w *world) {
			a := w.replica("a")
			a.line.Slow(1500*time.Millisecond, 0)
			lead := a.leads()
			advance(2 * time.Minute)
			a.line.Slow(0, 0)
			advance(3 * time.Second)
			term := lead()
			longer := term.LeaseDuration()
			equal(w, "longer", longer > 4*time.Second, true)
			for range 20 {
				a.line.Slow(slow, 0)
				advance(500 * time.Millisecond)
				a.line.Slow(0, 0)
				advance(slow + 7*time.Second)
				equal(w, "duration", term.LeaseDuration(), longer)
			}
			equal(w, "valid", term.Valid(), true)
		})
	}
}

// A replica that has found out how long a read takes on a slow API server gives none
// up any more: with each it would lose a connection.
func TestReadsAreNotGivenUpAgainAndAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		a.leads()
		for _, r := range []*replica{a, b} {
			r.line.Slow(0, 3*time.Second)
			r.line.Lag(3 * time.Second)
		}
		advance(time.Minute)
		calls := b.line.Calls()
		for range 3000 {
			advance(100 * time.Millisecond)
			if err := b.Observed().LastError; err != nil {
				t.Fatal(err)
			}
		}
		if b.line.Calls() < calls+10 {
			t.Errorf("it reads hardly ever: %d times", b.line.Calls()-calls)
		}
	})
}

// Nothing but renewals keeps the connection busy that they have.
func TestAHolderOnASlowAPIServerOnlyRenews(t *testing.T) {
	inWorld(t, func(w *world) {
		const delay = 3 * time.Second
		a := w.replica("a")
		lead := a.leads()
		a.line.Slow(0, delay)
		a.line.Lag(delay)
		advance(time.Minute)
		term, calls := lead(), a.line.Calls()
		const d = 10 * time.Minute
		advance(d)
		equal(w, "valid", term.Valid(), true)
		if made := a.line.Calls() - calls; made < int(d/delay)/2 || made > int(d/delay)+10 {
			t.Errorf("%d requests, want about %d", made, int(d/delay))
		}
	})
}

// One slow write is a hiccup, and one that is lost says nothing.
func TestOutageStretchesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		won := b.campaign()
		advance(5 * time.Second)
		for range 3 {
			a.line.Refuse()
			advance(1500 * time.Millisecond)
			a.line.Heal()
			advance(10 * time.Second)
			a.line.Slow(time.Second, 0)
			advance(500 * time.Millisecond)
			a.line.Slow(0, 0)
			advance(10 * time.Second)
		}
		equal(w, "valid", first.Valid(), true)
		equal(w, "duration", first.LeaseDuration(), 4*time.Second)
		a.line.Refuse()
		second := within(w, won, 4*time.Second+network, "takeover")
		equal(w, "duration", second.LeaseDuration(), 4*time.Second)
	})
}

// A holder that promises less from one write on ends its term by that promise, even
// if it never learns that the write has landed.
func TestShorterPromiseCountsFromItsSendTime(t *testing.T) {
	for at := 8 * time.Second; at < 16*time.Second; at += 250 * time.Millisecond {
		inWorld(t, func(w *world) {
			a, b := w.replica("a"), w.replica("b")
			a.line.Slow(3*time.Second, 0)
			lead := a.leads()
			advance(2 * time.Minute)
			first := lead()
			equal(w, "longer", first.LeaseDuration() > 8*time.Second, true)
			won := b.campaign()
			a.line.Slow(0, 0)
			advance(at)
			// What it sends still arrives; what comes back does not.
			a.line.Deafen()
			a.line.Slow(0, time.Hour)
			second := within(w, won, 30*time.Second, "takeover")
			if end := first.Deadline(); !end.Before(second.AcquiredAt()) {
				t.Errorf("after %v: the term goes on for %v", at, end.Sub(second.AcquiredAt()))
			}
			equal(w, "valid", first.Valid(), false)
		})
	}
}

// A candidate leads on an API server that takes longer for everything than a request
// is given at first.
func TestCandidateOnASlowAPIServer(t *testing.T) {
	for _, delay := range []time.Duration{1500 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		inWorld(t, func(w *world) {
			a := w.replica("a")
			a.line.Slow(delay/2, delay/2)
			lead := a.leads()
			advance(2 * time.Minute)
			term := lead()
			if term == nil {
				t.Fatalf("answers %v late: no lead", delay)
			}
			advance(5 * time.Minute)
			equal(w, "valid", term.Valid(), true)
			if term.Epoch() > 4 {
				t.Errorf("answers %v late: it took %d epochs", delay, term.Epoch())
			}
		})
	}
}
