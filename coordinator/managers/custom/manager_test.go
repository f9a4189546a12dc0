package custom

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/managerstest"
	"github.com/understudy-ha/understudy/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	things   = schema.GroupVersionResource{Group: "example.org", Version: "v1", Resource: "things"}
	sets     = schema.GroupVersionResource{Group: "sets.example.org", Version: "v1", Resource: "sets"}
	errTest  = errors.New("not now")
	thingDef = Definition{
		APIVersion: "example.org/v1", Kind: "Thing",
		Pods:      Pods{Label: "thing", Group: "pod.metadata.labels[?'part']"},
		Scheduled: "object.spec.?early.orValue(false)",
		AppID:     "object.spec.?app",
		Suspended: "object.spec.?paused.orValue(false)",
		Failed:    "object.?status.?phase.orValue('') == 'Bad'",
		Succeeded: "object.?status.?phase.orValue('') == 'Good'",
		Queue:     "object.spec.queue",
		Groups:    []Group{{ForEach: "object.spec.?parts.orValue([])", Name: "each", MinMember: "2"}},
	}
)

// house is a world with a manager of things in it.
type house struct {
	*managerstest.World
	t *testing.T
	m *Manager
}

func inHouse(t *testing.T, d Definition, change func(*managers.Deps), do func(house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := managerstest.New(t, map[schema.GroupVersionResource]string{things: "Thing", sets: "Set"})
		deps := w.Deps("things")
		if change != nil {
			change(&deps)
		}
		p, err := Compile("things", d, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := house{World: w, t: t, m: newManager(deps, p)}
		h.m.schemaOf = func(schema.GroupVersionKind) (*spec.Schema, error) { return nil, errTest }
		do(h)
		h.m.Stop()
	})
}

func (h house) start() {
	h.t.Helper()
	if err := h.m.Start(); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

func (h house) want(calls string) {
	h.t.Helper()
	synctest.Wait()
	if got := h.Calls(); got != calls {
		h.t.Errorf("calls = %s\nwant    %s", got, calls)
	}
}

func (h house) thing(name string, spec map[string]any) {
	h.t.Helper()
	if spec["queue"] == nil {
		spec["queue"] = "root.q"
	}
	if spec["app"] == nil {
		spec["app"] = name
	}
	h.Create(h.t, things, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.org/v1", "kind": "Thing", "spec": spec,
		"metadata": map[string]any{"namespace": "ns", "name": name, "uid": "uid-" + name},
	}})
}

func (h house) set(name string, path ...any) {
	h.t.Helper()
	h.Change(h.t, things, "ns", name, func(o *unstructured.Unstructured) {
		var at []string
		for _, p := range path[:len(path)-1] {
			at = append(at, p.(string))
		}
		if err := unstructured.SetNestedField(o.Object, path[len(path)-1], at...); err != nil {
			h.t.Fatal(err)
		}
	})
}

func pod(name, thing string, change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"thing": thing}},
		Spec:       v1.PodSpec{SchedulerName: "yunikorn"},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func on(node string) func(*v1.Pod)       { return func(p *v1.Pod) { p.Spec.NodeName = node } }
func in(phase v1.PodPhase) func(*v1.Pod) { return func(p *v1.Pod) { p.Status.Phase = phase } }
func ownedBy(kind, name string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		yes, group := true, "example.org"
		if kind == "Set" {
			group = "sets.example.org"
		}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: group + "/v1", Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: &yes}}
	}
}

