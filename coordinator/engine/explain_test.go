package engine_test

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// What the core says of applications that may not run yet, it says of no task of
// theirs. No node would help these.
func TestALimitOfApplicationsIsExplained(t *testing.T) {
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
          - name: one
            maxapplications: 1
            queues: [{name: leaf, maxapplications: 1}]
          - name: alices
            limits:
              - limit: one at a time
                users: [alice]
                maxapplications: 1
`))
	f.node("n1")
	f.engage()
	limitedBy := func(queue, user, says string) {
		t.Helper()
		app := func(id string) *ledger.App {
			a := newApp(user+id, queue)
			a.User, a.Groups = user, nil
			f.submit(a)
			return a
		}
		ask := func(a *ledger.App, id, cpu string) {
			f.do(ledger.Ask{App: a, Task: newTask(a, f.pod(user+id, cpu))})
		}
		told := func(id, why string, quota bool) {
			t.Helper()
			f.until(id+" is told "+why, func() bool {
				for i, reason := range f.reasons {
					if strings.HasPrefix(reason, user+id+": ") && strings.Contains(reason, why) && f.waits[i].Quota == quota {
						return true
					}
				}
				return false
			})
		}
		first, second := app("first"), app("second")
		ask(first, "runs", "1")
		f.allocated(user + "runs")
		ask(second, "waits", "1")
		told("waits", says, true)
		ask(second, "later", "1")
		told("later", says, true)
		// The core says of the first, which runs, that it is at the limit as well.
		ask(first, "big", "64")
		told("big", "nodes are available", false)
		third := app("third") // of which it says so later
		ask(third, "marker", "1")
		told("marker", says, true)
		f.do(ledger.Release{Task: newTask(first, newPod(user+"big", "64")), Termination: ledger.StoppedByRM})
		f.do(ledger.Release{Task: newTask(first, newPod(user+"runs", "1")), Termination: ledger.StoppedByRM})
		f.allocated(user + "waits")
		f.allocated(user + "later")
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, reason := range f.reasons {
			if strings.HasPrefix(reason, user+"big: ") && f.waits[i].Quota {
				t.Errorf("no node is made for a pod that needs one: %s", reason)
			}
		}
	}
	limitedBy("root.one.leaf", "bob", "queue root.one.leaf has 1 running applications of 1")
	limitedBy("root.alices", "alice", "user alice in queue root.alices has 1 running applications of 1")
}

// The core takes the size of the cluster for a quota, that of the root: where that is
// all there is, nodes would help. Beyond a quota of a queue, or of one above it, they
// would not.
func TestAFullClusterIsNoQuota(t *testing.T) {
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
          - name: free
          - name: wide
            resources: {max: {vcore: 100}}
          - name: above
            resources: {max: {vcore: 2}}
            queues:
              - name: below
`))
	f.node("n1")
	f.engage()
	reason := func(id string) *engine.Wait { // the last that was told
		var last *engine.Wait
		for i, r := range f.reasons {
			if strings.HasPrefix(r, id+": ") {
				last = &f.waits[i]
			}
		}
		return last
	}
	var apps []*ledger.App
	for _, queue := range []string{"root.free", "root.wide", "root.above.below"} {
		apps = append(apps, newApp("app-"+queue, queue))
		f.submit(apps[len(apps)-1])
	}
	ask := func(app *ledger.App, id, cpu string) {
		f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(id, cpu))})
	}
	ask(apps[2], "above", "1")
	f.allocated("above")
	ask(apps[0], "free", "2")
	f.allocated("free")
	// One of the four processors is left.
	for i, id := range []string{"none-free", "none-wide", "none-above"} {
		ask(apps[i], id, "2")
	}
	// Of the last it says so last.
	f.until("the cluster is full, and a quota holds one back as well", func() bool {
		free, wide, above := reason("none-free"), reason("none-wide"), reason("none-above")
		return free != nil && !free.Quota && wide != nil && !wide.Quota && above != nil && above.Quota
	})
}

// While a quota holds a pod no node would help it, also where none has room; that
// is so no more when the quota has room again, and anew when it has none.
func TestWhetherNodesWouldHelp(t *testing.T) {
	if isolated(t) {
		return
	}
	start(t, withQueues(quotaQueues)).nodesWouldHelp("root.small")
}

// The same goes for what a user may have.
func TestWhetherNodesWouldHelpAUser(t *testing.T) {
	if isolated(t) {
		return
	}
	start(t, withQueues(`
partitions:
  - name: default
    queues:
      - name: root
        submitacl: '*'
        queues:
          - name: alices
            limits:
              - limit: two processors
                users: [alice]
                maxresources: {vcore: 2}
`)).nodesWouldHelp("root.alices")
}

// nodesWouldHelp has pods wait in a queue of two processors, for these and for nodes.
func (f *fixture) nodesWouldHelp(queue string) {
	f.t.Helper()
	f.node("n1")
	f.engage()
	app := newApp("app", queue)
	f.submit(app)
	for _, id := range []string{"p1", "p2"} {
		f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(id, "1"))})
		f.allocated(id)
	}
	f.node("n1", func(n *v1.Node) { n.Spec.Unschedulable = true })
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("p3", "1"))})
	f.until("the quota is the reason", func() bool { return len(f.waits) == 1 && f.waits[0].Quota })
	f.do(ledger.Release{Task: newTask(app, newPod("p1", "1")), Termination: ledger.StoppedByRM})
	f.until("nodes are the reason", func() bool { return len(f.waits) == 2 && !f.waits[1].Quota })
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("none", "64"))})
	f.until("the quota is the reason for the next", func() bool { return len(f.waits) == 3 && f.waits[2].Quota })
	f.ok(f.engine.RemoveNode("n1"))
	f.preds.RemoveNode("n1")
	f.until("that there are no nodes is a reason", func() bool {
		return len(f.waits) == 4 && !f.waits[3].Quota && f.reasons[3] == "p3: 0/0 nodes are available"
	})
}
