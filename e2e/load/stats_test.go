package load

import (
	"math/rand/v2"
	"testing"
	"time"
)

const msec = time.Millisecond

func TestPercentilesAreElementsOfTheSet(t *testing.T) {
	var ds []time.Duration
	for i := range 200 {
		ds = append(ds, time.Duration(i+1)*msec)
	}
	rand.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
	first := ds[0]
	got := Summarize(ds)
	want := Summary{N: 200, Min: msec, Mean: 100500 * time.Microsecond, P50: 100 * msec, P90: 180 * msec, P99: 198 * msec, Max: 200 * msec}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if ds[0] != first {
		t.Error("the caller's slice was sorted")
	}
	one := Summarize([]time.Duration{7})
	if one.P50 != 7 || one.P99 != 7 || one.Max != 7 || one.N != 1 {
		t.Errorf("of one: %+v", one)
	}
	if Summarize(nil) != (Summary{}) {
		t.Error("of none: not zero")
	}
}

// at is n milliseconds into the load.
func at(n int) time.Time { return time.Unix(100, 0).Add(time.Duration(n) * msec) }

// pod was sent and acked at the given moments, and bound unless that is negative.
func pod(sent, acked, bound int) Sample {
	s := Sample{Sent: at(sent), Acked: at(acked)}
	if bound >= 0 {
		s.Bound = at(bound)
	}
	return s
}

func TestLongestGap(t *testing.T) {
	none := time.Time{}
	for what, c := range map[string]struct {
		samples  []Sample
		from, to time.Time
		start    time.Time
		length   time.Duration
		waiting  int
	}{
		"between two binds": {
			samples: []Sample{pod(0, 0, 10), pod(0, 0, 30), pod(0, 0, 90), pod(0, 0, 100)},
			start:   at(30), length: 60 * msec, waiting: 2,
		},
		"before the first bind, from the answer on": {
			samples: []Sample{pod(0, 5, 90), pod(0, 5, 95)},
			start:   at(5), length: 85 * msec, waiting: 2,
		},
		"idle time is no gap": {
			samples: []Sample{pod(0, 0, 10), pod(500, 500, 520)},
			start:   at(500), length: 20 * msec, waiting: 1,
		},
		"pods that come during a gap do not end it": {
			samples: []Sample{pod(0, 0, 10), pod(20, 20, 520), pod(200, 200, 521), pod(400, 400, 522)},
			start:   at(20), length: 500 * msec, waiting: 3,
		},
		"bound before the answer": {
			samples: []Sample{pod(0, 40, 20), pod(90, 90, 95)},
			start:   at(90), length: 5 * msec, waiting: 1,
		},
		"never bound": {
			samples: []Sample{pod(0, 0, 10), pod(20, 20, -1)}, to: at(100),
			start: at(20), length: 80 * msec, waiting: 1,
		},
		"only a part is looked at": {
			samples: []Sample{pod(0, 0, 80), pod(0, 0, 100), pod(0, 0, 130), pod(0, 0, 300)},
			from:    at(50), to: at(150),
			start: at(50), length: 30 * msec, waiting: 4,
		},
		"nothing waits": {samples: []Sample{{}}, to: at(100), start: none},
	} {
		t.Run(what, func(t *testing.T) {
			got := LongestGap(c.samples, c.from, c.to)
			if !got.Start.Equal(c.start) || got.Length != c.length || got.Waiting != c.waiting {
				t.Errorf("got %v from %v with %d waiting, want %v from %v with %d",
					got.Length, got.Start, got.Waiting, c.length, c.start, c.waiting)
			}
		})
	}
}

func TestPeakRate(t *testing.T) {
	var times []time.Time
	for _, n := range []int{0, 100, 900, 1000, 1050, 1099, 3000} {
		times = append(times, at(n))
	}
	// 100, 900, 1000, 1050, 1099 lie within a second; 0 and 1000 do not.
	if got := PeakRate(times, time.Second); got != 5 {
		t.Errorf("peak %v, want 5", got)
	}
	if got := PeakRate(nil, time.Second); got != 0 {
		t.Errorf("peak of nothing: %v", got)
	}
}

func TestMeasure(t *testing.T) {
	r := measure([]Sample{pod(0, 2, 1000), pod(500, 504, 2000), pod(600, 603, -1), {}}, at(2500))
	if r.Created != 3 || r.Bound != 2 {
		t.Errorf("created %d, bound %d", r.Created, r.Bound)
	}
	if r.Elapsed != 2*time.Second || r.Rate != 1 || r.Peak != 1 {
		t.Errorf("elapsed %v, rate %v, peak %v", r.Elapsed, r.Rate, r.Peak)
	}
	if r.Latency.N != 2 || r.Latency.Max != 1500*msec || r.Ack.Max != 4*msec {
		t.Errorf("latency %v, ack %v", r.Latency, r.Ack)
	}
	if r.Gap.Length != time.Second || !r.Gap.Start.Equal(at(1000)) {
		t.Errorf("gap %+v", r.Gap)
	}
}
