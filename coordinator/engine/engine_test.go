package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestTheTypeOfANode is what the label says that is configured for it.
func TestTheTypeOfANode(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) { c.InstanceTypeLabel = "example.com/type" })
	f.node("n1", func(n *v1.Node) {
		n.Labels = map[string]string{"example.com/type": "large", v1.LabelInstanceTypeStable: "small"}
	})
	f.engage()
	f.sync()
	if got := f.engine.NodeType("n1"); got != "large" {
		t.Errorf("it is %q", got)
	}
}

func TestAskIsAllocated(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	if got := waitFor(f, func(e ledger.AppAccepted) bool { return true }).PlacedQueue; got != "root.a" {
		t.Errorf("placed in %q", got)
	}
	task := newTask(app, f.pod("p1", "1"))
	f.do(ledger.Ask{App: app, Task: task})
	if node := f.allocated("p1"); node != "n1" {
		t.Errorf("allocated on %s", node)
	}
	if got := f.vcore("root.a"); got != 1000 {
		t.Errorf("queue usage %d", got)
	}

	// Effects may be repeated: the answer is given again, the usage is not.
	f.do(ledger.SubmitApp{App: app}, ledger.Ask{App: app, Task: task})
	f.until("both answered again", func() bool {
		n := 0
		for _, e := range f.events {
			switch e.(type) {
			case ledger.AppAccepted, ledger.Allocated:
				n++
			}
		}
		return n == 4
	})
	f.sync()
	if got := f.vcore("root.a"); got != 1000 {
		t.Errorf("queue usage %d after asking again", got)
	}

	f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
	waitFor(f, func(e ledger.Released) bool { return e.TaskID == "p1" && e.Termination == ledger.StoppedByRM })
	if got := f.vcore("root.a"); got != 0 {
		t.Errorf("queue usage %d after the release", got)
	}
	// It can be asked for anew.
	f.do(ledger.Ask{App: app, Task: task})
	f.until("allocated anew", func() bool { return f.engineUsage("root.a") == 1000 })
}

func TestDefaultQueueIsTheNamespaces(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, nil)
	f.node("n1")
	f.engage()
	app := newApp("app", "")
	app.Tags["namespace"] = "team-x"
	f.submit(app)
	got := waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == "app" }).PlacedQueue
	if got != "root.team-x" {
		t.Errorf("placed in %q", got)
	}
}

func TestQuotaIsRespectedAndExplained(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("app", "root.small")
	f.submit(app)
	for _, id := range []string{"p1", "p2", "p3"} {
		f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(id, "1"))})
	}
	f.allocated("p1")
	f.allocated("p2")
	f.until("the quota is the reason", func() bool {
		return len(f.reasons) == 1 && strings.HasPrefix(f.reasons[0], "p3: queue root.small has not enough left")
	})
	if !f.waits[0].Quota {
		t.Error("more nodes would be made for a pod that waits for a quota")
	}
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "p3" }); n != 0 {
		t.Error("allocated beyond the quota")
	}
	f.do(ledger.Release{Task: newTask(app, newPod("p1", "1")), Termination: ledger.StoppedByRM})
	f.allocated("p3")
}

func TestUnknownQueueIsRejected(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.engage()
	f.do(ledger.SubmitApp{App: newApp("app", "root.nowhere")})
	e := waitFor(f, func(e ledger.AppRejected) bool { return e.AppID == "app" })
	if !strings.Contains(e.Message, "app") {
		t.Errorf("message %q", e.Message)
	}
	// A recovered application is taken all the same.
	f.do(ledger.SubmitApp{App: newApp("old", "root.nowhere"), Recovery: true})
	if got := waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == "old" }).PlacedQueue; got != "root.@recovery@" {
		t.Errorf("recovered into %q", got)
	}
}

func TestHeldEngineAllocatesNothing(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("app", "root.a")
	f.do(ledger.SubmitApp{App: app})
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p1", "1"))})
	// A DaemonSet's pod names its node, which is what leaks on a node that is
	// merely draining.
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("daemon", "1", daemonOf("n1")))})
	f.sync()
	hold := time.After(500 * time.Millisecond) // several of the core's cycles
	<-hold
	if n := f.total(); n != 0 {
		t.Fatalf("a held engine said: %s", show(f.events))
	}
	if got := f.vcore("root.a"); got != 0 {
		t.Errorf("a held engine allocated %d", got)
	}
	f.engage()
	f.allocated("p1")
	f.allocated("daemon")
	// What was accepted while held is told when it is asked about.
	f.do(ledger.SubmitApp{App: app})
	waitFor(f, func(e ledger.AppAccepted) bool { return e.PlacedQueue == "root.a" })
}

