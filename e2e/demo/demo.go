// Package demo shows the main job: three replicas schedule a burst of pods on a
// real API server, their lead is killed in the middle, and another one carries
// on. It ends with a verdict that is computed from the API server and etcd
// alone, and an error unless every check of it passed.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/drill"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
)

// Options says what is shown.
type Options struct {
	Lab lab.Options
	// Pods of the burst, among Apps applications.
	Pods int
	Apps int
	// KillAfter is which part of the pods is bound when the lead is killed.
	KillAfter float64
	// Limit bounds the burst, failover included.
	Limit time.Duration
	Out   io.Writer
}

// Default is what `lab demo` shows.
func Default() Options {
	o := Options{Lab: lab.Default(), Pods: 3000, Apps: 12, KillAfter: 0.4, Limit: 3 * time.Minute}
	o.Lab.Dir, o.Lab.Audit = ".lab-demo", true
	return o
}

// Run shows it. The lab is gone when Run returns; after a failure its logs stay.
func Run(ctx context.Context, o Options) (err error) {
	if o.Pods < 10 || o.KillAfter <= 0 || o.KillAfter >= 1 {
		return fmt.Errorf("pods %d and kill-after %v: want at least 10 pods, and a part between 0 and 1", o.Pods, o.KillAfter)
	}
	o.Lab.Out = o.Out
	l, err := lab.Up(ctx, o.Lab)
	if err != nil {
		return err
	}
	defer func() {
		failed := err != nil
		err = errors.Join(err, l.Down(failed))
		if failed {
			say(o.Out, "the logs are in %s/logs", l.Dir())
		}
	}()
	s, err := drill.Begin(ctx, l, slog.New(slog.NewTextHandler(o.Out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer s.Close()
	limited, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("%v have passed", o.Limit))
	defer cancel()
	failed := burst(limited, s, o)
	if ctx.Err() != nil {
		return errors.Join(failed, context.Cause(ctx))
	}
	say(o.Out, "\nreading back what happened, from the API server and etcd")
	verdict, err := s.Verdict(ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, drill.Conclude(o.Out, verdict))
}

// burst creates the pods and kills the lead in the middle.
func burst(ctx context.Context, s *drill.Session, o Options) error {
	cfg := load.Default()
	cfg.Name, cfg.Pods, cfg.Apps, cfg.Timeout = "demo", o.Pods, o.Apps, o.Limit
	// The lead may have sent off all that it knows of when it is killed.
	cfg.Held = o.Pods / 10
	g, err := s.Load(cfg)
	if err != nil {
		return err
	}
	say(o.Out, "\ncreating %d pods of %d applications, schedulerName %s", cfg.Pods, cfg.Apps, cfg.Scheduler)
	var result load.Result
	var line timeline.Timeline
	group, ctx := errgroup.WithContext(ctx) // either's failure ends the other
	group.Go(func() (err error) {
		result, err = g.Run(ctx)
		return err
	})
	group.Go(func() (err error) {
		line, err = kill(ctx, s, g, o)
		return err
	})
	if err := group.Wait(); err != nil {
		return errors.Join(err, result.Print(o.Out))
	}
	say(o.Out, "")
	if err := line.Print(o.Out); err != nil {
		return err
	}
	say(o.Out, "")
	return result.Print(o.Out)
}

// kill waits for the middle of the burst, kills the lead and follows the
// failover.
func kill(ctx context.Context, s *drill.Session, g *load.Generator, o Options) (timeline.Timeline, error) {
	if err := g.WaitBound(ctx, int(float64(o.Pods)*o.KillAfter)); err != nil {
		return timeline.Timeline{}, err
	}
	created, bound := g.Progress()
	fault, err := s.KillLead(ctx, syscall.SIGKILL)
	if err != nil {
		return timeline.Timeline{}, err
	}
	g.Release()
	say(o.Out, "SIGKILL to the lead, %s (epoch %d), with %d pods created and %d bound",
		fault.Replica, fault.Epoch, created, bound)
	return s.Failover(ctx, fault)
}

func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}
