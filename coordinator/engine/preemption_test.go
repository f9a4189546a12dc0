package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestPreemptionStaysWhereQueuesWantIt: not in a queue that does not want it, and inside of
// a fence.
func TestPreemptionStaysWhereQueuesWantIt(t *testing.T) {
	const guaranteed = `properties: {preemption.delay: 1s}, resources: {guaranteed: {vcore: 2}}`
	for name, c := range map[string]struct{ queues, spared, victims, preemptor string }{
		"disabled": {
			`[{name: spared, properties: {preemption.policy: disabled}}, {name: low}, {name: high, ` + guaranteed + `}]`,
			"root.spared", "root.low", "root.high",
		},
		"fence": {
			`[{name: outside}, {name: inside, properties: {preemption.policy: fence}, queues: [{name: low}, {name: high, ` + guaranteed + `}]}]`,
			"root.outside", "root.inside.low", "root.inside.high",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if isolated(t) {
				return
			}
			f := start(t, withQueues(queuesOf(c.queues, "")))
			f.node("n1")
			f.engage()
			low, spared, high := newApp("low", c.victims), newApp("spared", c.spared), newApp("high", c.preemptor)
			f.submit(low)
			f.submit(spared)
			f.submit(high)
			f.waiting(low, "victim")
			f.allocated("victim")
			// These are younger, and less important.
			for _, id := range []string{"spared-1", "spared-2", "spared-3"} {
				f.waiting(spared, id, important(-10))
				f.allocated(id)
			}
			f.waiting(high, "vip")
			rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
			if rel.TaskID != "victim" {
				t.Errorf("%s was preempted", rel.TaskID)
			}
		})
	}
}

// TestAPartitionWithoutPreemption preempts nobody until it has some.
func TestAPartitionWithoutPreemption(t *testing.T) {
	if isolated(t) {
		return
	}
	queues := func(enabled bool) string {
		return queuesOf(`[{name: low}, {name: high, properties: {preemption.delay: 1s}, resources: {guaranteed: {vcore: 2}}}]`, "") +
			fmt.Sprintf("    preemption: {enabled: %t}\n", enabled)
	}
	f := start(t, withQueues(queues(false)))
	f.node("n1")
	f.engage()
	low, high := newApp("low", "root.low"), newApp("high", "root.high")
	f.submit(low)
	f.submit(high)
	for n := range 4 {
		id := fmt.Sprint("victim-", n)
		f.waiting(low, id)
		f.allocated(id)
	}
	f.waiting(high, "vip")
	preempted := func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine }
	<-time.After(4 * time.Second) // the delay is over long ago
	if n := count(f, preempted); n != 0 {
		t.Errorf("%d were preempted", n)
	}
	f.configure(queues(true))
	waitFor(f, preempted)
}

// TestAPodOfADaemonSetMakesRoomOnItsNode, though that is full and cordoned, and another is free.
func TestAPodOfADaemonSetMakesRoomOnItsNode(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	tasks := map[string]*ledger.Task{}
	for n := range 4 {
		id := fmt.Sprint("plain-", n)
		tasks[id] = newTask(app, f.pod(id, "1"))
		f.do(ledger.Ask{App: app, Task: tasks[id]})
		f.allocated(id)
	}
	f.node("n1", func(n *v1.Node) { n.Spec.Unschedulable = true })
	f.node("n2")
	f.waiting(app, "daemon", daemonOf("n1"), func(p *v1.Pod) {
		p.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeUnschedulable, Operator: v1.TolerationOpExists}}
	})
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
	f.preds.RemovePod(rel.TaskID)
	f.do(ledger.Release{Task: tasks[rel.TaskID], Termination: ledger.PreemptedByEngine})
	if node := f.allocated("daemon"); node != "n1" {
		t.Errorf("placed on %s", node)
	}
}

// TestALowerQuotaIsEnforced, where that is wanted, after the delay of the queue.
func TestALowerQuotaIsEnforced(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	queues := func(vcore int) string {
		yaml := queuesOf(fmt.Sprintf(`[
			{name: a, resources: {max: {vcore: %d}}, properties: {quota.preemption.delay: 1s}},
			{name: b, resources: {max: {vcore: %[1]d}}}]`, vcore), "")
		return yaml + "    preemption: {quotapreemptionenabled: true}\n"
	}
	f := start(t, withQueues(queues(2)))
	f.node("n1")
	f.engage()
	for _, queue := range []string{"b", "a"} {
		app := newApp(queue, "root."+queue)
		f.submit(app)
		for n := range 2 {
			id := fmt.Sprintf("%s-%d", queue, n)
			f.waiting(app, id)
			f.allocated(id)
		}
	}
	f.configure(queues(1))
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
	if !strings.HasPrefix(rel.TaskID, "a-") {
		t.Errorf("%s was preempted, whose queue has no delay", rel.TaskID)
	}
	if n := count(f, func(e ledger.Released) bool { return strings.HasPrefix(e.TaskID, "b-") }); n != 0 {
		t.Error("a queue without a delay was preempted")
	}
}

