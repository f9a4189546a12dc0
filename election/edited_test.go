package election_test

import (
	"math"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/election"
)

// Whatever epoch somebody writes on the Lease, there is a lead again, in an epoch
// that follows what is on record, and not before the old one must have stopped.
func TestEditedEpoch(t *testing.T) {
	for name, c := range map[string]struct {
		transitions int32
		mark        string
		epoch       uint64
	}{
		"greatest":                 {math.MaxInt32, "", 6},
		"room for one more":        {math.MaxInt32 - 1, "", 6},
		"2000000000":               {2_000_000_000, "", 6},
		"just too far":             {1_000_006, "", 6},
		"as far as is believed":    {1_000_005, "", 1_000_006},
		"fallen":                   {0, "", 6},
		"negative":                 {-1, "", 6},
		"least":                    {math.MinInt32, "", 6},
		"annotation":               {5, "18446744073709551615", 6},
		"annotation of nonsense":   {5, "-99999999999999999999", 6},
		"greatest, and annotation": {math.MaxInt32, "18446744073709551615", 6},
	} {
		for how, edit := range map[string]func(*coordinationv1.Lease){
			"held":     func(*coordinationv1.Lease) {},
			"wiped":    func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = nil },
			"stranger": func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr.To("c") },
		} {
			switch {
			case c.transitions == 5 && how == "held":
				continue // the term goes on, and its next renewal puts the annotation right
			case c.transitions == 1_000_005 && how == "wiped":
				continue // as if a client-go lead had taken and released it
			}
			t.Run(name+", "+how, func(t *testing.T) {
				inWorld(t, func(w *world) {
					a, b := w.replica("a"), w.replica("b")
					for range 4 {
						a.lead().Finished()
					}
					first := a.lead()
					won := b.campaign()
					advance(5*time.Second + 300*time.Millisecond)
					a.line.Hang() // it does not notice, and works as long as it can
					w.store.Edit(func(l *coordinationv1.Lease) {
						l.Spec.LeaseTransitions = &c.transitions
						if c.mark != "" {
							l.Annotations[election.AnnotationTerm] = c.mark
						}
						edit(l)
					})
					notWithin(w, won, 3900*time.Millisecond, "takeover")
					within(w, first.Context().Done(), 0, "end of the term")
					first.Finished()
					a.line.Heal()
					second := within(w, won, 5*time.Second, "takeover")
					equal(w, "epoch", second.Epoch(), c.epoch)
					equal(w, "leaseTransitions", uint64(*w.store.Lease().Spec.LeaseTransitions), c.epoch)
					equal(w, "a new Lease if its epoch has to fall", second.Lease() != first.Lease(),
						c.transitions > 1_000_005)
					advance(time.Minute)
					equal(w, "valid", second.Valid(), true)
				})
			})
		}
	}
}

// What looks like a release, or names one that is proven dead, says nothing about
// who leads if its epoch is made up.
func TestEditedEpochIsNoRelease(t *testing.T) {
	for name, edit := range map[string]func(*coordinationv1.Lease){
		"released": func(l *coordinationv1.Lease) {
			l.Spec.HolderIdentity, l.Annotations = ptr.To(""), nil
		},
		"dead": func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr.To("dead") },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				a, b := w.replica("a"), w.replica("b")
				first := a.lead()
				b.ProvenDead("dead")
				won := b.campaign()
				advance(5300 * time.Millisecond)
				a.line.Hang()
				w.store.Edit(func(l *coordinationv1.Lease) {
					l.Spec.LeaseTransitions = ptr.To[int32](math.MaxInt32)
					edit(l)
				})
				notWithin(w, won, 3900*time.Millisecond, "takeover")
				second := within(w, won, 200*time.Millisecond, "takeover")
				equal(w, "epoch", second.Epoch(), 2)
				equal(w, "reason", second.Why(), election.Cleared)
				if !first.Deadline().Before(second.AcquiredAt()) {
					t.Error("two terms at once")
				}
			})
		})
	}
}

// A Lease that somebody made up is no obstacle to the first lead of all, nor is one
// that was deleted after an epoch had been made up.
func TestEditedEpochOfNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		w.store.Plant("x", math.MaxInt32, 4*time.Second, time.Now())
		a := w.replica("a")
		equal(w, "epoch", within(w, a.campaign(), 5*time.Second, "takeover").Epoch(), 1)
	})
	inWorld(t, func(w *world) {
		a, b := w.replica("a"), w.replica("b")
		a.lead()
		won := b.campaign()
		w.store.Plant("x", math.MaxInt32, 4*time.Second, time.Now())
		advance(time.Second)
		w.store.Delete()
		equal(w, "epoch", within(w, won, 5*time.Second, "takeover").Epoch(), 2)
	})
}

// An epoch that has really got that far is none that somebody made up.
func TestGreatEpochOnRecord(t *testing.T) {
	inWorld(t, func(w *world) {
		w.known.Store(2_000_000_000)
		a, b := w.replica("a"), w.replica("b")
		first := a.lead()
		equal(w, "epoch", first.Epoch(), 2_000_000_001)
		won := b.campaign()
		advance(time.Second)
		if err := first.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		second := within(w, won, 2*network, "takeover")
		equal(w, "epoch", second.Epoch(), 2_000_000_002)
		equal(w, "reason", second.Why(), election.Released)
		equal(w, "lease", second.Lease(), first.Lease())
	})
}

// Many see the edit; each of them may delete the Lease, and one leads.
func TestEditedEpochAmongMany(t *testing.T) {
	inWorld(t, func(w *world) {
		a := w.replica("a")
		a.lead()
		won := make(chan *election.Term, 5)
		for _, name := range []string{"b", "c", "d", "e", "f"} {
			r := w.replica(name)
			r.line.Slow(30*time.Millisecond, 30*time.Millisecond)
			go func() {
				select {
				case term := <-r.campaign():
					won <- term
				case <-w.ctx.Done():
				}
			}()
		}
		advance(5300 * time.Millisecond)
		a.line.Hang()
		w.store.Edit(func(l *coordinationv1.Lease) { l.Spec.LeaseTransitions = ptr.To[int32](math.MaxInt32) })
		term := within(w, won, 10*time.Second, "takeover")
		equal(w, "epoch", term.Epoch(), 2)
		notWithin(w, won, time.Minute, "a second lead")
		equal(w, "valid", term.Valid(), true)
	})
}