func daemonOf(node string) func(*v1.Pod) {
	yes := true
	return func(p *v1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "ds", Controller: &yes}}
		p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
			NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchFields: []v1.NodeSelectorRequirement{
				{Key: metav1.ObjectNameField, Operator: v1.NodeSelectorOpIn, Values: []string{node}},
			}}},
		}}}
	}
}

func TestRestoreCountsBeforeEngage(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	app := newApp("app", "root.small")
	app.State = ledger.AppStateRunning
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	// The pods are known before their node is.
	for _, id := range []string{"p1", "p2"} {
		f.do(ledger.Restore{App: app, Task: newTask(app, f.pod(id, "1", on("n1")))})
	}
	f.node("n1")
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p3", "1"))})
	f.until("the restored pods count", func() bool { return f.engineUsage("root.small") == 2000 })
	f.engage()
	f.until("the quota holds the third back", func() bool {
		return len(f.reasons) > 0 && strings.HasPrefix(f.reasons[0], "p3:")
	})
	if n := count(f, func(ledger.Allocated) bool { return true }); n != 0 {
		t.Errorf("echoes or overcommitment: %s", show(f.events))
	}
	f.do(ledger.Release{Task: newTask(app, newPod("p1", "1")), Termination: ledger.StoppedByRM})
	f.allocated("p3")
}

func TestForeignPodsOccupy(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	foreign := newPod("foreign", "3500m")
	foreign.Spec.NodeName = "n1"
	f.ok(f.engine.SetForeign(foreign)) // before its node
	for i := range 20000 {             // RemoveNode looks at them all
		other := newPod(fmt.Sprintf("other-%d", i), "1")
		other.Spec.NodeName = "elsewhere"
		f.ok(f.engine.SetForeign(other))
	}
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	// The predicates are not told of the foreign pod: the core must know.
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p1", "1"))})
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p2", "500m"))})
	f.allocated("p2")
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "p1" }); n != 0 {
		t.Error("placed over a foreign pod")
	}
	// A node that comes back is as full as before.
	f.do(ledger.Release{Task: newTask(app, newPod("p2", "500m")), Termination: ledger.StoppedByRM})
	waitFor(f, func(e ledger.Released) bool { return e.TaskID == "p2" })
	f.ok(f.engine.RemoveNode("n1"))
	f.node("n1")
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p3", "500m"))})
	f.allocated("p3")
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "p1" }); n != 0 {
		t.Error("placed over a foreign pod on the node that went, or came back")
	}
	f.ok(f.engine.RemoveForeign("foreign"))
	f.allocated("p1")
}

func TestCordonAndNodeLoss(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	cordon := func(n *v1.Node) { n.Spec.Unschedulable = true }
	f.node("n1", cordon)
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	task := newTask(app, f.pod("p1", "1"))
	f.do(ledger.Ask{App: app, Task: task})
	f.until("the cordon is the reason", func() bool {
		return len(f.reasons) > 0 && strings.HasSuffix(f.reasons[0], "0/1 nodes are available: 1 node(s) were unschedulable")
	})
	f.node("n1")
	f.allocated("p1")
	f.ok(f.engine.RemoveNode("n1"))
	waitFor(f, func(e ledger.NodeLost) bool { return e.TaskID == "p1" && e.Node == "n1" })
	// The ledger gives an unbound pod back and asks anew.
	f.preds.RemoveNode("n1")
	f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM}, ledger.Ask{App: app, Task: task})
	f.node("n2")
	f.until("allocated on the other node", func() bool {
		for _, e := range f.events {
			if a, ok := e.(ledger.Allocated); ok && a.Node == "n2" {
				return true
			}
		}
		return false
	})
}

// A pod that runs on a node outlives the node object's absence.
func TestBoundPodsCountAgainWhenTheirNodeReturns(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	app := newApp("app", "root.a")
	app.State = ledger.AppStateRunning
	f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: newTask(app, f.pod("p1", "1", on("n1")))})
	f.engage()
	if got := f.vcore("root.a"); got != 1000 {
		t.Fatalf("usage %d", got)
	}
	f.ok(f.engine.RemoveNode("n1"))
	f.until("the node's pods are given up", func() bool { return f.engineUsage("root.a") == 0 })
	f.node("n1")
	f.until("they count again", func() bool { return f.engineUsage("root.a") == 1000 })
	if n := count(f, func(ledger.Allocated) bool { return true }); n != 0 {
		t.Errorf("an echo was told as a decision: %s", show(f.events))
	}
}