// TestAQuotaThatWasLoweredBeforeAFailover is enforced by the engine of the next lead, which had
// to wait, and not before that.
func TestAQuotaThatWasLoweredBeforeAFailover(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: a, resources: {max: {vcore: 1}}, properties: {quota.preemption.delay: 1s}}]", "")+
		"    preemption: {quotapreemptionenabled: true}\n"))
	f.node("n1")
	app := newApp("app", "root.a")
	app.State, app.PlacedQueue = ledger.AppStateRunning, "root.a"
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	for _, id := range []string{"one", "two"} {
		f.do(ledger.Restore{App: app, Task: newTask(app, f.pod(id, "1", on("n1")))})
	}
	f.sync()
	held := time.After(5 * time.Second) // so that the delay is over
	<-held
	if n := f.total(); n != 0 {
		t.Errorf("a held engine said: %s", show(f.events))
	}
	f.engage()
	waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
}

// TestAHeldEnginePreemptsNothing: the lead enforces a lowered quota, and need not choose the pods
// that the core of an understudy would. A failover later touches nobody.
func TestAHeldEnginePreemptsNothing(t *testing.T) {
	if isolated(t) {
		return
	}
	const queue = "resources: {max: {vcore: 1}}, properties: {quota.preemption.delay: 1s}"
	f := start(t, withQueues(queuesOf("[{name: a, "+queue+"}, {name: b, "+queue+"}]", "")+
		"    preemption: {quotapreemptionenabled: true}\n"))
	f.node("n1")
	// Of two pods in each queue the lead has preempted one: once the older, once the younger.
	for name, victim := range map[string]int{"a": 0, "b": 1} {
		app := newApp(name, "root."+name)
		app.State, app.PlacedQueue = ledger.AppStateRunning, "root."+name
		f.do(ledger.SubmitApp{App: app, Recovery: true})
		var tasks []*ledger.Task
		for n := range 2 {
			task := newTask(app, f.pod(fmt.Sprint(name, n), "1", on("n1")))
			tasks = append(tasks, task)
			f.do(ledger.Restore{App: app, Task: task})
		}
		defer func() {
			if n := count(f, func(e ledger.Released) bool { return e.TaskID == tasks[1-victim].ID }); n != 0 {
				t.Errorf("%s was preempted by the failover", tasks[1-victim].ID)
			}
		}()
		f.sync()
		held := time.After(3 * time.Second) // the core chooses, again and again
		<-held
		f.do(ledger.Release{Task: tasks[victim], Termination: ledger.PreemptedByEngine})
		f.preds.RemovePod(tasks[victim].ID)
	}
	f.sync()
	f.engage()
	done := time.After(3 * time.Second)
	<-done
	if n := f.total(); n != 0 {
		t.Errorf("said: %s", show(f.events))
	}
	for _, name := range []string{"a", "b"} {
		if got := f.engine.Preempting("root." + name); got != 0 {
			t.Errorf("%s is taken to lose %d", name, got)
		}
	}
}

// TestWhoMayBePreempted: the pod says so, or else its class; what says neither yes nor no says
// nothing.
func TestWhoMayBePreempted(t *testing.T) {
	if isolated(t) {
		return
	}
	const allow = "yunikorn.apache.org/allow-preemption"
	classes := map[string]*schedulingv1.PriorityClass{"silent": {}}
	for _, value := range []string{"true", "false", "perhaps"} {
		classes[value] = &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{allow: value}}}
	}
	f := start(t, func(c *engine.Config) {
		withQueues(quotaQueues)(c)
		c.PriorityClass = func(name string) *schedulingv1.PriorityClass { return classes[name] }
	})
	heard := &overheard{told: make(map[string]*si.Allocation)}
	f.engine.BetweenCore(func(core api.SchedulerAPI) api.SchedulerAPI {
		heard.SchedulerAPI = core
		return heard
	})
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	never := v1.PreemptNever
	want := map[string]bool{}
	for _, c := range []struct {
		pod, class string
		may        bool
	}{
		{"", "", true}, {"", "silent", true}, {"", "unknown", true}, {"", "true", true}, {"", "false", false}, {"", "perhaps", true},
		{"true", "false", true}, {"false", "true", false}, {"false", "", false}, {"perhaps", "false", false}, {"perhaps", "", true},
	} {
		id := "pod-" + c.pod + "-class-" + c.class
		want[id] = c.may
		f.waiting(app, id, func(p *v1.Pod) {
			p.Spec.PriorityClassName, p.Spec.PreemptionPolicy = c.class, &never
			if c.pod != "" {
				p.Annotations = map[string]string{allow: c.pod}
			}
		})
	}
	f.waiting(app, "preempts")
	f.sync()
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for id, may := range want {
		if a := heard.told[id]; a == nil || a.PreemptionPolicy.AllowPreemptSelf != may || a.PreemptionPolicy.AllowPreemptOther {
			t.Errorf("the core is told of %s: %v", id, a)
		}
	}
	if a := heard.told["preempts"]; a == nil || !a.PreemptionPolicy.AllowPreemptOther {
		t.Errorf("the core is told of one that may preempt: %v", a)
	}
}
