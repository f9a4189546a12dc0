package explain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
)

const (
	// estimateOf is of how many pods an estimate is at most: those that got a place last.
	estimateOf = 100
	// estimateFrom is how many there must be.
	estimateFrom = 10
)

// Estimate says how long pods of a queue have waited lately. It is of the past, and promises
// nothing.
type Estimate struct {
	Queue string `json:"queue"`
	// Pods is of how many it is.
	Pods int `json:"pods"`
	// P50Seconds and P90Seconds are nil where there are too few pods to tell.
	P50Seconds *float64 `json:"p50Seconds,omitempty"`
	P90Seconds *float64 `json:"p90Seconds,omitempty"`
	Message    string   `json:"message"`
}

// Estimated returns an estimate from the records of the applications that a queue has: the time
// from submission to place of the last 100 pods of it that got one. Placeholders do not count, nor
// pods that had their node before they were known here.
func Estimated(l *ledger.Ledger, queue string) *Estimate {
	type wait struct{ at, took ledger.Time }
	var waits []wait
	for app := range l.Apps() {
		if cmp.Or(app.PlacedQueue, app.Queue) != queue {
			continue
		}
		for t := range l.Tasks(app.ID) {
			if t.Allocated > 0 && t.Submitted > 0 && t.Allocated >= t.Submitted && t.Allocated != t.Bound && !t.Placeholder {
				waits = append(waits, wait{t.Allocated, t.Allocated - t.Submitted})
			}
		}
	}
	slices.SortFunc(waits, func(a, b wait) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(a.took, b.took)) })
	waits = waits[:min(len(waits), estimateOf)]
	slices.SortFunc(waits, func(a, b wait) int { return cmp.Compare(a.took, b.took) })
	x := &Estimate{Queue: queue, Pods: len(waits)}
	if len(waits) < estimateFrom {
		x.Message = fmt.Sprintf("unknown: records have %d pods of queue %s that got a place, and at least %d are needed", len(waits), queue, estimateFrom)
		return x
	}
	// The nearest rank, from below: of 10, p50 is the fifth and p90 the ninth.
	rank := func(percent int) time.Duration { return time.Duration(waits[(len(waits)*percent+99)/100-1].took) }
	p50, p90 := rank(50), rank(90)
	half, most := p50.Seconds(), p90.Seconds()
	x.P50Seconds, x.P90Seconds = &half, &most
	x.Message = fmt.Sprintf("of the last %d pods of queue %s that got a place, half waited %s at most, and nine of ten %s",
		len(waits), queue, rounded(p50), rounded(p90))
	return x
}

func rounded(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}