func TestTheLifeOfAnObject(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.start()
		h.thing("a", map[string]any{"paused": true, "early": true})
		h.AddPod(pod("p1", "a"))
		h.want("") // suspended
		h.set("a", "spec", "paused", false)
		h.want(`app a, task a/p1 on ""`)
		h.AddPod(pod("p2", "a"))
		h.ChangePod(pod("p1", "a", on("n")))
		h.ChangePod(pod("p1", "a", on("n"), in(v1.PodRunning)))
		h.want(`task a/p2 on "", task a/p1 on "n"`)
		h.ChangePod(pod("p1", "a", on("n"), in(v1.PodSucceeded)))
		h.set("a", "status", map[string]any{"phase": "Good"})
		h.want("end a/p1, complete a")
		h.DeletePod(pod("p1", "a", on("n"), in(v1.PodSucceeded)))
		h.Delete(h.t, things, "ns", "a")
		h.want("end a/p1, remove a/p1") // p2 is still there
		h.DeletePod(pod("p2", "a"))
		h.want("end a/p2, remove a/p2, complete a, forget a")
	})
}

func TestBeginnings(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.thing("early", map[string]any{"early": true})
		h.thing("late", map[string]any{})
		h.start()
		h.want("app early") // the other one has no pod yet
		h.AddPod(pod("p", "late"))
		h.want(`app late, task late/p on ""`)
		if meta := h.Metadata("late"); meta.QueueName != "root.q" || meta.OwnerReferences[0].Name != "late" {
			t.Errorf("metadata = %+v", meta)
		}
		h.set("early", "status", map[string]any{"phase": "Bad"})
		h.want("fail early")
		h.set("early", "status", map[string]any{"phase": "Bad", "more": "of it"})
		h.want("")
		h.Delete(h.t, things, "ns", "early")
		h.want("complete early, forget early")
	})
}

// A pod may be seen before its object, which exists, and belongs to nobody here if there
// is none.
func TestPodsThatComeFirst(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.start()
		h.AddPod(pod("stray", "nothing"))
		if h.m.Claims(pod("stray", "nothing")) {
			t.Error("a pod whose object does not exist is claimed")
		}
		h.want("")
		// The watch does not tell of the object yet: a wrong answer of known is as good.
		h.thing("a", map[string]any{})
		h.m.mu.Lock()
		before := h.m.book.objects
		h.m.book.objects = map[types.NamespacedName]*object{}
		h.m.mu.Unlock()
		if !h.m.Claims(pod("p", "a")) {
			t.Error("a pod is not claimed whose object exists and has not been seen")
		}
		h.AddPod(pod("p", "a"))
		h.want("")
		h.m.mu.Lock()
		h.m.book.objects = before
		h.m.mu.Unlock()
		h.set("a", "spec", "queue", "root.other") // it is seen
		h.want(`app a, task a/p on ""`)
	})
}

func TestTheOwnersOfAPodAreRead(t *testing.T) {
	d := thingDef
	d.Pods = Pods{Owner: &Owner{Through: []Kind{{APIVersion: "sets.example.org/v1", Kind: "Set"}}}}
	inHouse(t, d, nil, func(h house) {
		h.thing("a", map[string]any{})
		set := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "sets.example.org/v1", "kind": "Set"}}
		set.SetNamespace("ns")
		set.SetName("s")
		set.SetUID("uid-s")
		yes := true
		set.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "example.org/v1", Kind: "Thing", Name: "a", UID: "uid-a", Controller: &yes}})
		h.Create(t, sets, set)
		h.start()
		h.AddPod(pod("through", "", ownedBy("Set", "s")))
		h.AddPod(pod("direct", "", ownedBy("Thing", "a")))
		h.AddPod(pod("other", "", ownedBy("Set", "other")))
		h.AddPod(pod("bare", ""))
		h.want(`app a, task a/through on "", task a/direct on ""`)
		old := pod("old", "", ownedBy("Thing", "a"))
		old.OwnerReferences[0].UID = "uid-before" // of one that had the name before
		h.AddPod(old)
		h.want("")
		for name, want := range map[string]bool{"through": true, "direct": true, "other": false, "bare": false, "old": false} {
			p := map[string]*v1.Pod{
				"through": pod("x", "", ownedBy("Set", "s")), "direct": pod("x", "", ownedBy("Thing", "a")),
				"other": pod("x", "", ownedBy("Set", "other")), "bare": pod("x", ""), "old": old,
			}[name]
			if got := h.m.Claims(p); got != want {
				t.Errorf("Claims(%s) = %v", name, got)
			}
		}
	})
}

