package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// Run measures all peers in all scenarios and returns a report of each scenario, also of
// those that were not measured in full, which the error names. done, if there is one, is
// given each report as it is made.
func Run(ctx context.Context, o Options, done func(*Report) error) ([]*Report, error) {
	peers, scenarios, err := o.validate()
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(o.Lab.Dir) }() // unless logs are left in it
	var reports []*Report
	var errs []error
	for _, s := range scenarios {
		if ctx.Err() != nil {
			break
		}
		report, err := o.compare(ctx, s, peers)
		reports, errs = append(reports, report), append(errs, err)
		if done != nil {
			errs = append(errs, done(report))
		}
	}
	return reports, errors.Join(append(errs, context.Cause(ctx))...)
}

// compare measures all peers in turn, round after round.
func (o Options) compare(ctx context.Context, s Scenario, peers []peer) (*Report, error) {
	report := &Report{
		Scenario: s.Name, About: s.About, Begun: time.Now(), Machine: lab.ThisMachine(), Nodes: o.Lab.Nodes, Pods: o.Pods, Apps: o.Apps,
	}
	for _, p := range peers {
		report.Peers = append(report.Peers, p.name)
		if slices.Contains(o.Bases, p.name) {
			report.Bases = append(report.Bases, p.name)
		}
	}
	var errs []error
	for n := range o.Rounds {
		for _, p := range peers {
			if ctx.Err() != nil {
				break
			}
			o.say("%s, round %d of %d: %s", s.Name, n+1, o.Rounds, p.name)
			m := Measurement{Round: n, Peer: p.name}
			var err error
			if m.Phases, err = o.play(ctx, s, p, filepath.Join(o.Lab.Dir, p.name)); err != nil {
				m.Failed = err.Error()
				errs = append(errs, fmt.Errorf("%s, round %d, %s: %w", s.Name, n+1, p.name, err))
				o.say("  failed: %s", firstLine(m.Failed))
			}
			for _, phase := range m.Phases {
				total, _ := phase.sum()
				o.say("  %s: %.0f pods/s, p50 %.1f ms, p99 %.1f ms, %.1f ms of CPU for each pod; others kept %.2f CPUs busy",
					phase.Name, phase.Rate, millis(phase.Load.Latency.P50), millis(phase.Load.Latency.P99), total, phase.Others)
			}
			report.Measurements = append(report.Measurements, m)
		}
	}
	report.sumUp()
	return report, errors.Join(errs...)
}

func (o Options) say(format string, args ...any) { _, _ = fmt.Fprintf(o.Out, format+"\n", args...) }

// firstLine leaves out the logs that errors may end with.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
