package drill

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/e2e/verify"
)

// Series repeats a scenario on one lab that holds many running pods, each time
// under a steady load of new ones.
type Series struct {
	Scenario Scenario
	// Repeat is how often.
	Repeat int
	// Running is how many pods run before the first time.
	Running int
	// Rate of new pods a second.
	Rate float64
	// Lasts is how long the load of one round goes on, unless the scenario says
	// more.
	Lasts time.Duration
}

// Round is the scenario done once.
type Round struct {
	// Failovers are those that it was meant to bring about, in order.
	Failovers []Failover `json:"failovers"`
}

// Failover is one that a fault has brought about. Times are in milliseconds after
// that fault.
type Failover struct {
	At       time.Time `json:"at"`
	OldEpoch uint64    `json:"old_epoch"`
	NewEpoch uint64    `json:"new_epoch"`
	// Steps are those of the successor's promotion, by name.
	Steps map[string]float64 `json:"steps"`
	// Vacant is how long nobody held the Lease; absent if it was never seen to
	// be without a holder.
	Vacant *float64 `json:"vacant_ms,omitempty"`
	// Gap is the longest time in which a pod waited and none was bound, until the
	// next fault or the end of the round.
	Gap float64 `json:"gap_ms"`
}

// Spread describes a figure over all failovers, in milliseconds. Percentiles are
// figures that were measured (nearest rank).
type Spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// SeriesReport is what was measured, and under which conditions.
type SeriesReport struct {
	Scenario string            `json:"scenario"`
	Begun    time.Time         `json:"begun"`
	Machine  lab.Machine       `json:"machine"`
	Replicas int               `json:"replicas"`
	Nodes    int               `json:"nodes"`
	Running  int               `json:"running_pods"`
	Rate     float64           `json:"pods_per_second"`
	Rounds   []Round           `json:"rounds"`
	Spreads  map[string]Spread `json:"spreads"`
	Verdict  verify.Verdict    `json:"verdict"`
	Took     float64           `json:"took_seconds"`
}

// The figures of a report, in the order in which they are shown; the names of
// steps are those of the term's record and of the timeline.
var figures = []string{
	"detected", "taken", "claimed", "caught-up", "cluster-synced", "reconciled", "engine-verified",
	"engine-released", "leading", timeline.FirstBind, vacant, gap,
}

const (
	vacant = "lease vacant"
	gap    = "no bind"
)

// Run starts a lab of these options, does the series, and ends the lab. A report
// is returned even with an error that says that not all rounds were done.
func (sr Series) Run(ctx context.Context, o lab.Options, log *slog.Logger, out io.Writer) (report *SeriesReport, err error) {
	begun := time.Now()
	report = &SeriesReport{
		Scenario: sr.Scenario.Name, Begun: begun, Machine: lab.ThisMachine(),
		Replicas: o.Replicas, Nodes: o.Nodes, Running: sr.Running, Rate: sr.Rate,
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if report != nil {
			report.Took = time.Since(begun).Seconds()
		}
		err = errors.Join(err, l.Down(err != nil))
	}()
	s, err := Begin(ctx, l, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := sr.fill(ctx, s); err != nil {
		return nil, err
	}
	var failed error
	for i := range sr.Repeat {
		round, err := sr.round(ctx, s, i)
		if err != nil {
			failed = fmt.Errorf("round %d: %w", i+1, err)
			break
		}
		report.Rounds = append(report.Rounds, round)
		_, _ = fmt.Fprintf(out, "%s %d/%d: %v\n", sr.Scenario.Name, i+1, sr.Repeat, round)
	}
	report.summarize()
	report.Verdict, err = s.Verdict(ctx)
	return report, errors.Join(failed, err)
}

// fill creates the pods that run all along.
func (sr Series) fill(ctx context.Context, s *Session) error {
	if sr.Running == 0 {
		return s.AwaitReady(ctx)
	}
	cfg := load.Default()
	cfg.Name, cfg.Pods, cfg.Apps = "running", sr.Running, max(1, sr.Running/100)
	g, err := s.Load(cfg)
	if err != nil {
		return err
	}
	if _, err := g.Run(ctx); err != nil {
		return err
	}
	if err := await(ctx, "all pods to run", func() (bool, error) {
		return len(s.Cluster.Running().Pods) >= sr.Running, nil
	}); err != nil {
		return err
	}
	return s.AwaitReady(ctx)
}

// round does the scenario once. The fault comes at a time that nothing else
// depends on.
func (sr Series) round(ctx context.Context, s *Session, i int) (Round, error) {
	var none Round
	if err := s.AwaitReady(ctx); err != nil {
		return none, err
	}
	cfg := load.Default().Steady(cmp.Or(sr.Scenario.Rate, sr.Rate), max(sr.Scenario.Lasts, sr.Lasts))
	cfg.Name, cfg.Timeout = fmt.Sprintf("round-%d", i), 5*time.Minute+sr.Scenario.Lasts
	g, err := s.Load(cfg)
	if err != nil {
		return none, err
	}
	before, began := len(s.failovers()), time.Now()
	var result load.Result
	group, loading := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		result, err = g.Run(loading)
		return err
	})
	group.Go(func() error {
		if err := g.WaitBound(loading, min(cfg.Pods/4, int(cfg.Rate*warmUp.Seconds()))); err != nil {
			return err
		}
		select {
		case <-time.After(rand.N(500 * time.Millisecond)):
		case <-loading.Done():
			return context.Cause(loading)
		}
		return sr.Scenario.Do(loading, s, g)
	})
	if err := group.Wait(); err != nil {
		return none, err
	}
	return Round{Failovers: measure(s.failovers()[before:], s.faultsSince(began), result.Samples)}, nil
}