// Objects that cannot be evaluated are named once, and nothing becomes of their pods
// until they can.
func TestAnObjectThatCannotBeEvaluated(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.start()
		h.thing("bad", map[string]any{"queue": int64(7)})
		h.thing("good", map[string]any{})
		h.AddPod(pod("p", "bad"))
		h.AddPod(pod("q", "good"))
		h.want(`app good, task good/q on ""`)
		h.set("bad", "spec", "parts", []any{})
		if got, want := h.Events(), "Thing/bad NotEvaluated: definition things: ns/bad: queue: yields int, want string"; got != want {
			t.Errorf("events = %s\nwant     %s", got, want)
		}
		if !h.m.Claims(pod("p", "bad")) {
			t.Error("its pod is not claimed")
		}
		h.set("bad", "spec", "queue", "root.q")
		h.want(`app bad, task bad/p on ""`)
	})
}

// An expression that costs too much over an object is one that fails over it, and costs
// others nothing.
func TestAnObjectThatCostsTooMuch(t *testing.T) {
	d := thingDef
	d.Running = "has(object.spec.n) && object.spec.n.all(a, object.spec.n.all(b, a.name == b.name))"
	inHouse(t, d, nil, func(h house) {
		h.start()
		long := make([]any, 4000)
		for i := range long {
			long[i] = map[string]any{"name": strings.Repeat("x", 100)}
		}
		h.thing("costly", map[string]any{"n": long})
		h.thing("good", map[string]any{})
		h.AddPod(pod("p", "costly"))
		h.AddPod(pod("q", "good"))
		h.want(`app good, task good/q on ""`)
		events := h.Events()
		if !strings.HasPrefix(events, "Thing/costly NotEvaluated: definition things: ns/costly: running: ") ||
			!strings.Contains(events, "cost limit exceeded") || strings.Contains(events, ";") {
			t.Errorf("events = %s", events)
		}
		h.set("costly", "spec", "n", []any{})
		h.want(`app costly, task costly/p on ""`)
	})
}

func TestObjectsThatShareAnApplication(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.start()
		h.thing("a", map[string]any{"app": "both"})
		h.thing("b", map[string]any{"app": "both"})
		h.AddPod(pod("p", "a"))
		h.AddPod(pod("q", "b"))
		h.want(`app both, task both/p on "", task both/q on ""`)
		h.set("a", "status", map[string]any{"phase": "Bad"})
		h.want("")
		h.set("b", "status", map[string]any{"phase": "Good"})
		h.want("fail both")
	})
}

// A pod stays with the application that it was reported for.
func TestAnAppIDThatChanges(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.start()
		h.thing("a", map[string]any{})
		h.AddPod(pod("p", "a"))
		h.set("a", "spec", "app", "other")
		h.AddPod(pod("q", "a"))
		h.want(`app a, task a/p on "", task a/q on ""`)
	})
}

// What a predecessor has seen end is not begun anew, and what it has missed is caught up
// with.
func TestAfterARestart(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		h.SetState("ended", "Completed", "old")
		h.SetState("missed", "Running", "over")
		h.thing("ended", map[string]any{"early": true})
		h.thing("missed", map[string]any{"early": true})
		h.set("ended", "status", map[string]any{"phase": "Good"})
		h.set("missed", "status", map[string]any{"phase": "Good"})
		h.AddPod(pod("old", "ended", on("n")))
		h.AddPod(pod("over", "missed", on("n"), in(v1.PodSucceeded)))
		h.start()
		got := h.Calls()
		for _, call := range []string{"complete missed", "end missed/over", `task ended/old on "n"`} {
			if !strings.Contains(got, call) {
				t.Errorf("%q is not among %s", call, got)
			}
		}
		if strings.Contains(got, "app ended") || strings.Contains(got, "complete ended") {
			t.Errorf("calls = %s", got)
		}
	})
}

