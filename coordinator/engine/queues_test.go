package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// What a queue says has to hold for the applications that the engine gives to the core, with
// what the engine tells of them: when they came, whose they are, how important their pods are.

func important(priority int32) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Priority = &priority }
}

// waiting has a pod wait for a node.
func (f *fixture) waiting(app *ledger.App, id string, edit ...func(*v1.Pod)) {
	f.t.Helper()
	f.do(ledger.Ask{App: app, Task: newTask(app, f.pod(id, "1", edit...))})
}

// order is the order in which pods that wait get a place on a node that comes.
func (f *fixture) order(pods int) (ids []string) {
	f.t.Helper()
	f.sync()
	f.node("n1", func(n *v1.Node) { n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("100") })
	f.until("all have a place", func() bool {
		ids = nil
		for _, e := range f.events {
			if a, ok := e.(ledger.Allocated); ok {
				ids = append(ids, a.TaskID)
			}
		}
		return len(ids) == pods
	})
	return ids
}

// TestApplicationsAreSortedAsTheirQueueSays: first comes first, or who has least; who is more
// important comes before that, unless the queue does not want it.
func TestApplicationsAreSortedAsTheirQueueSays(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[
		{name: stock}, {name: fifo, properties: {application.sort.policy: fifo}},
		{name: fair, properties: {application.sort.policy: fair}},
		{name: stateaware, properties: {application.sort.policy: stateaware}},
		{name: ranked}, {name: unranked, properties: {application.sort.priority: disabled}}]`, "")))
	f.engage()
	queues := map[string]string{
		"stock": "old old new new", "fifo": "old old new new", "fair": "each in turn", "stateaware": "old old new new",
		"ranked": "new new old old", "unranked": "old old new new",
	}
	for queue := range queues {
		for _, id := range []string{"old", "new"} {
			app := newApp(queue+"-"+id, "root."+queue)
			f.submit(app)
			for n := range 2 {
				priority := int32(0)
				if strings.HasSuffix(queue, "ranked") && id == "new" {
					priority = 10
				}
				f.waiting(app, fmt.Sprintf("%s-%s-%d", queue, id, n), important(priority))
			}
		}
	}
	got := map[string][]string{}
	for _, id := range f.order(4 * len(queues)) {
		parts := strings.Split(id, "-")
		got[parts[0]] = append(got[parts[0]], parts[1])
	}
	for queue, want := range queues {
		order := strings.Join(got[queue], " ")
		// Of two that have the same any may be first.
		if fair := queue == "fair"; fair && (got[queue][0] == got[queue][1] || got[queue][2] == got[queue][3]) || !fair && order != want {
			t.Errorf("%s: %s, want %s", queue, order, want)
		}
	}
}

// TestQueuesArePreferredByPriority: that of their pods, with an offset, or behind a fence.
func TestQueuesArePreferredByPriority(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[
		{name: plain}, {name: offset, properties: {priority.offset: "100"}},
		{name: fenced, properties: {priority.policy: fence}},
		{name: above, properties: {priority.policy: fence, priority.offset: "500"}, queues: [{name: below}]}]`, "")))
	f.engage()
	for queue, priority := range map[string]int32{"plain": 10, "offset": 0, "fenced": 1000, "above.below": -3} {
		app := newApp(queue, "root."+queue)
		f.submit(app)
		f.waiting(app, "of-"+queue, important(priority))
	}
	if got, want := f.order(4), []string{"of-above.below", "of-offset", "of-plain", "of-fenced"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLimitsOfGroupsAndOfAnybody: the users of a group share what it may have; each user who is
// not named has what anybody may have.
func TestLimitsOfGroupsAndOfAnybody(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[
		{name: devs, limits: [{limit: devs, groups: [dev], maxresources: {vcore: 2}}]},
		{name: any, limits: [{limit: ann, users: [ann], maxresources: {vcore: 2}}, {limit: anybody, users: ["*"], maxresources: {vcore: 1}}]}]`, "")))
	f.node("n1", func(n *v1.Node) { n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("100") })
	f.engage()
	ask := func(queue, user, id string) {
		t.Helper()
		app := newApp(queue+user, "root."+queue)
		app.User = user
		if count(f, func(e ledger.AppAccepted) bool { return e.AppID == app.ID }) == 0 {
			f.submit(app)
		}
		f.waiting(app, id)
	}
	heldBack := func(id string) {
		t.Helper()
		f.until(id+" waits for a quota", func() bool {
			return slices.ContainsFunc(f.reasons, func(r string) bool { return strings.HasPrefix(r, id+": ") })
		})
		f.mu.Lock()
		defer f.mu.Unlock()
		if i := slices.IndexFunc(f.reasons, func(r string) bool { return strings.HasPrefix(r, id+": ") }); !f.waits[i].Quota {
			t.Errorf("not for a quota: %s", f.reasons[i])
		}
	}
	ask("devs", "ann", "devs-1")
	f.allocated("devs-1")
	ask("devs", "bob", "devs-2")
	f.allocated("devs-2")
	ask("devs", "eve", "devs-3")
	heldBack("devs-3")
	f.do(ledger.Release{Task: newTask(newApp("devsann", "root.devs"), newPod("devs-1", "1")), Termination: ledger.StoppedByRM})
	f.allocated("devs-3")

	for _, who := range []string{"bob", "eve", "ann"} {
		ask("any", who, "any-"+who)
		f.allocated("any-" + who)
	}
	ask("any", "bob", "any-bob-2")
	heldBack("any-bob-2")
	ask("any", "ann", "any-ann-2")
	f.allocated("any-ann-2")
}

// TestWhoMaySubmit: users, groups, and administrators of a queue or of one above it.
func TestWhoMaySubmit(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(`
partitions:
  - name: default
    queues:
      - name: root
        adminacl: chief
        queues:
          - {name: users, submitacl: "ann,bob"}
          - {name: groups, submitacl: " dev"}
          - {name: all, submitacl: "*"}
          - {name: mine, adminacl: "ann ops"}
          - {name: nobodys}
`))
	f.engage()
	for _, c := range []struct {
		queue, user, group string
		may                bool
	}{
		{"users", "ann", "none", true},
		{"users", "bob", "none", true},
		{"users", "eve", "ann", false},
		{"users", "eve", "dev", false},
		{"groups", "eve", "dev", true},
		{"groups", "dev", "none", false},
		{"all", "eve", "none", true},
		{"mine", "ann", "none", true},
		{"mine", "eve", "ops", true},
		{"mine", "eve", "dev", false},
		{"nobodys", "ann", "dev", false},
		{"nobodys", "chief", "none", true},
	} {
		app := newApp(strings.Join([]string{c.queue, c.user, c.group}, "-"), "root."+c.queue)
		app.User, app.Groups = c.user, []string{c.group}
		f.do(ledger.SubmitApp{App: app})
		answer := func() (accepted, answered bool) {
			for _, e := range f.events {
				switch x := e.(type) {
				case ledger.AppAccepted:
					if x.AppID == app.ID {
						return true, true
					}
				case ledger.AppRejected:
					if x.AppID == app.ID {
						return false, true
					}
				}
			}
			return false, false
		}
		accepted := false
		f.until("an answer to "+app.ID, func() (answered bool) { accepted, answered = answer(); return answered })
		if accepted != c.may {
			t.Errorf("%s of %s into %s: %t", c.user, c.group, c.queue, accepted)
		}
	}
}

// TestPropertiesReachTheCore, from the queue itself or from one above it.
func TestPropertiesReachTheCore(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[{name: stock}, {name: above,
		properties: {preemption.delay: 7s, application.unschedasks.backoff: "3", application.unschedasks.backoff.delay: 11s},
		queues: [{name: inherits}, {name: own, properties: {preemption.delay: 5s, application.unschedasks.backoff: "0"}}]}]`, "")))
	for queue, want := range map[string]string{
		"root.stock":          "preemption after 30s, back-off after 0 for 30s",
		"root.above.inherits": "preemption after 7s, back-off after 3 for 11s",
		"root.above.own":      "preemption after 5s, back-off after 0 for 11s",
	} {
		if got := f.engine.QueueWaits(queue); got != want {
			t.Errorf("%s: %s, want %s", queue, got, want)
		}
	}
}

