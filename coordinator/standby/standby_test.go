package standby

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// heldEngine is what an engine would know of what it is told.
type heldEngine struct {
	t      *testing.T
	apps   map[string]bool
	placed map[string]string // task to node
	owner  map[string]string // task to application
}

func newHeldEngine(t *testing.T) *heldEngine {
	return &heldEngine{t: t, apps: map[string]bool{}, placed: map[string]string{}, owner: map[string]string{}}
}

func (e *heldEngine) do(effect ledger.Effect) error {
	switch x := effect.(type) {
	case ledger.SubmitApp:
		if !x.Recovery {
			e.t.Errorf("application %s might be refused", x.App.ID)
		}
		e.apps[x.App.ID] = true
	case ledger.ForgetApp:
		delete(e.apps, x.AppID)
		for task, app := range e.owner {
			if app == x.AppID {
				delete(e.placed, task)
				delete(e.owner, task)
			}
		}
	case ledger.Restore:
		if !e.apps[x.App.ID] {
			e.t.Errorf("task %s before its application", x.Task.ID)
		}
		e.placed[x.Task.ID], e.owner[x.Task.ID] = x.Task.Node, x.App.ID
	case ledger.Release:
		if owner := e.owner[x.Task.ID]; owner != "" && owner != x.Task.AppID {
			return nil // said of a double
		}
		delete(e.placed, x.Task.ID)
		delete(e.owner, x.Task.ID)
	default:
		e.t.Errorf("a held engine was asked for %T", effect)
	}
	return nil
}

// fixedView is a view of a state that only the test changes.
type fixedView struct{ state *ledger.Ledger }

func (v fixedView) Synced() bool { return true }

func (v fixedView) Read(read func(*ledger.Ledger)) bool {
	read(v.state)
	return true
}

func (v fixedView) Configuration() (record.Configuration, bool) { return record.Configuration{}, false }

func stamp(at int64) ledger.Stamp { return ledger.Stamp{At: ledger.Time(at)} }

func testStandby(state *ledger.Ledger, tell func(ledger.Effect) error) *Standby {
	s := New(Config{Log: slog.New(slog.DiscardHandler), View: fixedView{state}, Configured: func() {}, Now: time.Now})
	s.tell, s.remembered = tell, func(string) *v1.Pod { return nil }
	return s
}

// check compares what the engine knows with what a new one would be fed.
func (e *heldEngine) check(l *ledger.Ledger) {
	e.t.Helper()
	apps, placed, owner := map[string]bool{}, map[string]string{}, map[string]string{}
	for _, effect := range l.Feed() {
		switch x := effect.(type) {
		case ledger.SubmitApp:
			// A gang without allocations is told of with its first: see wants.
			if len(x.App.TaskGroups) == 0 || l.Placed(x.App.ID) > 0 {
				apps[x.App.ID] = true
			}
		case ledger.Restore:
			placed[x.Task.ID], owner[x.Task.ID] = x.Task.Node, x.App.ID
		}
	}
	if !maps.Equal(e.placed, placed) || !maps.Equal(e.owner, owner) {
		e.t.Fatalf("the engine has placed %v of %v, a new one would be told %v of %v", e.placed, e.owner, placed, owner)
	}
	for id := range apps {
		if !e.apps[id] {
			e.t.Fatalf("the engine does not know %s", id)
		}
	}
}

// TestStandbyFollowsTheLedger steps random events on a lead's ledger and applies
// their changes, in an order that a mirror may deliver, to a standby: its engine
// must always know what one that is fed from nothing would.
func TestStandbyFollowsTheLedger(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		lead, e := ledger.New(), newHeldEngine(t)
		followed := ledger.New()
		s := testStandby(followed, e.do)
		s.feedFrom(followed)
		apps := []string{"a", "b", "gang"}
		for i := range 150 {
			event := randomEvent(r, apps[r.IntN(len(apps))], fmt.Sprint("t", r.IntN(6)), int64(i+1))
			changes := lead.Step(event).Changes
			// Of one step, etcd delivers the keys in any order.
			r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
			for _, c := range changes {
				followed.Apply(c)
				s.Apply(followed, c)
			}
			e.check(lead)
			if t.Failed() {
				t.Fatalf("seed %d, after %T", seed, event)
			}
		}
		// One that starts late, from a copy, knows the same.
		late := newHeldEngine(t)
		testStandby(lead, late.do).feedFrom(lead)
		late.check(lead)
	}
}