func TestPodsOfOthers(t *testing.T) {
	inHouse(t, thingDef, func(d *managers.Deps) {
		d.Claimed = func(p *v1.Pod) string {
			if p.Name == "taken" {
				return "first"
			}
			return ""
		}
	}, func(h house) {
		h.start()
		h.thing("a", map[string]any{})
		h.AddPod(pod("taken", "a"))
		h.AddPod(pod("elsewhere", "a", func(p *v1.Pod) { p.Spec.SchedulerName = "other" }))
		h.AddPod(pod("ignored", "a", func(p *v1.Pod) {
			p.Annotations = map[string]string{"yunikorn.apache.org/ignore-application": "true"}
		}))
		h.want("")
		gated := pod("gated", "a", func(p *v1.Pod) { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g"}} })
		h.AddPod(gated)
		h.want("")
		h.ChangePod(pod("gated", "a"))
		h.want(`app a, task a/gated on ""`)
	})
}

// TestAnObjectWhosePodsAreAnothersBeginsNothing: its application would have no pods. One of
// its pods that is its own begins it.
func TestAnObjectWhosePodsAreAnothersBeginsNothing(t *testing.T) {
	inHouse(t, thingDef, func(d *managers.Deps) {
		d.Claimed = func(p *v1.Pod) string {
			if p.Labels["thing"] == "theirs" && p.Name != "own" {
				return "first"
			}
			return ""
		}
	}, func(h house) {
		h.start()
		h.thing("ours", map[string]any{"early": true})
		h.want("app ours")
		h.thing("theirs", map[string]any{"early": true})
		h.AddPod(pod("taken", "theirs"))
		h.set("theirs", "status", map[string]any{"more": "news"})
		h.want("")
		h.AddPod(pod("own", "theirs"))
		h.want(`app theirs, task theirs/own on ""`)
	})
}

func TestTaskGroups(t *testing.T) {
	var groups []string
	inHouse(t, thingDef, func(d *managers.Deps) { d.Protocol = &grouping{d.Protocol, &groups} }, func(h house) {
		h.start()
		h.thing("a", map[string]any{"parts": []any{"x", "y"}})
		part := func(name string) func(*v1.Pod) { return func(p *v1.Pod) { p.Labels["part"] = name } }
		h.AddPod(pod("p", "a", part("y")))
		h.AddPod(pod("q", "a", part("z")))
		h.AddPod(pod("r", "a"))
		h.AddPod(pod("hold", "a", func(p *v1.Pod) {
			p.Labels = map[string]string{"applicationId": "a", "placeholder": "true"}
			p.Annotations = map[string]string{"yunikorn.apache.org/task-group-name": "x"}
		}))
		if got, want := strings.Join(groups, " "), "p=y q= r= hold=x"; got != want {
			t.Errorf("groups = %s, want %s", got, want)
		}
		h.want(`app a, task a/p on "", task a/q on "", task a/r on "", task a/hold on ""`)
		held := pod("hold", "", on("n"), func(p *v1.Pod) {
			p.Labels = map[string]string{"applicationId": "a", "placeholder": "true"}
			p.Annotations = map[string]string{"yunikorn.apache.org/task-group-name": "x"}
		})
		if a := h.m.GetExistingAllocation(held); a == nil || !a.Placeholder || a.TaskGroupName != "x" || a.ApplicationID != "a" {
			t.Errorf("allocation of a placeholder = %v", a)
		}
		if meta := h.Metadata("a"); len(meta.TaskGroups) != 2 {
			t.Errorf("groups = %+v", meta.TaskGroups)
		}
	})
}

// grouping notes the task groups of tasks.
type grouping struct {
	protocol.ApplicationManagementProtocol
	groups *[]string
}

func (g *grouping) AddTask(r *protocol.AddTaskRequest) protocol.ManagedTask {
	*g.groups = append(*g.groups, r.Metadata.Pod.Name+"="+r.Metadata.TaskGroupName)
	return g.ApplicationManagementProtocol.AddTask(r)
}

// A promotion asks while a call waits for it to be over.
func TestTheLeadMayAskWhileACallWaits(t *testing.T) {
	var release chan struct{}
	inHouse(t, thingDef, func(d *managers.Deps) {
		release = make(chan struct{}) // one of the bubble
		d.Protocol = &slow{d.Protocol, release}
	}, func(h house) {
		h.thing("a", map[string]any{})
		h.AddPod(pod("running", "a", on("n"), in(v1.PodRunning)))
		h.AddPod(pod("done", "a", on("n"), in(v1.PodSucceeded)))
		h.start() // AddApplication or AddTask waits from now on
		apps, err := h.m.ListApplications()
		if err != nil || len(apps) != 1 || apps["a"].QueueName != "root.q" {
			t.Errorf("applications = %v, %v", apps, err)
		}
		if a := h.m.GetExistingAllocation(pod("running", "a", on("n"))); a == nil || a.ApplicationID != "a" || a.NodeID != "n" || a.AllocationKey != "running" {
			t.Errorf("allocation = %v", a)
		}
		for _, none := range []*v1.Pod{pod("running", "a"), pod("x", "b", on("n")), pod("done", "a", on("n"), in(v1.PodFailed))} {
			if a := h.m.GetExistingAllocation(none); a != nil {
				t.Errorf("pod %s on %q holds %v", none.Name, none.Spec.NodeName, a)
			}
		}
		if !h.m.Claims(pod("running", "a", on("n"))) {
			t.Error("it does not claim its pod")
		}
		close(release)
		synctest.Wait()
	})
}

type slow struct {
	protocol.ApplicationManagementProtocol
	release chan struct{}
}

func (s *slow) AddApplication(r *protocol.AddApplicationRequest) protocol.ManagedApp {
	<-s.release
	return s.ApplicationManagementProtocol.AddApplication(r)
}

func (s *slow) AddTask(r *protocol.AddTaskRequest) protocol.ManagedTask {
	<-s.release
	return s.ApplicationManagementProtocol.AddTask(r)
}

func TestAListingIsWholeOrAnError(t *testing.T) {
	inHouse(t, thingDef, nil, func(h house) {
		if apps, err := h.m.ListApplications(); err == nil {
			t.Errorf("before the objects are listed: %v", apps)
		}
		if h.m.HasSynced() {
			t.Error("it has synced before it was started")
		}
		h.start()
		if _, err := h.m.ListApplications(); err != nil || !h.m.HasSynced() {
			t.Errorf("after that: %v, %v", err, h.m.HasSynced())
		}
	})
}

// A removal that is refused is tried again.
func TestRemovalIsTriedAgain(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	inHouse(t, thingDef, func(d *managers.Deps) { d.Protocol = &stubborn{d.Protocol, &refuse} }, func(h house) {
		h.start()
		h.thing("a", map[string]any{"early": true})
		h.Delete(t, things, "ns", "a")
		h.want("app a, complete a")
		refuse.Store(false)
		time.Sleep(time.Minute)
		if got := h.Calls(); !strings.HasSuffix(got, "forget a") {
			t.Errorf("calls = %s", got)
		}
		time.Sleep(time.Hour)
		h.want("")
		h.thing("a", map[string]any{"early": true}) // begun anew
		h.want("app a")
	})
}

// The object of an application was deleted while no replica ran: only the records tell of it.
func TestAnObjectThatWentWhileNobodyRan(t *testing.T) {
	is := func(id, state string) managers.AppStatus { return managers.AppStatus{ApplicationID: id, State: state} }
	for name, earlier := range map[string]bool{"told before the objects are known": true, "told after": false} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, thingDef, nil, func(h house) {
				h.SetState("lost", "Accepted")
				h.SetState("over", "Completed")
				h.thing("kept", map[string]any{"early": true})
				tell := func() {
					h.m.AppChanged(is("lost", "Accepted"))
					h.m.AppChanged(is("over", "Completed"))
					h.m.AppChanged(is("kept", "Accepted"))
				}
				if earlier {
					tell()
					h.start()
				} else {
					h.start()
					tell()
				}
				synctest.Wait()
				calls := strings.Split(h.Calls(), ", ")
				slices.Sort(calls)
				if want := []string{"app kept", "forget lost", "forget over"}; !slices.Equal(calls, want) {
					t.Errorf("calls = %q, want %q", calls, want)
				}
			})
		})
	}
	t.Run("its pods live on", func(t *testing.T) {
		inHouse(t, thingDef, nil, func(h house) {
			h.SetState("lost", "Running", "p")
			h.start()
			h.m.AppChanged(is("lost", "Running"))
			time.Sleep(lastRetry)
			h.want("")
			h.NotifyTaskComplete("lost", "p")
			time.Sleep(lastRetry)
			if got := h.Calls(); !strings.HasSuffix(got, "forget lost") {
				t.Errorf("calls = %s", got)
			}
		})
	})
	t.Run("its object cannot be read", func(t *testing.T) {
		inHouse(t, thingDef, nil, func(h house) {
			h.SetState("mine", "Accepted")
			h.SetState("lost", "Accepted")
			h.thing("bad", map[string]any{"queue": int64(7), "app": "mine", "early": true})
			h.start()
			h.m.AppChanged(is("mine", "Accepted"))
			h.m.AppChanged(is("lost", "Accepted"))
			h.want("")
			h.set("bad", "spec", "queue", "root.q")
			h.want("forget lost")
		})
	})
}

