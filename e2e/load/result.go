package load

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is what a load measured.
type Result struct {
	Created int
	Bound   int
	// Retries counts creations that had to be repeated.
	Retries int
	// Elapsed is from the first creation sent to the last bind seen; Rate is
	// bound pods a second over it, Peak the most in any one second.
	Elapsed time.Duration
	Rate    float64
	Peak    float64
	// CreateRate is acknowledged creations a second: the load's own pace.
	CreateRate float64
	// Latency is from right before the creation was sent to the bind seen; Ack
	// to the answer of the creation.
	Latency Summary
	Ack     Summary
	// Gap is the longest time without a bind while pods were waiting.
	Gap     Gap
	Samples []Sample
}

func (g *Generator) result() Result {
	g.mu.Lock()
	samples := append([]Sample(nil), g.samples...)
	g.mu.Unlock()
	r := measure(samples, time.Now())
	r.Retries = int(g.retries.Load())
	return r
}

// measure sums up samples; now ends the wait of pods that are not bound.
func measure(samples []Sample, now time.Time) Result {
	r := Result{Samples: samples}
	var latency, ack []time.Duration
	var binds []time.Time
	var first, lastAck time.Time
	for _, s := range samples {
		if s.Sent.IsZero() {
			continue
		}
		if first.IsZero() || s.Sent.Before(first) {
			first = s.Sent
		}
		if !s.Acked.IsZero() {
			r.Created++
			ack = append(ack, s.Acked.Sub(s.Sent))
			if s.Acked.After(lastAck) {
				lastAck = s.Acked
			}
		}
		if !s.Bound.IsZero() {
			r.Bound++
			latency = append(latency, s.Bound.Sub(s.Sent))
			binds = append(binds, s.Bound)
		}
	}
	sort.Slice(binds, func(i, j int) bool { return binds[i].Before(binds[j]) })
	if n := len(binds); n > 0 {
		r.Elapsed = binds[n-1].Sub(first)
		r.Rate = rate(n, r.Elapsed)
		r.Peak = PeakRate(binds, time.Second)
	}
	if r.Created > 0 {
		r.CreateRate = rate(r.Created, lastAck.Sub(first))
	}
	r.Latency, r.Ack = Summarize(latency), Summarize(ack)
	r.Gap = LongestGap(samples, time.Time{}, now)
	return r
}

// Since returns the result as if the pods, which were held until then, had been created at
// that moment.
func (r Result) Since(released time.Time) Result {
	samples := slices.Clone(r.Samples)
	for i := range samples {
		if s := &samples[i]; !s.Sent.IsZero() {
			s.Sent = released
		}
		if s := &samples[i]; !s.Acked.IsZero() {
			s.Acked = released
		}
	}
	out := measure(samples, time.Now())
	out.Retries, out.CreateRate, out.Ack = r.Retries, r.CreateRate, r.Ack
	return out
}

func rate(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// millis are the durations of a summary in milliseconds, as JSON shows them.
type millis struct {
	N    int     `json:"n"`
	Min  float64 `json:"min_ms"`
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

// MarshalJSON gives durations in milliseconds.
func (s Summary) MarshalJSON() ([]byte, error) {
	return json.Marshal(millis{
		N: s.N, Min: ms(s.Min), Mean: ms(s.Mean), P50: ms(s.P50), P90: ms(s.P90), P99: ms(s.P99), Max: ms(s.Max),
	})
}

// MarshalJSON leaves the samples out.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Created    int     `json:"created"`
		Bound      int     `json:"bound"`
		Retries    int     `json:"retries"`
		Elapsed    float64 `json:"elapsed_s"`
		Rate       float64 `json:"pods_per_s"`
		Peak       float64 `json:"peak_pods_per_s"`
		CreateRate float64 `json:"created_per_s"`
		Latency    Summary `json:"create_to_bind"`
		Ack        Summary `json:"create_to_ack"`
		Gap        float64 `json:"longest_gap_ms"`
	}{
		r.Created, r.Bound, r.Retries, r.Elapsed.Seconds(), r.Rate, r.Peak, r.CreateRate,
		r.Latency, r.Ack, ms(r.Gap.Length),
	})
}

// Print writes the result as a table.
func (r Result) Print(w io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("pods", "%d created, %d bound, %d creations repeated", r.Created, r.Bound, r.Retries)
	row("throughput", "%.0f pods/s over %.1f s (peak %.0f in one second; created at %.0f/s)",
		r.Rate, r.Elapsed.Seconds(), r.Peak, r.CreateRate)
	row("create to bind", "%s", r.Latency)
	row("create to answer", "%s", r.Ack)
	row("longest time without a bind", "%.0f ms (%d pods waiting)", ms(r.Gap.Length), r.Gap.Waiting)
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String gives the summary in milliseconds.
func (s Summary) String() string {
	return fmt.Sprintf("p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms (n=%d)",
		ms(s.P50), ms(s.P90), ms(s.P99), ms(s.Max), s.N)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