func randomEvent(r *rand.Rand, app, task string, at int64) ledger.Event {
	at *= 1e9
	task = app + "-" + task
	node := fmt.Sprint("n", r.IntN(3))
	switch r.IntN(12) {
	case 0, 1:
		add := ledger.AddApp{Stamp: stamp(at), ID: app, Recovery: r.IntN(3) == 0}
		if app == "gang" {
			add.TaskGroups = []v1alpha1.TaskGroup{{Name: "g", MinMember: 2}}
		}
		return add
	case 2:
		return ledger.AppAccepted{Stamp: stamp(at), AppID: app, PlacedQueue: "root.q"}
	case 3, 4:
		add := ledger.AddTask{Stamp: stamp(at), AppID: app, ID: task, Namespace: "ns", Name: task}
		if r.IntN(4) == 0 {
			add.Node = node
		}
		if app == "gang" && r.IntN(2) == 0 {
			add.Placeholder, add.TaskGroup = true, "g"
		}
		return add
	case 5, 6:
		return ledger.Allocated{Stamp: stamp(at), AppID: app, TaskID: task, Node: node}
	case 7:
		return ledger.BindDone{Stamp: stamp(at), AppID: app, TaskID: task, Node: node}
	case 8:
		return ledger.CompleteTask{Stamp: stamp(at), AppID: app, TaskID: task}
	case 9:
		return ledger.RemoveTask{Stamp: stamp(at), AppID: app, TaskID: task}
	case 10:
		return ledger.Released{Stamp: stamp(at), AppID: app, TaskID: task, Termination: ledger.PreemptedByEngine}
	default:
		ends := []ledger.Event{
			ledger.AppEnded{Stamp: stamp(at), AppID: app, State: ledger.AppStateCompleted},
			ledger.FailApp{Stamp: stamp(at), AppID: app, Message: "x"},
			ledger.RemoveApp{Stamp: stamp(at), AppID: app},
		}
		return ends[r.IntN(len(ends))]
	}
}

// TestOnlyOneWhoDoesNotLeadTakesNotes: after the promotion nothing is noted any
// more, and what had been noted is handed over once.
func TestOnlyOneWhoDoesNotLeadTakesNotes(t *testing.T) {
	state := ledger.New()
	s := testStandby(state, newHeldEngine(t).do)
	state.Step(ledger.AddApp{Stamp: stamp(1), ID: "a"})
	state.Step(ledger.AddTask{Stamp: stamp(2), AppID: "a", ID: "x"}) // without a pod name there is no pod
	s.feedFrom(state)
	s.noteTask("a", "gone") // neither has it: settled
	findings := s.finish(state)
	want := []finding{{key: ledger.Key{AppID: "a", TaskID: "x"}, recorded: true}}
	if !slices.Equal(findings, want) {
		t.Fatalf("findings %v, want %v", findings, want)
	}
	events, _, _ := reconciliation(state, staffOf(oneApp{}), "", findings, stamp(3).At.Time())
	for _, event := range events {
		state.Step(event)
	}
	s.noteTask("a", "later")
	if again := s.finish(state); len(again) != 0 || state.Task("a", "x") != nil {
		t.Fatalf("findings %v after the promotion", again)
	}
}

// A replica that says it can lead has looked at all that it was fed.
func TestReadyOnceSettled(t *testing.T) {
	state := ledger.New()
	s := testStandby(state, newHeldEngine(t).do)
	state.Step(ledger.AddApp{Stamp: stamp(1), ID: "a"})
	state.Step(ledger.AddTask{Stamp: stamp(2), AppID: "a", ID: "x"}) // has no pod: stays a suspect
	s.noteTask("a", "gone")
	err := s.begin(func() error {
		if s.Ready() == nil {
			t.Error("ready before the engine has taken what it was told")
		}
		return nil
	})
	if err != nil || s.Ready() != nil {
		t.Fatalf("not ready: %v, %v", err, s.Ready())
	}
	if _, left := s.suspects["gone"]; left || len(s.suspects) != 1 {
		t.Errorf("ready with suspects %v", s.suspects)
	}
	broken := errors.New("stopped")
	s = testStandby(state, newHeldEngine(t).do)
	if err := s.begin(func() error { return broken }); !errors.Is(err, broken) || s.Ready() == nil {
		t.Errorf("ready with an engine that has not been fed: %v", err)
	}
}

