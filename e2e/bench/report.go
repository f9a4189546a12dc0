package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/e2e/verify"
)

// Report is what was measured, and under which conditions.
type Report struct {
	Begun    time.Time   `json:"begun"`
	Machine  lab.Machine `json:"machine"`
	Replicas int         `json:"replicas"`
	Nodes    int         `json:"nodes"`
	Pods     int         `json:"pods"`
	// Figures are those that something is expected of.
	Figures []Figure `json:"figures"`

	Burst    load.Result       `json:"burst"`
	Light    load.Result       `json:"light"`
	Failover load.Result       `json:"failover"`
	Timeline timeline.Timeline `json:"timeline"`
	// Gap is the longest time after the kill in which pods waited and none was
	// bound.
	Gap     load.Gap       `json:"gap"`
	Usage   []Usage        `json:"usage"`
	Verdict verify.Verdict `json:"verdict"`
}

// Figure is one measure next to what is expected of it.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Limit is the least (AtLeast) or the most that is expected.
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"`
	Met     bool    `json:"met"`
}

func newReport(o Options) *Report {
	return &Report{
		Begun: time.Now(), Machine: lab.ThisMachine(),
		Replicas: o.Lab.Replicas, Nodes: o.Lab.Nodes, Pods: o.Pods,
	}
}

// compare sets the figures against what is expected on two cores that the
// replicas share with the control plane and the load.
func (r *Report) compare() {
	r.Figures = nil
	atLeast := func(name string, value float64, unit string, limit float64) {
		r.Figures = append(r.Figures, Figure{name, value, unit, limit, true, value >= limit})
	}
	// Nothing measured is not a figure that is met.
	atMost := func(name string, value float64, unit string, limit float64, measured bool) {
		r.Figures = append(r.Figures, Figure{name, value, unit, limit, false, measured && value <= limit})
	}
	atLeast(fmt.Sprintf("burst of %d pods", r.Pods), r.Burst.Rate, "pods/s", 400)
	atMost("light load, creation to bind, p50", ms(r.Light.Latency.P50), "ms", 30, r.Light.Bound > 0)
	atMost("light load, creation to bind, p99", ms(r.Light.Latency.P99), "ms", 250, r.Light.Bound > 0)
	atMost("lead killed: longest time without a bind", r.Gap.Length.Seconds(), "s", 5.5, r.Gap.Length > 0)
	var peak, led, followed int64
	var busy float64
	for _, u := range r.Usage {
		switch {
		case u.Kind != lab.KindReplica:
			continue
		case u.Led:
			led = u.RSS
		case u.RSS > 0:
			followed, busy = max(followed, u.RSS), max(busy, u.CPUs["light"])
		}
		peak = max(peak, u.PeakRSS)
	}
	atMost("peak memory of a replica", float64(peak)/1e6, "MB", 500, peak > 0)
	measured := led > 0 && followed > 0
	atMost("memory of an understudy", float64(followed)/float64(max(led, 1)), "of the lead's", 1.2, measured)
	atMost("light load, an understudy's CPU", 100*busy, "% of a core", 5, measured)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func printFigures(p func(format string, args ...any), figures []Figure) {
	p("\nFIGURE\tMEASURED\tEXPECTED\t")
	for _, f := range figures {
		sign, met := "at most", "met"
		if f.AtLeast {
			sign = "at least"
		}
		if !f.Met {
			met = "NOT MET"
		}
		p("%s\t%.4g %s\t%s %.4g\t%s", f.Name, f.Value, f.Unit, sign, f.Limit, met)
	}
}

// Print writes the report as tables.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	p("\n%d replicas, %d nodes, %d CPUs shared with the control plane and the load", r.Replicas, r.Nodes, r.Machine.CPUs)
	if r.Machine.Busy() {
		p("the machine was busy before (load %.1f): the figures say little", r.Machine.LoadBefore)
	}
	printFigures(p, r.Figures)
	p("\nPROCESS\tPID\tCPU s\tCPUS IN BURST\tIN LIGHT LOAD\tMB THEN\tPEAK MB")
	for _, u := range r.Usage {
		p("%s\t%d\t%.1f\t%.2f\t%.2f\t%d\t%d", u.Name, u.PID, u.CPUSeconds, u.CPUs["burst"], u.CPUs["light"], u.RSS/1e6, u.PeakRSS/1e6)
	}
	p("")
	if err := t.Flush(); err != nil {
		return err
	}
	return printEnd(w, r.Timeline, r.Verdict)
}

// printEnd prints how a failover went and what was judged, as far as there was any.
func printEnd(w io.Writer, line timeline.Timeline, verdict verify.Verdict) error {
	if len(line.Steps) > 0 {
		if err := line.Print(w); err != nil {
			return err
		}
	}
	if len(verdict.Checks) > 0 {
		return verdict.Print(w)
	}
	return nil
}
