package engine_test

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// queuesOf is a configuration with these queues below root, and these placement rules.
func queuesOf(queues, rules string) string {
	if rules != "" {
		rules = "\n    placementrules: " + rules
	}
	return "partitions:\n  - name: default" + rules + "\n    queues:\n      - {name: root, submitacl: '*', queues: " + queues + "}\n"
}

func (f *fixture) configure(queues string) {
	f.t.Helper()
	f.ok(f.engine.Configure(map[string]string{"queues.yaml": queues}))
}

// fed tells the engine of an application, and of a pod of it that is on the node n1.
func (f *fixture) fed(app *ledger.App) *ledger.Task {
	f.t.Helper()
	task := newTask(app, f.pod("of-"+app.ID, "1", on("n1")))
	f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: task})
	return task
}

// TestAQueueMayHaveBothApplicationsAndQueues: a configuration that gives queues to one
// with applications, or takes them away with applications in them, makes no account
// wrong; a promotion after it would fail for ever.
func TestAQueueMayHaveBothApplicationsAndQueues(t *testing.T) {
	if isolated(t) {
		return
	}
	flat, deep := queuesOf("[{name: a}]", ""), queuesOf("[{name: a, queues: [{name: c}]}]", "")
	f := start(t, withQueues(flat))
	f.node("n1")
	a := f.fed(newApp("a", "root.a"))
	f.ok(f.differ(a))
	f.configure(deep)
	f.ok(f.differ(a))
	c := f.fed(newApp("c", "root.a.c"))
	f.ok(f.differ(a, c))
	f.configure(flat)
	f.ok(f.differ(a, c))
	if err := f.differ(a); err == nil || !strings.Contains(err.Error(), "application c in queue root.a.c uses vcore 1000, not 0") {
		t.Errorf("with one application too many: %v", err)
	}
	f.engage()
	f.ok(f.differ(a, c))
}
