package engine_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// lossy fails to pass on barriers, as a core does that is too busy for them.
type lossy struct {
	api.SchedulerAPI
	// fail is how many barriers are lost from now on; err is what the sender is
	// told, nothing if nil.
	fail atomic.Int32
	lost atomic.Int32
	err  error
}

func (l *lossy) loses() bool {
	if l.fail.Add(-1) < 0 {
		return false
	}
	l.lost.Add(1)
	return true
}

func (l *lossy) UpdateApplication(r *si.ApplicationRequest) error {
	if engine.IsBarrier(r) && l.loses() {
		return l.err
	}
	return l.SchedulerAPI.UpdateApplication(r)
}

func (l *lossy) UpdateNode(r *si.NodeRequest) error {
	if engine.IsNodeBarrier(r) && l.loses() {
		return l.err
	}
	return l.SchedulerAPI.UpdateNode(r)
}

// Whatever becomes of the barriers that its chores wait for, an engine goes on
// afterwards: nothing stays behind that an application, a task or a node waits
// for. And it says that it was kept waiting.
func TestChoresAreTriedAgain(t *testing.T) {
	if isolated(t) {
		return
	}
	var stuck atomic.Int32
	f := start(t, func(c *engine.Config) {
		withQueues(quotaQueues)(c)
		c.Patience = 100 * time.Millisecond
		c.OnStuck = func(err error) {
			if !errors.Is(err, engine.ErrStuck) {
				t.Errorf("not said to be stuck: %v", err)
			}
			stuck.Add(1)
		}
	})
	var net *lossy
	f.engine.BetweenCore(func(to api.SchedulerAPI) api.SchedulerAPI {
		net = &lossy{SchedulerAPI: to}
		return net
	})
	f.node("n1")
	f.engage()
	for _, err := range []error{nil, errors.New("not now")} {
		net.err = err
		suffix := "-lost"
		if err != nil {
			suffix = "-refused"
		}
		lose := func() { net.fail.Store(2) }
		net.lost.Store(0)
		before := stuck.Load()

		// An application that is forgotten and submitted again.
		again := newApp("again"+suffix, "root.a")
		f.submit(again)
		lose()
		f.do(ledger.ForgetApp{AppID: again.ID})
		f.do(ledger.SubmitApp{App: again})
		f.until("the application is accepted again", func() bool {
			n := 0
			for _, e := range f.events {
				if x, ok := e.(ledger.AppAccepted); ok && x.AppID == again.ID {
					n++
				}
			}
			return n == 2
		})

		// One that has to be checked before it gets its next task.
		task := newTask(again, f.pod("one"+suffix, "1"))
		f.do(ledger.Ask{App: again, Task: task})
		f.allocated(task.ID)
		f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
		lose()
		next := newTask(again, f.pod("two"+suffix, "1"))
		f.do(ledger.Ask{App: again, Task: next})
		f.allocated(next.ID)

		// A task whose ask is withdrawn, and made again.
		waits := newTask(again, f.pod("waits"+suffix, "1", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "where"} }))
		f.do(ledger.Ask{App: again, Task: waits})
		lose()
		f.do(ledger.Release{Task: waits, Termination: ledger.StoppedByRM})
		f.pod(waits.ID, "1")
		f.do(ledger.Ask{App: again, Task: waits})
		f.allocated(waits.ID)

		// A node that goes and comes back while something is on it.
		lose()
		f.ok(f.engine.RemoveNode("n1"))
		next.Node, waits.Node = "n1", "n1"
		f.do(ledger.Restore{App: again, Task: next}, ledger.Restore{App: again, Task: waits})
		f.node("n1")
		f.until("the node has what was on it", func() bool { return f.engineUsage("root.a") == 2000 })
		more := newTask(again, f.pod("more"+suffix, "1"))
		f.do(ledger.Ask{App: again, Task: more})
		f.allocated(more.ID)
		f.do(ledger.ForgetApp{AppID: again.ID})
		f.until("all is given back", func() bool { return f.engineUsage("root.a") == 0 })

		if n := net.lost.Load(); n < 8 {
			t.Errorf("%s: %d barriers were lost, not 8", suffix, n)
		}
		if said := stuck.Load() - before; err == nil && said < 4 {
			t.Errorf("%s: said to be stuck %d times", suffix, said)
		}
	}
}
