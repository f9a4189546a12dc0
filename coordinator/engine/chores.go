package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// A chore is what has to wait for the core: it runs on a goroutine of its own,
// e.chores, one after the other. Whatever a chore leaves undone strands an
// application, a task or a node until the process ends, so a chore never gives
// up: it tries again until it is done or the engine is stopped. A core that
// keeps it waiting for longer than Config.Patience is reported to
// Config.OnStuck, whose owner may want to end the process.

// ErrStuck says that the core does not get on with what it was sent.
var ErrStuck = errors.New("the scheduling core does not get on")

// retries are the pauses between the tries of a chore.
var retries = wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Jitter: 0.1, Cap: 5 * time.Second, Steps: 64}

// insist tries until work is done or the engine has been stopped, which it
// reports. Each try gets as much time as the core is granted.
func (e *Engine) insist(what string, work func(context.Context) error) bool {
	pause := retries
	for {
		began := time.Now()
		ctx, cancel := context.WithTimeout(e.life, e.cfg.Patience)
		err := work(ctx)
		cancel()
		if err == nil {
			return true
		}
		if e.life.Err() != nil || errors.Is(err, ErrStopped) {
			return false
		}
		e.log.Error("the scheduling core keeps a chore waiting", "chore", what, "for", time.Since(began), "err", err)
		if errors.Is(err, context.DeadlineExceeded) && e.cfg.OnStuck != nil {
			e.cfg.OnStuck(fmt.Errorf("%w: %s: %w", ErrStuck, what, err))
		}
		select {
		case <-time.After(pause.Step()):
		case <-e.life.Done():
			return false
		}
	}
}

// passed waits until the core has come across a barrier, and reports false if
// the engine has been stopped.
func (e *Engine) passed(what string) bool { return e.insist(what, e.barrier) }

// pollGone waits until the core has let go of an application, and reports false
// if the engine has been stopped.
func (e *Engine) pollGone(id string) bool {
	return e.insist("application "+id+" is ending", func(ctx context.Context) error {
		return pollFast(ctx, func() bool {
			return e.coreApp(id) == nil
		})
	})
}

// chored waits until everything that had to wait for the core has been done.
func (e *Engine) chored(ctx context.Context) error { return e.done(ctx, e.chores) }

// done waits until everything has been done that is in an outbox now.
func (e *Engine) done(ctx context.Context, o *outbox) error {
	done := make(chan struct{})
	o.put(func() { close(done) })
	select {
	case <-done:
		return nil
	case <-e.life.Done():
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