// TestNodesAreSortedAsThePartitionSays: full ones first or empty ones, by what weighs.
func TestNodesAreSortedAsThePartitionSays(t *testing.T) {
	const byCPU, byMemory = "resourceweights: {vcore: 1.0, memory: 0.0}", "resourceweights: {vcore: 0.0, memory: 1.0}"
	for name, c := range map[string]struct{ policy, want string }{
		"fair by CPU":          {"type: fair, " + byCPU, "memory"},
		"fair by memory":       {"type: fair, " + byMemory, "cpu"},
		"binpacking by CPU":    {"type: binpacking, " + byCPU, "cpu"},
		"binpacking by memory": {"type: binpacking, " + byMemory, "memory"},
		"fair unless it says":  {byCPU, "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			if isolated(t) {
				return
			}
			f := start(t, withQueues(queuesOf("[{name: a}]", "")+"    nodesortpolicy: {"+c.policy+"}\n"))
			f.node("cpu")
			f.node("memory")
			f.engage()
			app := newApp("app", "root.a")
			f.submit(app)
			// One node has little CPU left, the other little memory.
			f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("a", "2", at("cpu")))})
			f.allocated("a")
			f.do(ledger.Ask{App: app, Task: newTask(app, f.pod("b", "10m", at("memory"), asks(v1.ResourceMemory, "4Gi")))})
			f.allocated("b")
			f.waiting(app, "next")
			if got := f.allocated("next"); got != c.want {
				t.Errorf("placed on %s", got)
			}
		})
	}
}

// at has a pod ask for a node.
func at(node string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{v1.LabelHostname: node} }
}

// TestRootIsPutAbove queues that have none, and a partition may be called default in any case.
func TestRootIsPutAbove(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues("partitions:\n- name: DEFAULT\n  queues:\n  - {name: one, submitacl: '*'}\n  - {name: Two}\n"))
	if got := slices.Sorted(maps.Keys(f.engine.QueueUsage())); !slices.Equal(got, []string{"root.one", "root.two"}) {
		t.Errorf("queues %q", got)
	}
}
