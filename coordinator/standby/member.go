package standby

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/protocol"
)

// member is an app manager with its gate.
type member struct {
	protocol.AppManager
	name string
	gate *managers.Gate
	log  *slog.Logger
	// tells is nil for a manager that does not want to hear.
	tells *teller
	// problem is why the manager was last found wanting, nil if it never was.
	problem atomic.Pointer[string]

	mu sync.Mutex
	// blocking are the calls that have not returned in time, by what was asked; each is
	// closed when it does.
	blocking map[string]<-chan struct{}
}

// Name returns the name in the configuration, without asking the manager.
func (m *member) Name() string { return m.name }

const (
	// managerLimit is how long a manager may take to answer.
	managerLimit = 3 * time.Second
	// claimLimit is how long it may take to say whether a pod is its own: one may have to
	// wait for its objects, or to ask the API server. It is less than the patience with the
	// manager that asks.
	claimLimit = 8 * time.Second
)

func (m *member) fail(what string, err error) {
	problem := fmt.Sprintf("%s: %v", what, err)
	m.problem.Store(&problem)
	m.log.Error("app manager fails; its applications stay as they are recorded", "in", what, "err", err)
}

var errBlocks = errors.New("it does not return")

// blocks returns the call of that kind which has not returned in time and is still under
// way, nil for none.
func (m *member) blocks(what string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	returned := m.blocking[what]
	select {
	case <-returned:
		delete(m.blocking, what)
		return nil
	default:
		return returned
	}
}

// free waits until no call of that kind blocks. It reports false once ctx ends.
func (m *member) free(ctx context.Context, what string) bool {
	if returned := m.blocks(what); returned != nil {
		select {
		case <-returned:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// try calls a manager. It reports false, once it has named it, if the manager panics or
// does not return in time. While a call of the kind still blocks there is no other one.
func try[T any](m *member, what string, call func() (T, error)) (answer T, ok bool) {
	return timely(m, managerLimit, what, call)
}

// timely is try with a limit of its own.
func timely[T any](m *member, limit time.Duration, what string, call func() (T, error)) (answer T, ok bool) {
	type outcome struct {
		answer T
		err    error
	}
	if m.blocks(what) != nil {
		return answer, false
	}
	done, returned := make(chan outcome, 1), make(chan struct{})
	go func() {
		defer close(returned)
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				o.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			done <- o
		}()
		o.answer, o.err = call()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var o outcome
	select {
	case o = <-done:
	case <-timer.C:
		o.err = errBlocks
		m.mu.Lock()
		if m.blocking == nil {
			m.blocking = make(map[string]<-chan struct{})
		}
		m.blocking[what] = returned
		m.mu.Unlock()
	}
	if o.err != nil {
		m.fail(what, o.err)
		return answer, false
	}
	return o.answer, true
}

// do is try for a call that only fails or does not.
func (m *member) do(what string, call func() error) bool {
	_, ok := try(m, what, func() (struct{}, error) { return struct{}{}, call() })
	return ok
}

// safely calls a manager on a goroutine that is for that manager alone. One that panics is
// named.
func (m *member) safely(what string, call func()) {
	defer func() {
		if p := recover(); p != nil {
			m.fail(what, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	call()
}
