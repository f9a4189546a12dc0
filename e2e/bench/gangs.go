package bench

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/drill"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// GangsOptions says what is measured of gangs.
type GangsOptions struct {
	Lab lab.Options
	// Gangs that are created as fast as possible, and pods that each has. All keep running.
	Gangs, Members int
	// Kill has the lead killed when a third of the pods are bound.
	Kill bool
	// Limit bounds the load.
	Limit time.Duration
	// Out is told what is being done.
	Out io.Writer
}

// DefaultGangs is what `lab bench gangs` measures.
func DefaultGangs() GangsOptions {
	o := GangsOptions{Lab: lab.Default(), Gangs: 1000, Members: 8, Limit: 15 * time.Minute}
	o.Lab.Dir, o.Lab.Nodes = ".lab-gangs", 500
	return o
}

// GangsReport is what was measured of gangs, and under which conditions.
type GangsReport struct {
	Begun    time.Time   `json:"begun"`
	Machine  lab.Machine `json:"machine"`
	Replicas int         `json:"replicas"`
	Nodes    int         `json:"nodes"`
	Gangs    int         `json:"gangs"`
	Members  int         `json:"members"`
	Killed   bool        `json:"killed"`
	Load     load.Result `json:"load"`
	// Start is from right before the creation of a gang's first pod until all its pods were
	// seen to be bound, of the Started gangs.
	Start   load.Summary `json:"start"`
	Started int          `json:"started"`
	// Replaced and TimedOut are how many placeholders the records say were given up, for a
	// pod and because their time was up.
	Replaced int `json:"replaced"`
	TimedOut int `json:"timed_out"`
	// Mirror is what was written of tasks and applications.
	Mirror Written `json:"mirror"`
	// PerPod is what a pod cost each process that lived to the end, placeholders included.
	PerPod   []PodCost         `json:"per_pod"`
	Timeline timeline.Timeline `json:"timeline"`
	Usage    []Usage           `json:"usage"`
	Figures  []Figure          `json:"figures"`
	Verdict  verify.Verdict    `json:"verdict"`
}

// Written is what the mirror wrote to etcd. A task is a pod or a placeholder.
type Written struct {
	Transactions int   `json:"transactions"`
	Records      int   `json:"records"`
	Bytes        int64 `json:"bytes"`
	Tasks        int   `json:"tasks"`
	// TransactionsPerTask is below one where several tasks share a transaction.
	TransactionsPerTask float64 `json:"transactions_per_task"`
	BytesPerTask        float64 `json:"bytes_per_task"`
}

// PodCost is the CPU time that a pod of a gang has cost a process.
type PodCost struct {
	Process string        `json:"process"`
	Kind    string        `json:"kind"`
	Led     bool          `json:"led"`
	CPU     time.Duration `json:"cpu"`
}

const phaseGangs = "gangs"

// Gangs measures how soon gangs start. It returns a report even with an error that says
// that not all of it could be measured, or that the verdict is bad.
func Gangs(ctx context.Context, o GangsOptions) (report *GangsReport, err error) {
	report = &GangsReport{
		Begun: time.Now(), Machine: lab.ThisMachine(), Replicas: o.Lab.Replicas, Nodes: o.Lab.Nodes,
		Gangs: o.Gangs, Members: o.Members, Killed: o.Kill,
	}
	o.Lab.Out = o.Out
	s, meter, end, err := begin(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	defer func() { err = end(err) }()
	g := &gangsBench{GangsOptions: o, session: s, meter: meter, report: report}
	err = g.measure(ctx)
	report.Usage = meter.close()
	report.compare()
	return report, err
}

type gangsBench struct {
	GangsOptions
	session *drill.Session
	meter   *meter
	report  *GangsReport
}

func (g *gangsBench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(g.Out, format+"\n", args...)
}

func (g *gangsBench) measure(ctx context.Context) error {
	g.say("%d gangs of %d pods on %d nodes", g.Gangs, g.Members, g.Lab.Nodes)
	cfg := load.Default()
	cfg.Name, cfg.Pods, cfg.Gang, cfg.Timeout = "gang", g.Gangs*g.Members, g.Members, g.Limit
	generator, err := g.session.Load(cfg)
	if err != nil {
		return err
	}
	g.meter.begin(phaseGangs)
	group, working := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		g.report.Load, err = generator.Run(working)
		return err
	})
	if g.Kill {
		group.Go(func() error { return g.kill(working, generator, cfg.Pods/3) })
	}
	err = group.Wait()
	g.meter.begin("")
	g.report.starts(g.report.Load.Samples)
	if err != nil {
		return fmt.Errorf("gangs: %w", err)
	}
	lead, err := g.session.Lab.WaitLeader(ctx)
	if err != nil {
		return err
	}
	g.meter.compared(lead)
	g.say("reading back what happened, from the API server and etcd")
	if g.report.Verdict, err = g.session.Verdict(ctx); err != nil {
		return err
	}
	if err := g.report.read(g.session.Etcd.Events()); err != nil {
		return err
	}
	g.report.Verdict = verify.NewVerdict(append(g.report.Verdict.Checks, g.report.whole())...)
	if !g.report.Verdict.OK {
		return drill.ErrVerdict
	}
	return nil
}

func (g *gangsBench) kill(ctx context.Context, generator *load.Generator, bound int) error {
	if err := generator.WaitBound(ctx, bound); err != nil {
		return err
	}
	fault, err := g.session.KillLead(ctx, syscall.SIGKILL)
	if err != nil {
		return err
	}
	g.say("SIGKILL to the lead, %s (epoch %d), with %d pods bound", fault.Replica, fault.Epoch, bound)
	g.report.Timeline, err = g.session.Failover(ctx, fault)
	return err
}

