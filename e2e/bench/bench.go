package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/drill"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
)

// Options says what is measured.
type Options struct {
	Lab lab.Options
	// Pods of the burst, all of which keep running.
	Pods int
	// Apps among which pods are dealt out.
	Apps int
	// Rate in pods a second and Duration of the light load, which is put on
	// twice: once in peace, once with the lead killed in its middle.
	Rate     float64
	Duration time.Duration
	// Limit bounds each load.
	Limit time.Duration
	// Profiles is a directory for CPU profiles of the replicas; empty means none.
	Profiles string
	// Out is told what is being done.
	Out io.Writer
}

// Default is what `lab bench` measures.
func Default() Options {
	o := Options{
		Lab: lab.Default(), Pods: 10_000, Apps: 100,
		Rate: 20, Duration: 30 * time.Second, Limit: 5 * time.Minute,
	}
	o.Lab.Dir, o.Lab.Nodes = ".lab-bench", 200
	return o
}

// Run measures. It returns a report even with an error that says that not all
// of it could be measured, or that the verdict is bad.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	o.Lab.Out = o.Out
	report = newReport(o) // before the lab makes the machine busy
	if o.Profiles != "" {
		if err := os.MkdirAll(o.Profiles, 0o755); err != nil {
			return nil, err
		}
	}
	s, meter, end, err := begin(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	defer func() { err = end(err) }()
	b := &bench{opts: o, session: s, meter: meter, report: report}
	err = b.measure(ctx)
	report.Usage = meter.close()
	report.compare()
	return report, err
}

// begin starts a lab, which reports to its Out, with a session and a meter. end takes both down,
// and is given what has gone wrong until then.
func begin(ctx context.Context, o lab.Options) (s *drill.Session, m *meter, end func(error) error, err error) {
	l, err := lab.Up(ctx, o)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err = drill.Begin(ctx, l, slog.New(slog.NewTextHandler(o.Out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return nil, nil, nil, errors.Join(err, l.Down(true))
	}
	return s, newMeter(l), func(err error) error {
		s.Close()
		return errors.Join(err, l.Down(err != nil))
	}, nil
}

type bench struct {
	opts    Options
	session *drill.Session
	meter   *meter
	report  *Report
}

func (b *bench) measure(ctx context.Context) error {
	for _, phase := range []func(context.Context) error{b.burst, b.light, b.failover, b.judge} {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.opts.Out, format+"\n", args...)
}

func (b *bench) config(name string) load.Config {
	cfg := load.Default()
	cfg.Name, cfg.Pods, cfg.Apps, cfg.Timeout = name, b.opts.Pods, b.opts.Apps, b.opts.Limit
	return cfg
}

// burst creates all pods as fast as possible and waits until they run.
func (b *bench) burst(ctx context.Context) error {
	b.say("burst: %d pods of %d applications", b.opts.Pods, b.opts.Apps)
	g, err := b.session.Load(b.config("burst"))
	if err != nil {
		return err
	}
	profiled := b.profile(ctx, "burst", 15*time.Second)
	b.meter.begin("burst")
	result, err := g.Run(ctx)
	b.meter.begin("")
	b.report.Burst = result
	if failed := <-profiled; failed != nil {
		b.say("there is no profile of the burst: %v", failed) // the figures are none the worse
	}
	if err != nil {
		return fmt.Errorf("burst: %w", err)
	}
	return b.awaitRunning(ctx)
}

// awaitRunning waits until kwok has started everything that is bound.
func (b *bench) awaitRunning(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(b.opts.Limit)
	for {
		if n := len(b.session.Cluster.Running().Pods); n >= b.opts.Pods {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit:
			return fmt.Errorf("%d of %d pods run", len(b.session.Cluster.Running().Pods), b.opts.Pods)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// light creates pods at a slow pace, with all those of the burst running.
func (b *bench) light(ctx context.Context) error {
	b.say("light load: %v pods/s for %v, %d pods running", b.opts.Rate, b.opts.Duration, b.opts.Pods)
	g, err := b.session.Load(b.config("light").Steady(b.opts.Rate, b.opts.Duration))
	if err != nil {
		return err
	}
	b.meter.begin("light")
	b.report.Light, err = g.Run(ctx)
	b.meter.begin("")
	if err != nil {
		return fmt.Errorf("light load: %w", err)
	}
	lead, err := b.session.Lab.Leader(ctx)
	if err == nil {
		b.meter.compared(lead)
	}
	return err
}

// failover does the same and kills the lead in the middle.
func (b *bench) failover(ctx context.Context) error {
	cfg := b.config("failover").Steady(b.opts.Rate, b.opts.Duration)
	g, err := b.session.Load(cfg)
	if err != nil {
		return err
	}
	var line timeline.Timeline
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		b.report.Failover, err = g.Run(ctx)
		return err
	})
	group.Go(func() error {
		if err := g.WaitBound(ctx, cfg.Pods/3); err != nil {
			return err
		}
		fault, err := b.session.KillLead(ctx, syscall.SIGKILL)
		if err != nil {
			return err
		}
		b.say("SIGKILL to the lead, %s (epoch %d), under the same load", fault.Replica, fault.Epoch)
		line, err = b.session.Failover(ctx, fault)
		b.report.Timeline = line
		return err
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("failover: %w", err)
	}
	b.report.Gap = load.LongestGap(b.report.Failover.Samples, line.Killed, time.Time{})
	return nil
}

func (b *bench) judge(ctx context.Context) error {
	b.say("reading back what happened, from the API server and etcd")
	verdict, err := b.session.Verdict(ctx)
	if err != nil {
		return err
	}
	b.report.Verdict = verdict
	if !verdict.OK {
		return drill.ErrVerdict
	}
	return nil
}

// profile takes a CPU profile of each replica while something goes on, of which one is
// called NAME-lead. The channel tells when all are written.
func (b *bench) profile(ctx context.Context, name string, length time.Duration) <-chan error {
	done := make(chan error, 1)
	if b.opts.Profiles == "" {
		done <- nil
		return done
	}
	go func() { done <- b.profiles(ctx, name, length) }()
	return done
}

func (b *bench) profiles(ctx context.Context, name string, length time.Duration) error {
	lead, err := b.session.Lab.Leader(ctx)
	if err != nil {
		return err
	}
	replicas, err := b.session.Lab.Replicas()
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(length.Seconds()))
	group, ctx := errgroup.WithContext(ctx)
	for _, replica := range replicas {
		file := name + "-" + replica.Name
		if replica.Name == lead {
			file = name + "-lead"
		}
		group.Go(func() error {
			raw, err := replica.Get(ctx, path)
			if err != nil {
				return fmt.Errorf("profile of %s: %w", replica.Name, err)
			}
			return os.WriteFile(filepath.Join(b.opts.Profiles, file+".pprof"), raw, 0o644)
		})
	}
	return group.Wait()
}