func TestConfigurationIsReloaded(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.engage()
	f.do(ledger.SubmitApp{App: newApp("early", "root.new")})
	waitFor(f, func(e ledger.AppRejected) bool { return e.AppID == "early" })
	err := f.engine.Configure(map[string]string{"queues.yaml": "partitions: [{name: default, queues: [{name: root, colour: red}]}]"})
	if err == nil || !strings.Contains(err.Error(), "queues.yaml") || !strings.Contains(err.Error(), "colour") {
		t.Errorf("bad configuration: %v", err)
	}
	f.ok(f.engine.Configure(map[string]string{
		"queues.yaml": strings.Replace(quotaQueues, "name: a", "name: new", 1),
	}))
	f.do(ledger.SubmitApp{App: newApp("late", "root.new")})
	waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == "late" })
}

// TestNodesThatRefusedATaskAreAvoided, until the ledger asks for them again.
func TestNodesThatRefusedATaskAreAvoided(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	task := newTask(app, f.pod("p", "1"))
	f.do(ledger.Ask{App: app, Task: task})
	f.allocated("p")
	f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
	f.events = nil
	avoiding := *task
	avoiding.State, avoiding.Avoid, avoiding.NextAttempt = ledger.TaskStateScheduling, []string{"n1"}, 1
	f.do(ledger.Ask{App: app, Task: &avoiding})
	f.until("the reason", func() bool { return len(f.reasons) > 0 })
	if want := "p: 0/1 nodes are available: 1 node(s) for which the binding of the pod was refused; these have refused the pod for good, and are avoided for a while: n1"; f.reasons[0] != want {
		t.Errorf("got  %q\nwant %q", f.reasons[0], want)
	}
	if n := count(f, func(e ledger.Allocated) bool { return e.TaskID == "p" }); n != 0 {
		t.Error("placed on the node that refuses it")
	}
	again := avoiding
	again.NextAttempt = 0
	f.do(ledger.Ask{App: app, Task: &again})
	f.allocated("p")
}

func TestUnschedulableReasonIsToldOnce(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.node("n2")
	f.node("n3", func(n *v1.Node) {
		n.Spec.Taints = []v1.Taint{{Key: "gpu", Effect: v1.TaintEffectNoSchedule}}
	})
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("big", "16"))})
	want := "big: 0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint(s)"
	f.until("the reason", func() bool { return len(f.reasons) > 0 })
	if f.reasons[0] != want {
		t.Errorf("got  %q\nwant %q", f.reasons[0], want)
	}
	// Numbers change, the kinds of reason do not.
	f.node("n4")
	repeat := time.After(time.Second) // several intervals
	<-repeat
	if len(f.reasons) != 1 {
		t.Errorf("told again: %q", f.reasons)
	}
	f.node("n5", func(n *v1.Node) { n.Labels = nil; n.Spec.Unschedulable = true })
	f.until("a new kind of reason", func() bool { return len(f.reasons) == 2 })
	f.node("huge", func(n *v1.Node) { n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("32") })
	f.allocated("big")
}

func TestPreemptionAsksThePredicates(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(`
partitions:
  - name: default
    queues:
      - name: root
        submitacl: '*'
        queues:
          - name: low
          - name: high
            properties: {preemption.delay: 1s}
            resources:
              guaranteed: {vcore: 2}
`))
	f.node("n1")
	f.engage()
	low, high := newApp("low", "root.low"), newApp("high", "root.high")
	f.submit(low)
	f.submit(high)
	victims := map[string]*ledger.Task{}
	for _, id := range []string{"v1", "v2", "v3", "v4"} {
		victims[id] = newTask(low, f.pod(id, "1"))
		f.do(ledger.Ask{App: low, Task: victims[id]})
		f.allocated(id)
	}
	vip := newTask(high, f.pod("vip", "1"))
	f.do(ledger.Ask{App: high, Task: vip})
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
	if want := ledger.PreemptedFor(vip); rel.Message != want {
		t.Errorf("the user of the victim is told %q, want %q", rel.Message, want)
	}
	f.preds.RemovePod(rel.TaskID)
	f.do(ledger.Release{Task: victims[rel.TaskID], Termination: ledger.PreemptedByEngine})
	f.allocated("vip")
}

// An application without pods completes in the core after a while; what is
// submitted then must not be lost.
func TestCompletedApplicationIsSubmittedAgain(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) {
		withQueues(quotaQueues)(c)
		c.CompleteAfter = 50 * time.Millisecond
	})
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	task := newTask(app, f.pod("p0", "100m"))
	f.do(ledger.Ask{App: app, Task: task})
	f.allocated("p0")
	f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
	waitFor(f, func(e ledger.AppEnded) bool { return e.State == ledger.AppStateCompleted })
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p1", "100m"))})
	f.allocated("p1")

	// The same where ask and completion cross, at whatever moment.
	for i := range 40 {
		id := "cross" + string(rune('a'+i%26)) + string(rune('0'+i/26))
		other := newApp(id, "root.a")
		f.submit(other)
		first := newTask(other, f.pod(id+"-1", "10m"))
		f.do(ledger.Ask{App: other, Task: first})
		f.allocated(first.ID)
		f.do(ledger.Release{Task: first, Termination: ledger.StoppedByRM})
		f.preds.RemovePod(first.ID)
		<-time.After(45*time.Millisecond + time.Duration(i)*250*time.Microsecond)
		second := newTask(other, f.pod(id+"-2", "10m"))
		f.do(ledger.Ask{App: other, Task: second})
		f.allocated(second.ID)
	}
}

