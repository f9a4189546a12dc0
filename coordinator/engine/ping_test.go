package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// A core that gets on says so, held or not; one that hangs does not, wherever it
// does, and gets on once it is let go.
func TestPing(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	ping := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return f.engine.Ping(ctx)
	}
	f.ok(ping(time.Minute))
	f.node("n1")
	app := newApp("a", "root.a")
	f.do(ledger.SubmitApp{App: app})
	f.sync()
	f.ok(ping(time.Minute))
	f.engage()
	f.ok(ping(time.Minute))
	for name, hang := range map[string]func() func(){
		"scheduling loop": f.engine.HangPredicates,
		"queue":           func() func() { return f.engine.HangQueue("root.small") },
		"application":     func() func() { return f.engine.HangApp("a") },
		"node":            func() func() { return f.engine.HangNode("n1") },
	} {
		letGo := hang()
		f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(name, "1"))})
		for range 3 { // each of them, and sharing one look at the core
			if err := ping(300 * time.Millisecond); !errors.Is(err, engine.ErrStuck) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s hangs: %v", name, err)
			}
		}
		letGo()
		f.ok(ping(time.Minute))
		f.allocated(name)
	}
	f.engine.Stop()
	if err := ping(time.Minute); !errors.Is(err, engine.ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
}
