package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// What the core knows of pods that wait for different things, as users are told it.
func TestExplain(t *testing.T) {
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
          - name: above
            resources: {max: {vcore: 2}, guaranteed: {vcore: 1}}
            queues:
              - name: below
          - name: one
            maxapplications: 1
          - name: limited
            limits:
              - limit: two of each user
                users: ["*"]
                maxresources: {vcore: 1}
          - name: free
            properties: {application.sort.policy: fifo}
`))
	f.node("n1") // with four processors
	f.node("n2")
	f.engage()
	apps := make(map[string]*ledger.App)
	tasks := make(map[string]*ledger.Task)
	ask := func(app, queue, user, id, cpu string) {
		a := apps[app]
		if a == nil {
			a = newApp(app, queue)
			a.User, a.Groups, a.PlacedQueue, a.State = user, nil, queue, ledger.AppStateRunning
			apps[app] = a
			f.submit(a)
		}
		tasks[id] = newTask(a, f.pod(id, cpu))
		tasks[id].State = ledger.TaskStateScheduling
		f.do(ledger.Ask{App: a, Task: tasks[id]})
	}
	// why returns the explanation once it has the reason.
	why := func(id string, reason explain.Reason) explain.Explanation {
		t.Helper()
		var x explain.Explanation
		f.until(id+" waits for "+string(reason), func() bool {
			task, pod := tasks[id], newPod(id, "1")
			core := f.engine.Explain(task.AppID, id)
			x = explain.Explain(explain.Facts{
				Now: time.Now(), SchedulerName: pod.Spec.SchedulerName, Pod: pod, Task: task, App: apps[task.AppID],
				Core: core,
			})
			return x.Reason == reason && core.Asked
		})
		return x
	}
	says := func(x explain.Explanation, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(x.Message, part) {
				t.Errorf("message = %q, want one with %q", x.Message, part)
			}
		}
	}

	ask("a", "root.above.below", "bob", "a1", "1500m")
	f.allocated("a1")
	if order := f.engine.Explain("a", "a1").Order; order != nil {
		t.Errorf("a pod that has its place is said to wait: %+v", order)
	}
	ask("a", "root.above.below", "bob", "a2", "1")
	x := why("a2", explain.QueueQuota)
	says(x, "queue root.above has not enough left", "vcore: asked 1, used 1500m of 2")
	if len(x.Limits) == 0 || x.Limits[0].Queue != "root.above" || x.Limits[0].Resources[0].Guaranteed != "1" {
		t.Errorf("limits = %+v", x.Limits)
	}

	ask("b1", "root.one", "bob", "b1", "100m")
	f.allocated("b1")
	ask("b2", "root.one", "bob", "b2", "100m")
	says(why("b2", explain.RunningApplications), "queue root.one has 1 running applications of 1")

	ask("c", "root.limited", "alice", "c1", "1")
	f.allocated("c1")
	ask("c", "root.limited", "alice", "c2", "500m")
	says(why("c2", explain.UserLimit), "user alice in queue root.limited", "asked 500m, used 1 of 1")

	ask("d", "root.free", "bob", "d1", "64")
	x = why("d1", explain.NoNode)
	says(x, "0/2 nodes are available: 2 Insufficient cpu")
	if r := x.Nodes.Reasons[0]; r.Example != "n1" {
		t.Errorf("example = %q", r.Example)
	}
	ask("d", "root.free", "bob", "d2", "65")
	ask("e", "root.free", "bob", "e1", "66")
	if x = why("d2", explain.NoNode); x.Order.Pods != 1 || x.Order.Applications != 0 || x.Order.Policy != "fifo" {
		t.Errorf("order = %+v", x.Order)
	}
	if x = why("e1", explain.NoNode); x.Order.Applications != 1 {
		t.Errorf("order of a later application = %+v", x.Order)
	}
	if f.engine.Explain("none", "none") != nil {
		t.Error("the core knows of an application that does not exist")
	}
}
