package v1

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

// StepLeading is the step of a promotion with which a replica leads.
const StepLeading = "leading"

func terms() *kind[Term] {
	return &kind[Term]{
		name: "terms", one: "term", local: true,
		about: "the history of leadership, oldest first, as far as the replica that is asked knows",
		key:   func(x Term) string { return numberKey(x.Epoch) }, id: func(x Term) string { return strconv.FormatUint(x.Epoch, 10) },
		walk: func(_ context.Context, a *API, after string, yield func([]Term) error) error {
			return yield(afterKey(termsOf(a.Terms()), after, func(x Term) uint64 { return x.Epoch }))
		},
	}
}

func failovers() *kind[Failover] {
	return &kind[Failover]{
		name: "failovers", one: "failover", local: true,
		about: "the changes from one lead to the next, oldest first",
		key:   func(x Failover) string { return numberKey(x.Epoch) }, id: func(x Failover) string { return strconv.FormatUint(x.Epoch, 10) },
		walk: func(_ context.Context, a *API, after string, yield func([]Failover) error) error {
			return yield(afterKey(failoversOf(a.Terms()), after, func(x Failover) uint64 { return x.Epoch }))
		},
	}
}

// numberKey sorts as the numbers do.
func numberKey(n uint64) string { return fmt.Sprintf("%020d", n) }

func afterKey[T any](list []T, after string, epoch func(T) uint64) []T {
	return slices.DeleteFunc(list, func(x T) bool { return numberKey(epoch(x)) <= after })
}

// termsOf turns the history round, the oldest first.
func termsOf(newestFirst []serve.Term) (all []Term) {
	for _, t := range slices.Backward(newestFirst) {
		x := Term{Epoch: t.Epoch, Incarnation: t.Incarnation, Began: t.Started, Ended: t.Ended, Reason: t.Reason, EndReason: t.EndReason}
		for _, step := range t.Timings {
			x.Steps = append(x.Steps, Step{step.Step, step.At})
		}
		all = append(all, x)
	}
	return all
}

// failoversOf returns what lies between each two terms that follow each other.
func failoversOf(newestFirst []serve.Term) (all []Failover) {
	known := termsOf(newestFirst)
	for i, t := range known {
		if i == 0 {
			continue
		}
		before := known[i-1]
		x := Failover{Epoch: t.Epoch, From: before.Incarnation, To: t.Incarnation, EndReason: before.EndReason, Ended: before.Ended}
		for _, step := range t.Steps {
			if step.Name == StepLeading {
				x.Leading = step.At
			}
		}
		if !x.Ended.IsZero() && !x.Leading.IsZero() {
			seconds := max(0, x.Leading.Sub(x.Ended).Round(time.Millisecond).Seconds())
			x.Leaderless = &seconds
		}
		all = append(all, x)
	}
	return all
}
