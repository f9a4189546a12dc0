package engine_test

import (
	"fmt"
	"testing"
	"time"

	corelog "github.com/apache/yunikorn-core/pkg/log"
	"go.uber.org/zap/zapcore"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Of nodes that are replaced, and of what was on them, nothing is remembered but
// those of the last moment, which are in quarantine.
func TestNodesThatAreReplaced(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	app := newApp("a", "root.a")
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	f.engage()
	replace := func(i int) {
		name := fmt.Sprint("n", i)
		f.node(name)
		f.sync()
		task := newTask(app, f.pod(fmt.Sprint("p", i), "1", on(name)))
		other := newPod(fmt.Sprint("f", i), "1", on(name))
		f.do(ledger.Restore{App: app, Task: task})
		f.ok(f.engine.SetForeign(other))
		f.sync()
		f.ok(f.engine.RemoveNode(name)) // before its pods, which are collected later
		f.preds.RemoveNode(name)
		f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
		f.ok(f.engine.RemoveForeign(string(other.UID)))
		f.preds.RemovePod(task.ID)
	}
	for i := range 50 {
		replace(i)
	}
	// Once the quarantine of all is over, the next one clears it away.
	last, i := time.Now(), 50
	f.until("nothing is remembered but the last", func() bool {
		if time.Since(last) < 300*time.Millisecond {
			return false
		}
		replace(i)
		last, i = time.Now(), i+1
		return f.engine.Remembered() <= 3
	})
}

// The core logs at the configured level unless its configuration names one, and
// looking whether a configuration is valid does not change that.
func TestLogLevel(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) { c.LogLevel = "error" })
	warns := func() bool { return corelog.Log(corelog.Scheduler).Core().Enabled(zapcore.WarnLevel) }
	if got := engine.ExtraConfig(nil, "error")["log.level"]; got != "error" {
		t.Errorf("level %q", got)
	}
	f.ok(engine.Validate(nil))
	if warns() {
		t.Error("does not log at the level of its configuration")
	}
	f.ok(f.engine.Configure(map[string]string{"log.level": "WARN"}))
	if !warns() {
		t.Error("the core's own configuration does not count")
	}
	f.ok(f.engine.Configure(nil))
	if warns() {
		t.Error("the level does not come back")
	}
}