// starts sums up when gangs began, from when their pods were created and bound.
func (r *GangsReport) starts(samples []load.Sample) {
	var all []time.Duration
	for first := 0; first+r.Members <= len(samples); first += r.Members {
		var sent, last time.Time
		whole := true
		for _, s := range samples[first : first+r.Members] {
			whole = whole && !s.Bound.IsZero()
			if sent.IsZero() || s.Sent.Before(sent) {
				sent = s.Sent
			}
			if s.Bound.After(last) {
				last = s.Bound
			}
		}
		if whole {
			all = append(all, last.Sub(sent))
		}
	}
	r.Start, r.Started = load.Summarize(all), len(all)
}

// read takes from the history of etcd what was written, and what records say in the end.
func (r *GangsReport) read(events []history.EtcdEvent) error {
	keys := record.Keys{}
	apps, tasks := make(map[string]*ledger.App), make(map[string]bool)
	revisions := make(map[int64]bool)
	for _, e := range events {
		task := strings.HasPrefix(e.Key, "tasks/")
		if e.Base || !task && !strings.HasPrefix(e.Key, "apps/") {
			continue
		}
		revisions[e.Revision] = true
		r.Mirror.Records++
		r.Mirror.Bytes += int64(len(e.Key) + len(e.Value))
		if task {
			tasks[e.Key] = true
			continue
		}
		if e.Deleted {
			continue
		}
		entry, err := keys.Decode("/"+e.Key, e.Value)
		if err != nil {
			return fmt.Errorf("record %s: %w", e.Key, err)
		}
		apps[e.Key] = entry.App
	}
	for _, app := range apps {
		for _, group := range app.Gang {
			r.Replaced += int(group.Replaced)
			r.TimedOut += int(group.TimedOut)
		}
	}
	r.Mirror.Transactions, r.Mirror.Tasks = len(revisions), len(tasks)
	if n := float64(len(tasks)); n > 0 {
		r.Mirror.TransactionsPerTask = float64(len(revisions)) / n
		r.Mirror.BytesPerTask = float64(r.Mirror.Bytes) / n
	}
	return nil
}

// whole checks that no gang was lost: all have begun, and each pod took one place.
func (r *GangsReport) whole() verify.Check {
	want := r.Gangs * r.Members
	c := verify.Check{
		Name:   "no gang lost",
		OK:     r.Started == r.Gangs && r.Replaced == want && r.TimedOut == 0,
		Detail: fmt.Sprintf("%d of %d gangs began, %d placeholders were replaced by %d pods", r.Started, r.Gangs, r.Replaced, want),
	}
	if !c.OK {
		c.Violations, c.Examples = 1, []string{fmt.Sprintf("%d of %d gangs began; %d placeholders went for %d pods, %d timed out",
			r.Started, r.Gangs, r.Replaced, want, r.TimedOut)}
	}
	return c
}

// compare says what a pod has cost, and sets the figures against what is expected.
func (r *GangsReport) compare() {
	r.PerPod, r.Figures = nil, nil
	pods := r.Gangs * r.Members
	for _, u := range r.Usage {
		if u.RSS > 0 && pods > 0 {
			r.PerPod = append(r.PerPod, PodCost{Process: u.Name, Kind: u.Kind, Led: u.Led, CPU: u.spent[phaseGangs] / time.Duration(pods)})
		}
	}
	perPod := float64(r.Replaced) / float64(max(pods, 1))
	r.Figures = append(r.Figures,
		Figure{Name: "gangs that began", Value: float64(r.Started), Unit: "gangs", Limit: float64(r.Gangs), AtLeast: true, Met: r.Started >= r.Gangs},
		Figure{Name: "placeholders given up", Value: perPod, Unit: "for a pod", Limit: 1, Met: r.Replaced > 0 && perPod <= 1},
	)
}

// Print writes the report as tables.
func (r *GangsReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	p("\n%d replicas, %d gangs of %d pods on %d nodes in %.1f s, %d CPUs shared with the control plane and the load",
		r.Replicas, r.Gangs, r.Members, r.Nodes, r.Load.Elapsed.Seconds(), r.Machine.CPUs)
	if r.Machine.Busy() {
		p("the machine was busy before (load %.1f): the figures say little", r.Machine.LoadBefore)
	}
	printFigures(p, r.Figures)
	p("\nPODS/S\tGANGS\tSTART P50 ms\tP99 ms\tMAX ms")
	p("%.0f\t%d\t%.0f\t%.0f\t%.0f", r.Load.Rate, r.Started, ms(r.Start.P50), ms(r.Start.P99), ms(r.Start.Max))
	p("\nMIRROR: TASKS\tTRANSACTIONS\tRECORDS\tBYTES\tTRANSACTIONS A TASK\tBYTES A TASK")
	m := r.Mirror
	p("%d\t%d\t%d\t%d\t%.2f\t%.0f", m.Tasks, m.Transactions, m.Records, m.Bytes, m.TransactionsPerTask, m.BytesPerTask)
	p("\nPROCESS\tKIND\tLED\tCPU ms PER POD")
	for _, c := range r.PerPod {
		p("%s\t%s\t%t\t%.2f", c.Process, c.Kind, c.Led, ms(c.CPU))
	}
	p("")
	if err := t.Flush(); err != nil {
		return err
	}
	return printEnd(w, r.Timeline, r.Verdict)
}