type stubborn struct {
	protocol.ApplicationManagementProtocol
	refuse *atomic.Bool
}

func (s *stubborn) RemoveApplication(id string) error {
	if s.refuse.Load() {
		return errTest
	}
	return s.ApplicationManagementProtocol.RemoveApplication(id)
}

func TestTheDefinitionIsCheckedAgainstTheCluster(t *testing.T) {
	d := thingDef
	d.Queue = "object.spec.nothing"
	inHouse(t, d, nil, func(h house) {
		h.m.schemaOf = func(schema.GroupVersionKind) (*spec.Schema, error) { return thingSchema(t), nil }
		h.start()
		is := h.m.Describe()[0]
		if !is.Served || is.Name != "example.org/v1, Kind=Thing" || !strings.Contains(is.LastError, "undefined field 'nothing'") {
			t.Errorf("described as %+v", is)
		}
	})
}

func TestMatch(t *testing.T) {
	d := thingDef
	d.Match = "!has(object.spec.foreign)"
	inHouse(t, d, nil, func(h house) {
		h.start()
		h.thing("a", map[string]any{"foreign": true, "early": true})
		h.AddPod(pod("p", "a"))
		h.want("")
		if h.m.Claims(pod("p", "a")) {
			t.Error("the pod of an object that does not match is claimed")
		}
	})
}

func TestRules(t *testing.T) {
	d, err := Preset("rayjob")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range d.Rules() {
		got = append(got, strings.Join(r.Verbs, ",")+" "+r.Resources[0]+"."+r.APIGroups[0])
	}
	want := "get,list,watch rayjobs.ray.io; get rayclusters.ray.io; get jobs.batch"
	if strings.Join(got, "; ") != want {
		t.Errorf("rules = %s, want %s", strings.Join(got, "; "), want)
	}
}

func TestNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := managerstest.New(t, map[schema.GroupVersionResource]string{things: "Thing"})
		deps := w.Deps("jobs")
		deps.Settings = func(into any) error { into.(*Definition).Preset = "job"; return nil }
		m, err := New(deps)
		if err != nil || m.Name() != "jobs" {
			t.Fatalf("%v, %v", m, err)
		}
		m.Stop()
		deps.Settings = func(into any) error { into.(*Definition).Kind = "Thing"; return nil }
		if _, err := New(deps); err == nil || !strings.Contains(err.Error(), "definition jobs: kind: apiVersion and kind are needed") {
			t.Errorf("settings that are wrong: %v", err)
		}
	})
}
