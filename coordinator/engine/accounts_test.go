package engine_test

import (
	"slices"
	"testing"

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/scheduler/ugm"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/accounting"
	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestASpoiledAccountOfTheCoreIsSeen: its accounts are those of the pods, until one is not.
func TestASpoiledAccountOfTheCoreIsSeen(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.node("n2")
	f.engage()
	app := newApp("app", "root.a")
	app.PlacedQueue = "root.a"
	f.submit(app)
	world := accounting.World{Tasks: map[string]accounting.Placed{}, Takes: engine.ResourcesOf}
	for _, id := range []string{"p1", "p2"} {
		pod := f.pod(id, "1")
		task := newTask(app, pod)
		f.do(ledger.Ask{App: app, Task: task})
		bound, placed := pod.DeepCopy(), *task
		bound.Spec.NodeName = f.allocated(id)
		placed.Node, placed.State, placed.Resources = bound.Spec.NodeName, ledger.TaskStateBound, engine.ResourcesOf(pod)
		world.Pods, world.Tasks[id] = append(world.Pods, bound), accounting.Placed{Task: &placed, App: app}
	}
	other := newPod("other", "2", func(p *v1.Pod) { p.Spec.NodeName, p.Spec.SchedulerName = "n1", "default-scheduler" })
	f.ok(f.engine.SetForeign(other))
	world.Pods = append(world.Pods, other)
	drift := func() []string {
		world.Core = f.engine.Account()
		var all []string
		for _, d := range accounting.Compare(world) {
			all = append(all, d.String())
		}
		return all
	}
	f.until("all accounts agree", func() bool { return len(drift()) == 0 })

	p := f.engine.Cluster().GetPartitionWithoutClusterID("default")
	some := resources.NewResourceFromMap(map[string]resources.Quantity{"vcore": 500})
	p.GetNode("n2").UpdateAllocatedResource(some)
	f.ok(p.GetQueue("root.a").TryIncAllocatedResource(some))
	ugm.GetUserManager().IncreaseTrackedResource("root.a", "app", some, p.GetApplication("app").GetUser())
	found := drift()
	for _, kind := range []string{"node n2: ", "queue root.a: ", "user " + app.User + ": "} {
		if !slices.ContainsFunc(found, func(s string) bool { return len(s) > len(kind) && s[:len(kind)] == kind }) {
			t.Errorf("nothing is told of the spoiled account of %s%q", kind, found)
		}
	}
}

// TestHealthIsOfTheEngineThatSchedules: what the core found of itself while it was held is forgotten.
func TestHealthIsOfTheEngineThatSchedules(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, nil)
	f.node("n1")
	cluster := f.engine.Cluster()
	f.until("the core has looked at itself", func() bool { return cluster.GetLastHealthCheckResult() != nil })
	cluster.SetLastHealthCheckResult(&dao.SchedulerHealthDAOInfo{HealthChecks: []dao.HealthCheckInfo{{Name: "held"}}})
	f.engage()
	if now := cluster.GetLastHealthCheckResult(); now != nil && now.HealthChecks[0].Name == "held" {
		t.Error("an engine that schedules shows what the core found while it was held")
	}
	f.until("the core has looked again", func() bool {
		now := cluster.GetLastHealthCheckResult()
		return now != nil && len(now.HealthChecks) > 1 && now.Healthy
	})
}
