package load

import (
	"sort"
	"time"
)

// Summary describes a set of durations exactly: percentiles are elements of
// the set (nearest rank), not estimates.
type Summary struct {
	N    int           `json:"n"`
	Min  time.Duration `json:"min"`
	Mean time.Duration `json:"mean"`
	P50  time.Duration `json:"p50"`
	P90  time.Duration `json:"p90"`
	P99  time.Duration `json:"p99"`
	Max  time.Duration `json:"max"`
}

// Summarize does not keep or change ds.
func Summarize(ds []time.Duration) Summary {
	if len(ds) == 0 {
		return Summary{}
	}
	s := append([]time.Duration(nil), ds...)
	sort.Slice(s, func(i, j int) bool { return s[i] < s[j] })
	var sum time.Duration
	for _, d := range s {
		sum += d
	}
	return Summary{
		N:    len(s),
		Min:  s[0],
		Mean: sum / time.Duration(len(s)),
		P50:  Percentile(s, 50),
		P90:  Percentile(s, 90),
		P99:  Percentile(s, 99),
		Max:  s[len(s)-1],
	}
}

// Percentile returns the smallest element of the sorted set that at least p
// percent of the elements do not exceed; zero for an empty set.
func Percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Sample is the life of one pod, on the clock of this process. A zero time has
// not happened, or was not seen.
type Sample struct {
	// Sent is right before the creation was sent, Acked when its answer came.
	Sent, Acked time.Time
	// Bound is when the watch showed the pod assigned.
	Bound time.Time
}

// Gap is a time without a bind while pods were waiting for one.
type Gap struct {
	Start  time.Time     `json:"start"`
	Length time.Duration `json:"length"`
	// Waiting is how many pods waited at its end.
	Waiting int `json:"waiting"`
}

// LongestGap returns the longest time within [from, to] in which at least one
// pod waited and none was bound. A pod waits from the answer to its creation,
// or from the moment it was sent if no answer was seen. Zero times stand for
// the whole.
func LongestGap(samples []Sample, from, to time.Time) Gap {
	type step struct {
		at   time.Time
		bind bool
	}
	var steps []step
	for _, s := range samples {
		begin := s.Acked
		if begin.IsZero() {
			begin = s.Sent
		}
		if begin.IsZero() {
			continue
		}
		if !s.Bound.IsZero() && s.Bound.Before(begin) {
			begin = s.Bound // the watch was faster than the answer
		}
		steps = append(steps, step{at: begin})
		if !s.Bound.IsZero() {
			steps = append(steps, step{at: s.Bound, bind: true})
		}
	}
	// At one instant the arrival goes first, or a pod would leave before it came.
	sort.SliceStable(steps, func(i, j int) bool {
		if !steps[i].at.Equal(steps[j].at) {
			return steps[i].at.Before(steps[j].at)
		}
		return !steps[i].bind && steps[j].bind
	})
	var longest Gap
	var since time.Time // when the present wait began; zero while nobody waits
	waiting := 0
	end := func(at time.Time) {
		start := since
		if !from.IsZero() && start.Before(from) {
			start = from
		}
		if !to.IsZero() && at.After(to) {
			at = to
		}
		if d := at.Sub(start); d > longest.Length {
			longest = Gap{Start: start, Length: d, Waiting: waiting}
		}
	}
	for _, s := range steps {
		if !s.bind {
			if waiting == 0 {
				since = s.at
			}
			waiting++
			continue
		}
		end(s.at)
		waiting--
		since = s.at
	}
	if waiting > 0 && !to.IsZero() {
		end(to)
	}
	return longest
}

// PeakRate returns the most events that fall into any window, as a rate a
// second. times must be sorted.
func PeakRate(times []time.Time, window time.Duration) float64 {
	best, first := 0, 0
	for i, t := range times {
		for t.Sub(times[first]) >= window {
			first++
		}
		best = max(best, i-first+1)
	}
	return float64(best) / window.Seconds()
}
