package explain

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/replica/ledger"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// waiting is a pod of a running application that asks for 2 CPUs and 1 GiB, on a cluster of three
// nodes that would take it, at its turn.
func waiting(change ...func(*Facts)) Facts {
	f := Facts{
		Now: noon, SchedulerName: "yunikorn",
		Pod: &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"},
			Spec:       v1.PodSpec{SchedulerName: "yunikorn"},
		},
		Task: &ledger.Task{
			AppID: "app", ID: "u", Namespace: "ns", Name: "p", State: ledger.TaskStateScheduling,
			Resources: map[string]int64{"vcore": 2000, "memory": 1 << 30, "pods": 1}, Submitted: ledger.At(noon.Add(-time.Minute)),
		},
		App: &ledger.App{ID: "app", State: ledger.AppStateRunning, PlacedQueue: "root.a.b", User: "ann"},
		Core: &Core{
			ApplicationState: "Running", Asked: true,
			Nodes: &Nodes{Total: 3, Fit: 3},
			Queues: []Holder{
				{Kind: KindQueue, Queue: "root.a.b"}, {Kind: KindQueue, Queue: "root.a"}, {Kind: KindQueue, Queue: "root"},
			},
			Order: &Order{Policy: "fifo"},
		},
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

type change = func(*Facts)

func app(state ledger.AppState, message string) change {
	return func(f *Facts) { f.App.State, f.App.Message = state, message }
}

func task(edit func(*ledger.Task)) change { return func(f *Facts) { edit(f.Task) } }
func pod(edit func(*v1.Pod)) change       { return func(f *Facts) { edit(f.Pod) } }
func core(edit func(*Core)) change        { return func(f *Facts) { edit(f.Core) } }

// queue has the queue at a level of the path, the leaf first, have a maximum of which some is used.
func queue(level int, resource string, used, most int64) change {
	return core(func(c *Core) {
		q := &c.Queues[level]
		q.Used, q.Max = map[string]int64{resource: used}, map[string]int64{resource: most}
	})
}

func user(kind, name, queue, resource string, used, most int64) change {
	return core(func(c *Core) {
		c.Users = append(c.Users, Holder{
			Kind: kind, Name: name, Queue: queue, Used: map[string]int64{resource: used}, Max: map[string]int64{resource: most},
		})
	})
}

func noNode(total int, reasons ...NodeReason) change {
	return core(func(c *Core) { c.Nodes = &Nodes{Total: total, Reasons: reasons} })
}

func accepted(level int, running int, most uint64) change {
	return core(func(c *Core) {
		c.ApplicationState = "Accepted"
		c.Queues[level].Running, c.Queues[level].MaxRunning = running, most
	})
}

func gang(state ledger.AppState, groups ...ledger.GroupCount) change {
	return func(f *Facts) {
		f.App.State, f.App.Gang, f.Task.State = state, groups, ledger.TaskStateNew
		f.Stage = stageOf(f)
	}
}

// crew has the pod wait for a task group without placeholders.
func crew(wanted int32) change {
	return func(f *Facts) {
		f.App.Crews, f.Task.State, f.Task.TaskGroup = []ledger.Crew{{Name: "c", Wanted: wanted}}, ledger.TaskStateNew, "c"
		f.Stage = stageOf(f)
	}
}

// replacing has the pod take the place of a placeholder, whose deletion has failed some times.
func replacing(failed uint32) change {
	return func(f *Facts) {
		f.Task.TaskGroup, f.Task.State, f.Task.Node, f.Task.Holder = "g", ledger.TaskStateAllocated, "n1", "h"
		f.App.Gang = []ledger.GroupCount{{Name: "g", Wanted: 1, Bound: 1}}
		f.Stage = stageOf(f, &ledger.Task{
			AppID: "app", ID: "h", Placeholder: true, TaskGroup: "g", State: ledger.TaskStateKilling, Node: "n1", DeletePod: true,
			Termination: ledger.PlaceholderReplaced, Retries: failed, GivenUpFor: f.Task.ID,
		})
	}
}

// stageOf is what the ledger says.
func stageOf(f *Facts, others ...*ledger.Task) string {
	l := ledger.New()
	l.Apply(ledger.Change{Key: ledger.Key{AppID: f.App.ID}, App: f.App})
	for _, t := range append(others, f.Task) {
		l.Apply(ledger.Change{Key: ledger.Key{AppID: f.App.ID, TaskID: t.ID}, Task: t})
	}
	for _, w := range l.WaitingIn(f.App.ID) {
		if w.Task == f.Task {
			return w.Why
		}
	}
	return ""
}

// preempted is a pod whose place the engine has taken for another one.
func preempted(known bool) change {
	return func(f *Facts) {
		by := &ledger.Task{AppID: "greedy", ID: "u9", Namespace: "prod", Name: "big"}
		f.Task.State, f.Task.Node, f.Task.Termination = ledger.TaskStateKilling, "n1", ledger.PreemptedByEngine
		f.Task.Message = ledger.PreemptedFor(by)
		if known {
			f.For = &Other{Task: by, App: &ledger.App{ID: "greedy", PlacedQueue: "root.prod", User: "eve"}}
		}
	}
}

func placeholder(changes ...change) change {
	return func(f *Facts) {
		p := waiting(append(changes, task(func(t *ledger.Task) { t.Placeholder, t.Name = true, "tg-1" }), gangOf(f))...)
		p.Task.State, p.Pod.Name = ledger.TaskStateScheduling, "tg-1"
		f.Placeholder = &p
	}
}

func gangOf(of *Facts) change { return func(f *Facts) { f.App = of.App } }

func TestExplain(t *testing.T) {
	cpu := NodeReason{Reason: "Insufficient cpu", Nodes: 60, Example: "n1"}
	taint := NodeReason{Reason: "node(s) had untolerated taint(s)", Nodes: 40, Example: "n2"}
	for name, tt := range map[string]struct {
		facts  Facts
		reason Reason
		says   []string // parts of the message
		helps  string   // part of what would help, empty for nothing
	}{
		"no such pod":         {Facts{Now: noon}, NotFound, []string{"no such pod"}, ""},
		"gone":                {waiting(func(f *Facts) { f.Pod = nil }, task(func(t *ledger.Task) { t.State, t.Message = ledger.TaskStateKilled, "preempted" })), Ended, []string{"Killed", "preempted"}, ""},
		"succeeded":           {waiting(pod(func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded })), Ended, []string{"Succeeded"}, ""},
		"failed for a reason": {waiting(pod(func(p *v1.Pod) { p.Status.Phase, p.Status.Reason = v1.PodFailed, "ResourceReservationTimeout" })), Ended, []string{"Failed: ResourceReservationTimeout"}, ""},
		"bound":               {waiting(pod(func(p *v1.Pod) { p.Spec.NodeName = "n" })), Bound, []string{"node n"}, ""},
		"for another scheduler": {waiting(pod(func(p *v1.Pod) { p.Spec.SchedulerName = "default-scheduler" })), OtherScheduler,
			[]string{"default-scheduler"}, "schedulerName yunikorn"},
		"ignored": {waiting(func(f *Facts) { f.Task, f.App = nil, nil }, pod(func(p *v1.Pod) {
			p.Annotations = map[string]string{"yunikorn.apache.org/ignore-application": "true"}
		})), Ignored, []string{"ignored"}, "without the annotation"},
		"ignored after it was reported": {waiting(pod(func(p *v1.Pod) {
			p.Annotations = map[string]string{"yunikorn.apache.org/ignore-application": "true"}
		})), Turn, nil, ""},
		"being deleted": {waiting(pod(func(p *v1.Pod) { p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: noon}, []string{"x/y"} })),
			Deleting, []string{"x/y"}, ""},
		"gated": {waiting(pod(func(p *v1.Pod) { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g/1"}, {Name: "g/2"}} })),
			Gated, []string{"g/1, g/2"}, "takes them off"},
		"not reported":         {waiting(func(f *Facts) { f.Task, f.App = nil, nil }), NotReported, nil, "suspended"},
		"application rejected": {waiting(app(ledger.AppStateRejected, "queue root.x does not exist")), ApplicationRejected, []string{"root.x does not exist"}, "create the pod anew"},
		"application failed":   {waiting(app(ledger.AppStateFailed, "gang timed out")), ApplicationEnded, []string{"is Failed", "gang timed out"}, "create the pod anew"},
		"application failing":  {waiting(app(ledger.AppStateFailing, "")), ApplicationEnded, []string{"is Failing"}, "create the pod anew"},
		"application killed":   {waiting(app(ledger.AppStateKilled, "")), ApplicationEnded, []string{"is Killed"}, "create the pod anew"},
		"not accepted":         {waiting(app(ledger.AppStateSubmitted, "")), ApplicationNotAccepted, []string{"Submitted"}, ""},
		"task rejected": {waiting(task(func(t *ledger.Task) { t.State, t.FailPod, t.Message = ledger.TaskStateRejected, true, "too big" })), Ended,
			[]string{"Rejected", "too big"}, ""},
		"binding": {waiting(task(func(t *ledger.Task) { t.State, t.Node = ledger.TaskStateAllocated, "n7" })), Binding, []string{"n7"}, ""},
		"binding failed": {waiting(task(func(t *ledger.Task) {
			t.State, t.Node, t.Retries, t.Message = ledger.TaskStateAllocated, "n7", 3, "webhook says no"
		})), BindingFailed, []string{"n7", "3 attempts", "webhook says no"}, "Events"},

		"preempted, its pod on its way out": {waiting(preempted(true), pod(func(p *v1.Pod) { p.Spec.NodeName = "n1" })), Preempted,
			[]string{"make room for pod prod/big of application greedy"}, "higher priority"},
		"preempted and gone": {waiting(preempted(false), func(f *Facts) { f.Pod = nil }, task(func(t *ledger.Task) { t.State = ledger.TaskStateKilled })), Preempted,
			[]string{"prod/big"}, "guaranteed"},
		"preempted, nobody knows for whom": {waiting(preempted(false), task(func(t *ledger.Task) { t.Message = "" })), Preempted, []string{"for another one"}, ""},
		"preempted, the core says why": {waiting(preempted(false), task(func(t *ledger.Task) {
			t.Message = "preempting allocations to enforce new max quota for queue : root.a"
		})), Preempted, []string{"new max quota for queue : root.a"}, ""},

		"crew incomplete":         {waiting(crew(5)), GangIncomplete, []string{"task group c", "1 of 5 pods"}, ""},
		"crew that is not there":  {waiting(crew(0)), GangIncomplete, []string{"does not exist"}, ""},
		"crew of an ended app":    {waiting(crew(5), app(ledger.AppStateFailed, "")), ApplicationEnded, nil, ""},
		"gang of a rejected task": {waiting(gang(ledger.AppStateReserving), func(f *Facts) { f.Stage = "" }, task(func(t *ledger.Task) { t.FailPod, t.Message = true, "too big" })), Ended, []string{"too big"}, ""},
		"a placeholder stays":     {waiting(replacing(3)), PlaceholderStays, []string{"cannot delete a placeholder of task group g"}, ""},
		"a placeholder goes":      {waiting(replacing(0)), Binding, []string{"to n1", "once the placeholder is gone"}, ""},

		"gang incomplete": {waiting(gang(ledger.AppStateReserving, ledger.GroupCount{Name: "driver", Wanted: 1, Bound: 1}, ledger.GroupCount{Name: "executor", Wanted: 5, Bound: 2})),
			GangIncomplete, []string{"2 of 5 of task group executor"}, ""},
		"gang incomplete, a placeholder beyond a quota": {waiting(gang(ledger.AppStateReserving, ledger.GroupCount{Name: "g", Wanted: 5, Bound: 2}), placeholder(queue(1, "vcore", 9000, 10000))),
			GangIncomplete, []string{"2 of 5 of task group g", "ns/tg-1", "root.a has not enough left"}, "pods of queue root.a end"},
		"gang incomplete, a placeholder without a node": {waiting(gang(ledger.AppStateReserving, ledger.GroupCount{Name: "g", Wanted: 5}), placeholder(noNode(100, cpu, taint))),
			GangIncomplete, []string{"0 of 5 of task group g", "0/100 nodes are available: 60 Insufficient cpu, 40 node(s)"}, "free room"},
		"gang with a deadline": {waiting(gang(ledger.AppStateReserving, ledger.GroupCount{Name: "g", Wanted: 5, Bound: 2}), func(f *Facts) { f.App.PlaceholderDeadline = ledger.At(noon.Add(time.Minute)) }),
			GangIncomplete, []string{"until 2026-11-01 12:01:00"}, ""},
		"gang given up": {waiting(gang(ledger.AppStateResuming)), GangResuming, []string{"until the placeholders are gone"}, ""},

		"running applications of the leaf":   {waiting(accepted(0, 3, 3)), RunningApplications, []string{"queue root.a.b has 3 running applications of 3"}, "an application of queue root.a.b ends"},
		"running applications of its parent": {waiting(accepted(1, 5, 5)), RunningApplications, []string{"queue root.a has 5"}, "limit of 5 is raised"},
		"running applications of the root":   {waiting(accepted(2, 9, 9)), RunningApplications, []string{"queue root has 9"}, ""},
		"running applications of the user": {waiting(accepted(0, 1, 3), core(func(c *Core) {
			c.Users = []Holder{{Kind: KindUser, Name: "ann", Queue: "root.a", Running: 2, MaxRunning: 2}}
		})), RunningApplications, []string{"user ann in queue root.a has 2"}, ""},
		"running applications of the group": {waiting(accepted(0, 1, 3), core(func(c *Core) {
			c.Users = []Holder{{Kind: KindGroup, Name: "dev", Queue: "root", Running: 4, MaxRunning: 4}}
		})), RunningApplications, []string{"group dev in queue root has 4"}, ""},
		"limit reached by applications that run with it": {waiting(core(func(c *Core) { c.Queues[0].Running, c.Queues[0].MaxRunning = 3, 3 })), Turn, nil, ""},

		"quota of the leaf":        {waiting(queue(0, "vcore", 3000, 4000)), QueueQuota, []string{"queue root.a.b", "vcore: asked 2, used 3 of 4"}, "pods of queue root.a.b end"},
		"quota of its parent":      {waiting(queue(1, "memory", 10<<30, 10<<30)), QueueQuota, []string{"queue root.a ", "memory: asked 1Gi, used 10Gi of 10Gi"}, "its limit is raised"},
		"quota of both":            {waiting(queue(0, "vcore", 4000, 4000), queue(1, "memory", 10<<30, 10<<30)), QueueQuota, []string{"queue root.a.b"}, ""},
		"quota of pods":            {waiting(queue(0, "pods", 10, 10)), QueueQuota, []string{"pods: asked 1, used 10 of 10"}, ""},
		"quota of none at all":     {waiting(queue(0, "vcore", 0, 0)), QueueQuota, []string{"used 0 of 0"}, "request less"},
		"alone beyond the quota":   {waiting(queue(0, "vcore", 0, 1500)), QueueQuota, []string{"asked 2, used 0 of 1500m"}, "request less"},
		"exactly within the quota": {waiting(queue(0, "vcore", 2000, 4000)), Turn, nil, ""},
		"quota of something else":  {waiting(queue(0, "nvidia.com/gpu", 8, 8)), Turn, nil, ""},
		"quota and nodes":          {waiting(queue(0, "vcore", 3000, 4000), noNode(100, cpu)), QueueQuota, nil, ""},
		"limit of the user":        {waiting(user(KindUser, "ann", "root.a.b", "vcore", 3000, 4000)), UserLimit, []string{"user ann in queue root.a.b"}, "pods of user ann"},
		"limit of the group":       {waiting(user(KindGroup, "dev", "root", "memory", 1<<30, 1<<30)), UserLimit, []string{"group dev in queue root"}, ""},
		"quota before the user's":  {waiting(queue(1, "vcore", 3000, 4000), user(KindUser, "ann", "root", "vcore", 3000, 4000)), QueueQuota, nil, ""},
		"limit before nodes":       {waiting(user(KindUser, "ann", "root", "vcore", 3000, 4000), noNode(1, cpu)), UserLimit, nil, ""},

		"backoff":                             {waiting(core(func(c *Core) { c.BackoffUntil = noon.Add(time.Minute) })), Backoff, []string{"12:01:00"}, ""},
		"backoff of a pod that no node takes": {waiting(core(func(c *Core) { c.BackoffUntil = noon.Add(time.Minute) }), noNode(100, cpu)), NoNode, nil, "free room"},
		"backoff is over":                     {waiting(core(func(c *Core) { c.BackoffUntil = noon }), noNode(100, cpu)), NoNode, nil, "free room"},
		"no node":                             {waiting(noNode(100, cpu, taint)), NoNode, []string{"0/100 nodes are available: 60 Insufficient cpu, 40 node(s) had untolerated taint(s)"}, "free room"},
		"no nodes at all":                     {waiting(noNode(0)), NoNode, []string{"0/0 nodes"}, "add a node"},
		"nodes that refused": {waiting(noNode(2, cpu), task(func(t *ledger.Task) { t.Avoid = []string{"n1", "n2"} })), NoNode,
			[]string{"have refused the pod", "n1, n2"}, ""},
		"placeholder without a node": {waiting(gang(ledger.AppStateReserving), task(func(t *ledger.Task) { t.Placeholder, t.State = true, ledger.TaskStateScheduling }), func(f *Facts) { f.Stage = stageOf(f) }, noNode(5, taint)),
			NoNode, nil, ""},

		"its turn":          {waiting(), Turn, []string{"it is its turn"}, ""},
		"others come first": {waiting(core(func(c *Core) { c.Order = &Order{Policy: "fifo", Applications: 4, Pods: 2} })), Turn, []string{"4 applications", "2 pods"}, ""},
		"reserved":          {waiting(core(func(c *Core) { c.Reserved = "n3" })), Turn, []string{"n3 is reserved"}, ""},
		"not asked yet":     {waiting(core(func(c *Core) { c.Asked = false })), Turn, []string{"is being asked"}, ""},
		"records only":      {waiting(func(f *Facts) { f.Core = nil }), Turn, []string{"who leads"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := Explain(tt.facts)
			if x.Reason != tt.reason {
				t.Fatalf("reason is %s (%s), want %s", x.Reason, x.Message, tt.reason)
			}
			message := x.Message
			if holder := x.Placeholder; holder != nil {
				message += "; " + holder.Pod + ": " + holder.Message
			}
			if x.Deadline != nil {
				message += "; until " + x.Deadline.String()
			}
			for _, part := range tt.says {
				if !strings.Contains(message, part) {
					t.Errorf("message = %q, want one with %q", message, part)
				}
			}
			if helps := strings.Join(x.Unblock, "; "); tt.helps != "" && !strings.Contains(helps, tt.helps) {
				t.Errorf("what helps = %q, want %q", helps, tt.helps)
			}
			if x.Message == "" {
				t.Error("no message")
			}
		})
	}
}

// What is not the reason is told too.
func TestFigures(t *testing.T) {
	x := Explain(waiting(queue(0, "vcore", 3000, 4000), core(func(c *Core) {
		c.Queues[1].Guaranteed = map[string]int64{"memory": 5 << 30}
		c.Queues[1].Used = map[string]int64{"memory": 1 << 30}
	}), noNode(2, NodeReason{Reason: "Insufficient memory", Nodes: 2, Example: "n1"})))
	if got := x.Requests; got["vcore"] != "2" || got["memory"] != "1Gi" || got["pods"] != "1" {
		t.Errorf("requests = %v", got)
	}
	if len(x.Limits) != 2 || !slices.Equal(x.Limits[0].Short, []string{"vcore"}) || x.Limits[1].Short != nil {
		t.Fatalf("limits = %+v", x.Limits)
	}
	if got, want := x.Limits[1].Resources[0], (Measure{Resource: "memory", Asked: "1Gi", Used: "1Gi", Guaranteed: "5Gi"}); got != want {
		t.Errorf("measure = %+v, want %+v", got, want)
	}
	if x.Nodes.Reasons[0].Example != "n1" || x.Order.Policy != "fifo" || !x.Since.Equal(noon.Add(-time.Minute)) {
		t.Errorf("got %+v", x)
	}
}

// What an Event says is what a question is answered with.
func TestTheEngineSaysTheSame(t *testing.T) {
	for name, f := range map[string]Facts{
		"quota":   waiting(queue(1, "vcore", 9000, 10000)),
		"user":    waiting(user(KindUser, "ann", "root", "vcore", 3000, 4000)),
		"running": waiting(accepted(0, 3, 3)),
		"nodes":   waiting(noNode(2, NodeReason{Reason: "Insufficient cpu", Nodes: 2})),
		"turn":    waiting(),
	} {
		asked, told := f, f
		told.Pod = nil // the engine has records alone
		if x, y := Explain(asked), Unplaced(told); x.Reason != y.Reason || x.Message != y.Message {
			t.Errorf("%s: asked: %s %q, told: %s %q", name, x.Reason, x.Message, y.Reason, y.Message)
		}
	}
}

func TestKindsAreToldOnce(t *testing.T) {
	same := [][2]string{
		{"0/3 nodes are available: 2 Insufficient cpu, 1 tainted", "0/9 nodes are available: 8 tainted, 1 Insufficient cpu"},
		{"queue root.a has not enough left; vcore: asked 2, used 1500m of 10", "queue root.a has not enough left; vcore: asked 2, used 8 of 10"},
		{"memory: asked 1Gi, used 10Gi of 10Gi", "memory: asked 1Gi, used 512Mi of 10Gi"},
		{"tried again at 2026-11-01T12:01:00Z", "tried again at 2026-11-02T09:31:07Z"},
	}
	for _, pair := range same {
		if Kind(pair[0]) != Kind(pair[1]) {
			t.Errorf("%q and %q are told apart: %q, %q", pair[0], pair[1], Kind(pair[0]), Kind(pair[1]))
		}
	}
	for _, pair := range [][2]string{
		{"0/3 nodes are available: 3 Insufficient cpu", "0/3 nodes are available: 3 Insufficient memory"},
		{"queue root.a has not enough left; vcore: asked 2", "queue root.b has not enough left; vcore: asked 2"},
		{"used 5 of 6 Megs", "used 5 of 6"},
	} {
		if Kind(pair[0]) == Kind(pair[1]) {
			t.Errorf("%q and %q are not told apart", pair[0], pair[1])
		}
	}
}

// TestEstimates: an estimate is of pods of the queue that got a place here, and unknown with few.
func TestEstimates(t *testing.T) {
	l := ledger.New()
	add := func(app, queue string, n int, edit func(i int, t *ledger.Task)) {
		l.Apply(ledger.Change{Key: ledger.Key{AppID: app}, App: &ledger.App{ID: app, State: ledger.AppStateRunning, PlacedQueue: queue}})
		for i := range n {
			at := ledger.At(noon.Add(time.Duration(i) * time.Second))
			task := &ledger.Task{
				AppID: app, ID: fmt.Sprint(app, i), State: ledger.TaskStateBound, Node: "n",
				Submitted: at, Allocated: at.Add(time.Duration(i+1) * time.Second), Bound: at.Add(time.Hour),
			}
			if edit != nil {
				edit(i, task)
			}
			l.Apply(ledger.Change{Key: ledger.Key{AppID: app, TaskID: task.ID}, Task: task})
		}
	}
	add("few", "root.few", 9, nil)
	if x := Estimated(l, "root.few"); x.P50Seconds != nil || x.Pods != 9 || !strings.Contains(x.Message, "unknown") {
		t.Errorf("nine pods: %+v", x)
	}
	if x := Estimated(l, "root.none"); x.P50Seconds != nil || x.Pods != 0 {
		t.Errorf("a queue without pods: %+v", x)
	}
	add("ten", "root.ten", 10, nil)
	add("ten-more", "root.ten", 50, func(i int, task *ledger.Task) { // of which none counts
		switch i % 4 {
		case 0:
			task.Placeholder = true
		case 1:
			task.Allocated = task.Bound // it had its node already
		case 2:
			task.State, task.Node, task.Allocated, task.Bound = ledger.TaskStateScheduling, "", 0, 0
		case 3:
			task.Submitted = 0
		}
	})
	x := Estimated(l, "root.ten")
	if x.Pods != 10 || x.P50Seconds == nil || *x.P50Seconds != 5 || *x.P90Seconds != 9 || !strings.Contains(x.Message, "half waited 5s at most") {
		t.Errorf("ten pods: %+v", x)
	}
	add("many", "root.ten", 300, nil) // the last hundred have waited for 201 to 300 seconds
	if x = Estimated(l, "root.ten"); x.Pods != 100 || *x.P50Seconds != 250 || *x.P90Seconds != 290 {
		t.Errorf("the last of many pods: %+v, %v, %v", x, *x.P50Seconds, *x.P90Seconds)
	}
}
