package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// grace is how long a replica may take to hand over when told to stop.
	grace = 5 * time.Second
	// steady is how long a process has to run for its next start not to be
	// counted as one more failure in a row.
	steady = 10 * time.Second
)

// restarts are the pauses before starts in a row, after the first: that is immediate, for
// a replica that loses its term ends on purpose.
var restarts = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Cap: 5 * time.Second, Steps: math.MaxInt}

// Keep runs a replica of the detached lab in dir, or its supervisor, as a kubelet
// does: it starts it again whenever it ends, and keeps DIR/state.json true. When
// ctx ends, it ends the replica and returns. If it is itself killed, the replica
// dies with it.
func Keep(ctx context.Context, dir, name string, log *slog.Logger) error {
	s := newStarter(false)
	defer s.close()
	return keep(ctx, s, dir, name, log)
}

func keep(ctx context.Context, s *starter, dir, name string, log *slog.Logger) error {
	pause, longer := time.Duration(0), restarts
	for {
		began := time.Now()
		c, err := launchReplica(s, dir, name)
		if err == nil {
			log.Info("started", "replica", name, "process", c.Name, "pid", c.PID)
			select {
			case <-c.ended:
				log.Info("ended", "replica", name, "process", c.Name, "pid", c.PID, "after", time.Since(began), "error", c.err)
			case <-ctx.Done():
				return finish(dir, name, c)
			}
			if c.Name != name {
				err = gone(dir, c.Name)
			}
		} else {
			log.Error("cannot start", "replica", name, "error", err)
			err = nil
		}
		if err := errors.Join(err, gone(dir, name)); err != nil {
			return err
		}
		if time.Since(began) >= steady {
			pause, longer = 0, restarts
		}
		select {
		case <-time.After(pause):
			pause = longer.Step()
		case <-ctx.Done():
			return markStopped(dir, name)
		}
	}
}

// launchReplica starts a replica, or the supervisor that it has. The child
// returned has ended when the replica has, too.
func launchReplica(s *starter, dir, name string) (*child, error) {
	state, err := ReadState(dir)
	if err != nil {
		return nil, err
	}
	p := state.Process(name)
	if p == nil {
		return nil, fmt.Errorf("no process is called %q", name)
	}
	if !p.Supervised {
		return launch(s, dir, name, nil)
	}
	sup := supervisorProcess(*p)
	if old := state.Process(sup.Name); old != nil {
		sup.Restarts = old.Restarts
	}
	if err := updateState(dir, func(s *State) { s.put(sup) }); err != nil {
		return nil, err
	}
	return launch(s, dir, sup.Name, &follower{dir, name})
}

// launch starts what the state says about name and records the process. If it
// cannot be recorded, it does not run either. f follows what it says, if not nil.
func launch(s *starter, dir, name string, f *follower) (*child, error) {
	state, err := ReadState(dir)
	if err != nil {
		return nil, err
	}
	p := state.Process(name)
	if p == nil {
		return nil, fmt.Errorf("no process is called %q", name)
	}
	c, err := s.start(*p, f)
	if err != nil {
		return nil, err
	}
	if err := updateState(dir, func(s *State) { s.put(c.Process) }); err != nil {
		_ = c.end(0)
		return nil, err
	}
	return c, nil
}

// finish ends the replica, directly or by its supervisor.
func finish(dir, name string, c *child) error {
	if err := c.end(grace); err != nil {
		return err
	}
	<-c.ended
	if err := outlived(dir, name); err != nil {
		return err
	}
	return errors.Join(markStopped(dir, c.Name), markStopped(dir, name))
}

// outlived waits for the end of a replica that has closed its files, which is as much
// as is known when its supervisor is no more.
func outlived(dir, name string) error {
	state, err := ReadState(dir)
	if err != nil {
		return err
	}
	if p := state.Process(name); p != nil && !p.waitEnd(endLimit) {
		return fmt.Errorf("%s (pid %d) outlived its supervisor", p.Name, p.PID)
	}
	return nil
}

// gone records that a process has ended and is to be started again.
func gone(dir, name string) error {
	return edit(dir, name, func(p *Process) {
		p.PID, p.Started = 0, 0
		p.Restarts++
	})
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

// keeperProcess is what stands behind a replica of a detached lab.
func (l *Lab) keeperProcess(name string) (Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return Process{}, err
	}
	if l.plan != nil {
		exe = l.plan.opts.Keeper
	}
	keeper := keeperOf(name)
	return Process{
		Name: keeper, Kind: KindKeeper, Log: l.path("logs", keeper+".log"),
		Args: []string{exe, "keep", "--dir", l.dir, name},
	}, nil
}

func keeperOf(replica string) string { return replica + "-keeper" }