// measure reads the failovers of a round from their timelines and its load. faults
// are when something was done, in order.
func measure(lines []timeline.Timeline, faults []time.Time, samples []load.Sample) []Failover {
	all := make([]Failover, 0, len(lines))
	for _, line := range lines {
		f := Failover{At: line.Killed, OldEpoch: line.OldEpoch, NewEpoch: line.NewEpoch, Steps: map[string]float64{}}
		for _, name := range figures {
			if step := line.Step(name); step != nil {
				f.Steps[name] = ms(step.Offset)
			}
		}
		released, taken := line.Step(timeline.LeaseReleased), line.Step(timeline.LeaseTaken)
		if released != nil && taken != nil && !taken.At.Before(released.At) {
			v := ms(taken.At.Sub(released.At))
			f.Vacant = &v
		}
		var until time.Time
		if next := slices.IndexFunc(faults, line.Killed.Before); next >= 0 {
			until = faults[next]
		}
		f.Gap = ms(load.LongestGap(samples, line.Killed, until).Length)
		all = append(all, f)
	}
	return all
}

// String says how the lead was succeeded, each time.
func (r Round) String() string {
	if len(r.Failovers) == 0 {
		return "the lead stayed"
	}
	var each []string
	for _, f := range r.Failovers {
		each = append(each, fmt.Sprintf("epoch %d to %d, first bind after %.0f ms", f.OldEpoch, f.NewEpoch, f.Steps[timeline.FirstBind]))
	}
	return strings.Join(each, "; ")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// failovers returns those of all rounds.
func (r *SeriesReport) failovers() []Failover {
	var all []Failover
	for _, round := range r.Rounds {
		all = append(all, round.Failovers...)
	}
	return all
}

func (r *SeriesReport) summarize() {
	values := map[string][]float64{}
	for _, f := range r.failovers() {
		for name, v := range f.Steps {
			values[name] = append(values[name], v)
		}
		if f.Vacant != nil {
			values[vacant] = append(values[vacant], *f.Vacant)
		}
		values[gap] = append(values[gap], f.Gap)
	}
	r.Spreads = map[string]Spread{}
	for name, v := range values {
		slices.Sort(v)
		at := func(p int) float64 { return v[min(max((len(v)*p+99)/100, 1), len(v))-1] }
		r.Spreads[name] = Spread{N: len(v), P50: at(50), P90: at(90), P99: at(99), Max: v[len(v)-1]}
	}
}

// Print writes the report as tables.
func (r *SeriesReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	p("\n%s: %d failovers in %d rounds, %d pods running on %d nodes, %v new ones a second, %d replicas, %d CPUs shared with the control plane",
		r.Scenario, len(r.failovers()), len(r.Rounds), r.Running, r.Nodes, r.Rate, r.Replicas, r.Machine.CPUs)
	if r.Machine.Busy() {
		p("the machine was busy before (load %.1f): the figures say little", r.Machine.LoadBefore)
	}
	if len(r.Spreads) > 0 {
		p("\nMS AFTER THE FAULT\tN\tP50\tP90\tP99\tMAX")
	}
	for _, name := range figures {
		if s, ok := r.Spreads[name]; ok {
			p("%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f", name, s.N, s.P50, s.P90, s.P99, s.Max)
		}
	}
	p("")
	return errors.Join(t.Flush(), r.Verdict.Print(w))
}

// JUnit writes reports as JUnit XML: a test case for each check of each.
func JUnit(w io.Writer, reports []*SeriesReport) error {
	type failure struct {
		Message string `xml:"message,attr"`
	}
	type testCase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Time     float64    `xml:"time,attr"`
		Cases    []testCase `xml:"testcase"`
	}
	all := struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite
	}{}
	for _, r := range reports {
		s := suite{Name: r.Scenario, Time: r.Took}
		for _, c := range r.Verdict.Checks {
			tc := testCase{Name: c.Name, Class: "drill." + r.Scenario}
			if !c.OK {
				s.Failures++
				tc.Failure = &failure{Message: c.Detail}
			}
			s.Cases = append(s.Cases, tc)
		}
		s.Tests = len(s.Cases)
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	return errors.Join(enc.Encode(all), enc.Close())
}
