package election_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/election"
)

// asked carries out a request to step down as a lead does.
func (w *world) obey(term *election.Term) {
	go func() {
		select {
		case <-term.Asked():
			time.Sleep(30 * time.Millisecond) // work that has to stop
			_ = term.Release(w.ctx, term.Successor())
		case <-term.Context().Done():
		}
	}()
}

type outcome struct {
	election.HandOver
	err error
}

func (w *world) stepDown(to string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		defer cancel()
		h, err := election.StepDown(ctx, w.store.Client("operator"), to)
		done <- outcome{h, err}
	}()
	return done
}

func TestStepDown(t *testing.T) {
	for _, to := range []string{"", "c"} {
		inWorld(t, func(w *world) {
			first := w.replica("a_1").lead()
			w.obey(first)
			b, c := w.replica("b_1").campaign(), w.replica("c_1").campaign()
			advance(time.Second)
			done := w.stepDown(to)
			var second *election.Term
			select {
			case second = <-b:
				if to == "c" {
					t.Error("b took what was meant for c")
				}
			case second = <-c:
			}
			h := within(w, done, time.Second, "the answer")
			if h.err != nil || h.From != "a_1" || h.To == "a_1" || h.Epoch != 2 || h.Released.Before(h.Asked) || h.Vacancy() > 10*network {
				t.Errorf("hand-over: %+v (%v), vacant for %v", h.HandOver, h.err, h.Vacancy())
			}
			if _, still := w.store.Lease().Annotations[election.AnnotationStepDown]; still {
				t.Error("the request outlives the hand-over")
			}
			advance(time.Second)
			select {
			case <-second.Asked():
				t.Error("the successor is asked to step down as well")
			default:
			}
			second.Finished()
		})
	}
}

// A request that its addressee did not live to see means nothing to its
// successor.
func TestStepDownIsForTheHolderOfTheMoment(t *testing.T) {
	inWorld(t, func(w *world) {
		first := w.replica("a_1").lead() // which does not obey
		won := w.replica("b_1").campaign()
		done := w.stepDown("")
		<-first.Asked()
		advance(time.Second) // some renewals
		if _, there := w.store.Lease().Annotations[election.AnnotationStepDown]; !there {
			t.Error("a renewal took the request away")
		}
		first.Finished() // the Lease is left to expire
		second := within(w, won, 10*time.Second, "takeover")
		advance(time.Second)
		select {
		case <-second.Asked():
			t.Error("the successor is asked to step down")
		default:
		}
		if got := <-done; !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("answer: %v", got.err)
		}
		second.Finished()
	})
}

func TestStepDownOfNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		if got := <-w.stepDown(""); !errors.Is(got.err, election.ErrNoHolder) {
			t.Errorf("without a lease: %v", got.err)
		}
		term := w.replica("a_1").lead()
		if got := <-w.stepDown("a"); got.err == nil {
			t.Error("a was asked to hand over to itself")
		}
		if err := term.Release(w.ctx, ""); err != nil {
			t.Fatal(err)
		}
		if got := <-w.stepDown(""); !errors.Is(got.err, election.ErrNoHolder) {
			t.Errorf("with a free lease: %v", got.err)
		}
	})
}