// An application whose pods went before the core had any of them has completed as well,
// and so has one that the core was made to keep for a pod that went meanwhile: the core
// says nothing of either.
func TestAnApplicationThatTheCoreHasNothingOfCompletes(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, func(c *engine.Config) {
		withQueues(quotaQueues)(c)
		c.CompleteAfter = 50 * time.Millisecond
	})
	f.node("n1")
	f.engage()
	completed := func(id string) {
		t.Helper()
		waitFor(f, func(e ledger.AppEnded) bool { return e.AppID == id && e.State == ledger.AppStateCompleted })
	}
	f.submit(newApp("never", "root.a"))
	completed("never")

	kept := newApp("kept", "root.a")
	f.submit(kept)
	first, second := newTask(kept, f.pod("first", "1")), newTask(kept, f.pod("second", "1"))
	f.do(ledger.Ask{App: kept, Task: first})
	f.allocated("first")
	f.do(
		ledger.Release{Task: first, Termination: ledger.StoppedByRM},
		ledger.Ask{App: kept, Task: second}, // waits until it is known that the core can take it
		ledger.Release{Task: second, Termination: ledger.StoppedByRM},
	)
	completed("kept")
	if got := f.vcore("root.a"); got != 0 {
		t.Errorf("the queue is charged %d for nothing", got)
	}

	// A gang whose placeholders are still being created waits for them.
	gang := newApp("gang", "root.a")
	gang.TaskGroups = []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}
	f.submit(gang)
	<-time.After(200 * time.Millisecond)
	if n := count(f, func(e ledger.AppEnded) bool { return e.AppID == "gang" }); n != 0 {
		t.Error("a gang is over before it has begun")
	}
}

func TestNothingLeavesAfterStop(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	for _, id := range []string{"p1", "p2", "p3"} {
		f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(id, "1"))})
	}
	f.allocated("p3")
	n := f.total()
	f.engine.Stop() // fails all applications in the core
	<-time.After(300 * time.Millisecond)
	if got := f.total(); got != n {
		t.Errorf("said after Stop: %s", show(f.events[n:]))
	}
	if err := f.engine.Do(ledger.SubmitApp{App: app}); !errors.Is(err, engine.ErrStopped) {
		t.Errorf("Do after Stop: %v", err)
	}
	if err := f.engine.Sync(context.Background()); !errors.Is(err, engine.ErrStopped) {
		t.Errorf("Sync after Stop: %v", err)
	}
	if err := f.engine.Configure(nil); !errors.Is(err, engine.ErrStopped) {
		t.Errorf("Configure after Stop: %v", err)
	}
}

// A replica that takes over has this to do before it can schedule again.
func TestReleaseOfALargeClusterIsQuick(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	app := newApp("app", "root.a")
	app.State, app.PlacedQueue = ledger.AppStateRunning, "root.a"
	f.do(ledger.SubmitApp{App: app, Recovery: true})
	const nodes, pods = 200, 5000
	for i := range pods {
		f.do(ledger.Restore{App: app, Task: newTask(app, f.pod(fmt.Sprint("p", i), "10m", on(fmt.Sprint("n", i%nodes))))})
	}
	for i := range nodes {
		f.node(fmt.Sprint("n", i))
	}
	begin := time.Now()
	f.engage()
	took := time.Since(begin)
	t.Logf("released %d pods on %d nodes in %v", pods, nodes, took)
	if got := f.vcore("root.a"); got != pods*10 {
		t.Errorf("usage %d", got)
	}
	if n := f.total(); n != 0 {
		t.Errorf("echoes: %s", show(f.events))
	}
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("next", "10m"))})
	f.allocated("next")
	if took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// The core asks about the next pod before anybody but the engine knows of the
// last decision.
func TestDecisionsCountAtOnce(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	app := newApp("app", "root.a")
	f.submit(app)
	for i := range 20 {
		f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(fmt.Sprint("p", i), "10m", func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: 80, ContainerPort: 80}}
		}))})
	}
	f.until("the others wait for the port", func() bool { return len(f.reasons) == 19 })
	if n := count(f, func(ledger.Allocated) bool { return true }); n != 1 {
		t.Errorf("%d pods were given the same port", n)
	}
}
