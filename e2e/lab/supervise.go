package lab

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

const (
	// grace is how long a replica may take to hand over when told to stop.
	grace = 5 * time.Second
	// steady is how long a replica has to run for its next start not to be
	// counted as one more failure in a row.
	steady = 10 * time.Second
)

// delay before the nth start in a row; the first restart is immediate, for a
// replica that loses its term ends on purpose.
func delay(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	return min(200*time.Millisecond<<min(failures-2, 10), 5*time.Second)
}

// Supervise runs a replica of the detached lab in dir, starts it again whenever
// it ends, and keeps DIR/state.json true. When ctx ends, it ends the replica and
// returns. If it is itself killed, the replica dies with it.
func Supervise(ctx context.Context, dir, name string, log *slog.Logger) error {
	s := newStarter(false)
	defer s.close()
	return keep(ctx, s, dir, name, log)
}

func keep(ctx context.Context, s *starter, dir, name string, log *slog.Logger) error {
	failures := 0
	for restarts := 0; ; restarts++ {
		began := time.Now()
		c, err := launch(s, dir, name, restarts)
		if err == nil {
			log.Info("started", "replica", name, "pid", c.PID, "restarts", restarts)
			select {
			case <-c.ended:
				log.Info("ended", "replica", name, "pid", c.PID, "after", time.Since(began), "error", c.err)
			case <-ctx.Done():
				return finish(dir, c)
			}
			if err := gone(dir, name); err != nil {
				return err
			}
		} else {
			log.Error("cannot start", "replica", name, "error", err)
		}
		if time.Since(began) >= steady {
			failures = 0
		}
		failures++
		select {
		case <-time.After(delay(failures)):
		case <-ctx.Done():
			return markStopped(dir, name)
		}
	}
}

// launch starts what the state says about name and records the process. If it
// cannot be recorded, it does not run either.
func launch(s *starter, dir, name string, restarts int) (*child, error) {
	state, err := ReadState(dir)
	if err != nil {
		return nil, err
	}
	p := state.Process(name)
	if p == nil {
		return nil, fmt.Errorf("no process is called %q", name)
	}
	c, err := s.start(*p)
	if err != nil {
		return nil, err
	}
	c.Restarts = restarts
	if err := updateState(dir, func(s *State) { s.put(c.Process) }); err != nil {
		_ = c.end(0)
		return nil, err
	}
	return c, nil
}

func finish(dir string, c *child) error {
	if err := c.end(grace); err != nil {
		return err
	}
	<-c.ended
	return markStopped(dir, c.Name)
}

func gone(dir, name string) error {
	return edit(dir, name, func(p *Process) { p.PID, p.Started = 0, 0 })
}

func markStopped(dir, name string) error {
	return edit(dir, name, func(p *Process) { p.PID, p.Started, p.Stopped = 0, 0, true })
}

// edit changes one process in the state.
func edit(dir, name string, change func(*Process)) error {
	return updateState(dir, func(s *State) {
		if p := s.Process(name); p != nil {
			change(p)
		}
	})
}

func (l *Lab) supervisorProcess(name string) (Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return Process{}, err
	}
	if l.plan != nil {
		exe = l.plan.opts.Supervisor
	}
	sup := supervisorOf(name)
	return Process{
		Name: sup, Kind: KindSupervisor, Log: l.path("logs", sup+".log"),
		Args: []string{exe, "supervise", "--dir", l.dir, name},
	}, nil
}

func supervisorOf(replica string) string { return replica + "-supervisor" }
