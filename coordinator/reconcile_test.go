package coordinator

import (
	"slices"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// listing is an app manager that lists what it is given.
type listing struct {
	apps map[string]protocol.ApplicationMetadata
}

func (listing) Name() string { return "general" }
func (l listing) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	return l.apps, nil
}
func (listing) GetExistingAllocation(pod *v1.Pod) *si.Allocation {
	return &si.Allocation{AllocationKey: string(pod.UID), NodeID: pod.Spec.NodeName}
}

func testPod(uid, node string, phase v1.PodPhase) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod-" + uid, UID: types.UID(uid)},
		Spec:       v1.PodSpec{NodeName: node},
		Status:     v1.PodStatus{Phase: phase},
	}
}

func taskOf(pod *v1.Pod) (protocol.TaskMetadata, bool) {
	return protocol.TaskMetadata{ApplicationID: "a", TaskID: string(pod.UID), Pod: pod}, true
}

// reconciled steps what the reconciliation finds into l.
func reconciled(t *testing.T, l *ledger.Ledger, pods ...*v1.Pod) (binds []string) {
	t.Helper()
	manager := listing{map[string]protocol.ApplicationMetadata{"a": {ApplicationID: "a", CreationTime: 1}}}
	events, err := reconciliation(l, []recoverer{manager}, pods, taskOf, time.Unix(100, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		for _, effect := range l.Step(event).Effects {
			if bind, ok := effect.(ledger.Bind); ok {
				binds = append(binds, bind.Task.ID)
			}
		}
	}
	return binds
}

// TestMirrorLostPodsTell is guarantee 5: with nothing but the cluster, every
// bound pod is a bound task of a live application.
func TestMirrorLostPodsTell(t *testing.T) {
	l := ledger.New()
	reconciled(t, l, testPod("x", "n1", v1.PodRunning), testPod("y", "n2", v1.PodRunning), testPod("z", "", v1.PodPending))
	if app := l.App("a"); app == nil || app.State != ledger.AppStateRecovering {
		t.Fatalf("application: %+v", app)
	}
	for uid, node := range map[string]string{"x": "n1", "y": "n2"} {
		if task := l.Task("a", uid); task == nil || task.State != ledger.TaskStateBound || task.Node != node {
			t.Errorf("task %s: %+v", uid, task)
		}
	}
	if l.Task("a", "z") != nil {
		t.Error("a pod that is not assigned was recovered instead of left to its manager")
	}
}

// TestKubernetesDecidesWhatIsBound: the cluster confirms one intent, overrides
// another, leaves a third to be carried out, and takes away what has no pod.
func TestKubernetesDecidesWhatIsBound(t *testing.T) {
	l := ledger.New()
	l.Step(ledger.AddApp{Stamp: stamp(1), ID: "a"})
	l.Step(ledger.AppAccepted{Stamp: stamp(2), AppID: "a"})
	for _, id := range []string{"confirmed", "elsewhere", "unbound", "vanished"} {
		l.Step(ledger.AddTask{Stamp: stamp(3), AppID: "a", ID: id, Namespace: "ns", Name: "pod-" + id})
		l.Step(ledger.Allocated{Stamp: stamp(4), AppID: "a", TaskID: id, Node: "n1"})
	}
	binds := reconciled(t, l,
		testPod("confirmed", "n1", v1.PodRunning), testPod("elsewhere", "n2", v1.PodRunning), testPod("unbound", "", v1.PodPending))

	for id, want := range map[string]struct {
		state ledger.TaskState
		node  string
	}{
		"confirmed": {ledger.TaskStateBound, "n1"},
		"elsewhere": {ledger.TaskStateBound, "n2"},
		"unbound":   {ledger.TaskStateAllocated, "n1"},
	} {
		if task := l.Task("a", id); task == nil || task.State != want.state || task.Node != want.node {
			t.Errorf("%s: %+v, want %v", id, task, want)
		}
	}
	if l.Task("a", "vanished") != nil {
		t.Error("a task whose pod is gone was kept")
	}
	if len(binds) != 0 {
		t.Errorf("reconciling itself bound %v", binds)
	}
	var due []string
	for _, effect := range l.Due(ledger.At(time.Unix(101, 0))) {
		if bind, ok := effect.(ledger.Bind); ok {
			due = append(due, bind.Task.ID)
		}
	}
	if !slices.Equal(due, []string{"unbound"}) {
		t.Errorf("binds due after recovery: %v", due)
	}
}

// TestTerminatedPodCompletesItsTask: a pod that ended while nobody led.
func TestTerminatedPodCompletesItsTask(t *testing.T) {
	l := ledger.New()
	reconciled(t, l, testPod("x", "n1", v1.PodRunning))
	reconciled(t, l, testPod("x", "n1", v1.PodSucceeded))
	if task := l.Task("a", "x"); task == nil || task.State != ledger.TaskStateCompleted {
		t.Fatalf("%+v", task)
	}
}

// TestIdleApplicationCompletes: its last pod ended while nobody led, so no engine
// will ever complete it.
func TestIdleApplicationCompletes(t *testing.T) {
	l := ledger.New()
	reconciled(t, l, testPod("x", "n1", v1.PodRunning))
	l.Step(ledger.AppAccepted{Stamp: stamp(1), AppID: "a"})
	if events := idle(l, "general", time.Unix(100, 0)); len(events) != 0 {
		t.Fatalf("an application with a pod was to end: %+v", events)
	}
	reconciled(t, l, testPod("x", "n1", v1.PodSucceeded))
	for _, event := range idle(l, "general", time.Unix(101, 0)) {
		l.Step(event)
	}
	if app := l.App("a"); app.State != ledger.AppStateCompleted {
		t.Fatalf("the application is %s", app.State)
	}
}