// TestAMirrorThatWasWipedLeavesItsPodsSuspect: with the record the name of the pod is gone,
// and what pods there are has to be found all the same.
func TestAMirrorThatWasWipedLeavesItsPodsSuspect(t *testing.T) {
	state := ledger.New()
	state.Step(ledger.AddApp{Stamp: stamp(1), ID: "a"})
	state.Step(ledger.AddTask{Stamp: stamp(2), AppID: "a", ID: "x", Namespace: "ns", Name: "pod-x", Node: "n"})
	s := testStandby(state, newHeldEngine(t).do)
	s.cfg.SchedulerName = workload.DefaultSchedulerName
	pod := testPod("x", "n", v1.PodRunning)
	pod.Spec.SchedulerName = s.cfg.SchedulerName
	s.remembered = func(uid string) *v1.Pod { return map[string]*v1.Pod{"x": pod}[uid] }
	s.following = true
	for _, key := range []ledger.Key{{AppID: "a"}, {AppID: "a", TaskID: "x"}} {
		state.Apply(ledger.Change{Key: key})
		s.Apply(state, ledger.Change{Key: key})
	}
	s.settle()
	if findings := s.finish(state); len(findings) != 1 || findings[0].pod != pod {
		t.Errorf("findings %v", findings)
	}
}

// TestAnAttemptIsNotRepeatedOnANodeThatIsCordoned: a binding that has failed is tried
// again where the pod may still go, and nowhere else.
func TestAnAttemptIsNotRepeatedOnANodeThatIsCordoned(t *testing.T) {
	s := testStandby(ledger.New(), nil)
	var err error
	if s.preds, err = predicates.New(slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	node := func(name string, cordoned bool) *v1.Node {
		return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.NodeSpec{Unschedulable: cordoned}}
	}
	s.preds.SetNode(node("n", false))
	s.preds.SetNode(node("cordoned", true))
	s.preds.SetPod(testPod("x", "", v1.PodPending))
	for _, c := range []struct {
		node    string
		retries uint32
		want    error
	}{{"n", 0, nil}, {"n", 1, nil}, {"cordoned", 0, nil}, {"cordoned", 1, kube.ErrUnfit}, {"gone", 0, kube.ErrNodeGone}, {"gone", 1, kube.ErrNodeGone}} {
		if err := s.Prepare(t.Context(), &ledger.Task{ID: "x", Node: c.node, Retries: c.retries}); !errors.Is(err, c.want) {
			t.Errorf("after %d attempts on %s: %v, want %v", c.retries, c.node, err, c.want)
		}
	}
}

// What an app manager reports late puts nothing back that has passed: no version of a pod
// that is bound by now, and no pod that is gone, which would be remembered for good.
func TestALateReportOfAPodPutsNothingBack(t *testing.T) {
	old := testPod("x", "", v1.PodPending)
	old.Name, old.Namespace, old.Spec.SchedulerName = "pod-x", "ns", workload.DefaultSchedulerName
	bound := old.DeepCopy()
	bound.Spec.NodeName, bound.ResourceVersion = "n", "2"
	client := fake.NewClientset(bound)
	cluster := kube.New(&kube.Clients{Reads: client}, kube.ClusterConfig{SchedulerName: workload.DefaultSchedulerName}, slog.New(slog.DiscardHandler))
	s := testStandby(ledger.New(), nil)
	s.cfg.Cluster, s.cfg.SchedulerName = cluster, workload.DefaultSchedulerName
	var err error
	if s.preds, err = predicates.New(s.log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = cluster.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if err := cluster.Follow(ctx, follower{s}); err != nil {
		t.Fatal(err)
	}
	pods{s}.SetPod(old)
	if now := s.preds.Pod("x"); now == nil || now.Spec.NodeName != "n" {
		t.Error("a pod that is bound is known as one that is not")
	}
	if err := client.CoreV1().Pods("ns").Delete(ctx, "pod-x", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for s.preds.Pod("x") != nil {
		time.Sleep(time.Millisecond)
	}
	pods{s}.SetPod(old)
	if s.preds.Pod("x") != nil {
		t.Error("a pod that is gone is known")
	}
}
