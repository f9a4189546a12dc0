package standby

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/general"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// oneApp is an app manager to which every pod belongs to application a.
type oneApp struct{ protocol.AppManager }

func (oneApp) Name() string { return general.Name }

func (oneApp) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	return map[string]protocol.ApplicationMetadata{"a": {ApplicationID: "a", CreationTime: 1}}, nil
}

func (oneApp) GetExistingAllocation(pod *v1.Pod) *si.Allocation {
	return &si.Allocation{ApplicationID: "a", AllocationKey: string(pod.UID), NodeID: pod.Spec.NodeName}
}

// staffOf are managers behind closed gates, of which nothing is followed.
func staffOf(list ...protocol.AppManager) (st staff) {
	for _, m := range list {
		gate := managers.NewGate(managers.GateConfig{
			Manager: m.Name(), Read: func(func(*ledger.Ledger)) bool { return false },
			Suspect: func(string, string, *v1.Pod) {}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		st = append(st, &member{AppManager: m, name: m.Name(), gate: gate, log: slog.New(slog.DiscardHandler)})
	}
	return st
}

func testPod(uid, node string, phase v1.PodPhase) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod-" + uid, UID: types.UID(uid)},
		Spec:       v1.PodSpec{NodeName: node},
		Status:     v1.PodStatus{Phase: phase},
	}
}

// reconciled steps what the reconciliation makes of the pods and of the tasks
// without one, as far as they do not agree, into l.
func reconciled(t *testing.T, l *ledger.Ledger, pods ...*v1.Pod) (binds []string, unassigned []*v1.Pod) {
	t.Helper()
	var findings []finding
	exists := map[string]bool{}
	for _, pod := range pods {
		key := ledger.Key{AppID: "a", TaskID: string(pod.UID)}
		exists[key.TaskID] = true
		if !agree(l.Task(key.AppID, key.TaskID), pod, "") {
			findings = append(findings, finding{key, l.TaskByID(key.TaskID) != nil, pod})
		}
	}
	for task := range l.Tasks("a") {
		if !exists[task.ID] && !agree(task, nil, "") {
			findings = append(findings, finding{key: ledger.Key{AppID: "a", TaskID: task.ID}, recorded: true})
		}
	}
	events, unassigned, _ := reconciliation(l, staffOf(oneApp{}), "", findings, time.Unix(100, 0))
	for _, event := range events {
		for _, effect := range l.Step(event).Effects {
			if bind, ok := effect.(ledger.Bind); ok {
				binds = append(binds, bind.Task.ID)
			}
		}
	}
	return binds, unassigned
}

// TestMirrorLostPodsTell is guarantee 5: with nothing but the cluster, every
// bound pod is a bound task of a live application.
func TestMirrorLostPodsTell(t *testing.T) {
	l := ledger.New()
	_, unassigned := reconciled(t, l, testPod("x", "n1", v1.PodRunning), testPod("y", "n2", v1.PodRunning), testPod("z", "", v1.PodPending))
	if app := l.App("a"); app == nil || app.State != ledger.AppStateRecovering {
		t.Fatalf("application: %+v", app)
	}
	for uid, node := range map[string]string{"x": "n1", "y": "n2"} {
		if task := l.Task("a", uid); task == nil || task.State != ledger.TaskStateBound || task.Node != node {
			t.Errorf("task %s: %+v", uid, task)
		}
	}
	if l.Task("a", "z") != nil || len(unassigned) != 1 || unassigned[0].UID != "z" {
		t.Errorf("a pod that is not assigned is for its manager to report: %v", unassigned)
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
	binds, _ := reconciled(t, l,
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

// TestAnIdleApplicationIsLeftToTheEngine: its last pod ended while nobody led. The engine is
// told of it: its next pod may come before it is completed, as it may without a failover.
func TestAnIdleApplicationIsLeftToTheEngine(t *testing.T) {
	for _, groups := range [][]v1alpha1.TaskGroup{nil, {{Name: "g", MinMember: 1}}} {
		l := ledger.New()
		l.Step(ledger.AddApp{ID: "a", Manager: "general", TaskGroups: groups, Recovery: true})
		reconciled(t, l, testPod("x", "n1", v1.PodRunning))
		l.Step(ledger.AppAccepted{Stamp: stamp(1), AppID: "a"})
		reconciled(t, l, testPod("x", "n1", v1.PodSucceeded))
		if events := idle(l, nil, time.Unix(100, 0)); len(events) != 0 {
			t.Errorf("an application with groups %v is to end: %+v", groups, events)
		}
		told := newHeldEngine(t)
		testStandby(l, told.do).feedFrom(l)
		if !told.apps["a"] || l.App("a").State != ledger.AppStateRunning {
			t.Errorf("the engine is told of %v, the application with groups %v is %s", told.apps, groups, l.App("a").State)
		}
	}
}

// described is a manager that follows a resource.
type described struct{ oneApp }

func (described) Name() string               { return "described" }
func (described) Describe() []serve.Resource { return nil }

// A lead that died before it had heard of the pod left a gang that waits for nobody. One
// that a resource describes waits for its pods, and one whose pod is to be told of for that.
func TestAGangWithoutAPodCompletes(t *testing.T) {
	for manager, want := range map[string]ledger.AppState{
		general.Name: ledger.AppStateCompleted, "described": ledger.AppStateReserving, "expecting": ledger.AppStateReserving,
	} {
		st := staffOf(oneApp{}, described{})
		if manager == "expecting" {
			st[0].gate.AddTask(&protocol.AddTaskRequest{Metadata: protocol.TaskMetadata{
				ApplicationID: "a", TaskID: "x", Pod: testPod("x", "", v1.PodPending),
			}})
		}
		l := ledger.New()
		l.Step(ledger.AddApp{ID: "a", Manager: manager, TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}})
		l.Step(ledger.AppAccepted{AppID: "a"})
		for _, event := range idle(l, st, time.Unix(100, 0)) {
			l.Step(event)
		}
		if app := l.App("a"); app.State != want {
			t.Errorf("the application of %s is %s, want %s", manager, app.State, want)
		}
	}
}

// The application began with its oldest pod, whatever the pods are called.
func TestMirrorLostTheOldestPodIsTheOriginator(t *testing.T) {
	findings := []finding{}
	for uid, age := range map[string]int{"a": 1, "b": 3, "c": 2} {
		pod := testPod(uid, "n1", v1.PodRunning)
		pod.CreationTimestamp = metav1.Unix(int64(100-age), 0)
		findings = append(findings, finding{ledger.Key{AppID: "a", TaskID: uid}, false, pod})
	}
	inOrder(findings)
	l := ledger.New()
	events, _, _ := reconciliation(l, staffOf(oneApp{}), "", findings, time.Unix(200, 0))
	for _, event := range events {
		l.Step(event)
	}
	if app := l.App("a"); app.Originator != "b" {
		t.Errorf("the originator is %q", app.Originator)
	}
}

// TestAgree: what ledger and cluster agree about costs a new lead nothing; what
// they do not agree about must never be taken for settled.
func TestAgree(t *testing.T) {
	task := func(state ledger.TaskState, node string) *ledger.Task {
		return &ledger.Task{State: state, Node: node, Resources: map[string]int64{"pods": 1}}
	}
	deleted := testPod("x", "", v1.PodPending)
	deleted.DeletionTimestamp = &metav1.Time{}
	foreign := testPod("x", "n1", v1.PodRunning)
	foreign.Spec.SchedulerName = "other"
	grown := task(ledger.TaskStateBound, "n1")
	grown.Resources = map[string]int64{"pods": 1, "vcore": 100}
	for name, c := range map[string]struct {
		task *ledger.Task
		pod  *v1.Pod
		want bool
	}{
		"nothing":                        {nil, nil, true},
		"a task without a pod":           {task(ledger.TaskStateBound, "n1"), nil, false},
		"bound as the ledger says":       {task(ledger.TaskStateBound, "n1"), testPod("x", "n1", v1.PodRunning), true},
		"bound elsewhere":                {task(ledger.TaskStateBound, "n2"), testPod("x", "n1", v1.PodRunning), false},
		"bound and not confirmed":        {task(ledger.TaskStateAllocated, "n1"), testPod("x", "n1", v1.PodPending), false},
		"bound and never decided":        {task(ledger.TaskStateScheduling, ""), testPod("x", "n1", v1.PodPending), false},
		"bound and not known":            {nil, testPod("x", "n1", v1.PodRunning), false},
		"of another size":                {grown, testPod("x", "n1", v1.PodRunning), false},
		"waiting":                        {task(ledger.TaskStateScheduling, ""), testPod("x", "", v1.PodPending), true},
		"new":                            {nil, testPod("x", "", v1.PodPending), false},
		"not to be bound any more":       {nil, deleted, true},
		"asked for, not to be bound":     {task(ledger.TaskStateScheduling, ""), deleted, false},
		"decided, not to be bound":       {task(ledger.TaskStateAllocated, "n1"), deleted, false},
		"completed, not to be bound":     {task(ledger.TaskStateCompleted, ""), deleted, true},
		"terminated":                     {task(ledger.TaskStateCompleted, "n1"), testPod("x", "n1", v1.PodSucceeded), true},
		"terminated and not completed":   {task(ledger.TaskStateBound, "n1"), testPod("x", "n1", v1.PodFailed), false},
		"terminated and forgotten":       {nil, testPod("x", "n1", v1.PodSucceeded), true},
		"of another scheduler":           {nil, foreign, true},
		"placeholder that is being shed": {&ledger.Task{State: ledger.TaskStateKilling, Node: "n1", DeletePod: true}, testPod("x", "n1", v1.PodRunning), true},
	} {
		if got := agree(c.task, c.pod, ""); got != c.want {
			t.Errorf("%s: agree is %v", name, got)
		}
	}
}

// Records that could not be read are written as the ledger has them in the end;
// only what a newer version says of things that do not exist is kept for it.
func TestRepairs(t *testing.T) {
	l := ledger.New()
	reconciled(t, l, testPod("x", "n1", v1.PodRunning))
	keys := record.Keys{Prefix: "/p"}
	corrupt, newer := fmt.Errorf("key: %w", record.ErrCorrupt), fmt.Errorf("key: %w", record.ErrNewerSchema)
	changes := repairs(l, []view.Refused{
		{Key: keys.App("a"), Err: corrupt},
		{Key: keys.Task("a", "x"), Err: newer},
		{Key: keys.Task("a", "gone"), Err: corrupt},
		{Key: keys.App("gone"), Err: newer},
		{Key: keys.Term(7), Err: corrupt},
	}, keys)
	want := []ledger.Change{
		{Key: ledger.Key{AppID: "a"}, App: l.App("a")},
		{Key: ledger.Key{AppID: "a", TaskID: "x"}, Task: l.Task("a", "x")},
		{Key: ledger.Key{AppID: "a", TaskID: "gone"}},
	}
	if !slices.Equal(changes, want) {
		t.Errorf("changes %+v\nwant    %+v", changes, want)
	}
}

// The record of an application cannot be read, those of its tasks can: the pods
// tell of the application, and tasks without one go.
func TestApplicationLostPodsTell(t *testing.T) {
	l := ledger.New()
	for _, task := range []ledger.Task{
		{ID: "bound", State: ledger.TaskStateBound, Node: "n1"},
		{ID: "decided", State: ledger.TaskStateAllocated, Node: "n2"},
		{ID: "vanished", State: ledger.TaskStateBound, Node: "n3"},
		{ID: "ended", State: ledger.TaskStateBound, Node: "n4"},
	} {
		task.AppID, task.Namespace, task.Name = "a", "ns", "pod-"+task.ID
		l.Apply(ledger.Change{Key: ledger.Key{AppID: "a", TaskID: task.ID}, Task: &task})
	}
	pods := []*v1.Pod{testPod("bound", "n1", v1.PodRunning), testPod("decided", "", v1.PodPending), testPod("ended", "n4", v1.PodSucceeded)}
	s := testStandby(l, nil)
	s.feedFrom(l)
	if len(s.suspects) != 4 {
		t.Errorf("tasks without an application are not looked at: %v", s.suspects)
	}
	var findings []finding
	for uid, at := range s.suspects {
		f := finding{key: ledger.Key{AppID: at.app, TaskID: uid}, recorded: true}
		if i := slices.IndexFunc(pods, func(p *v1.Pod) bool { return string(p.UID) == uid }); i >= 0 {
			f.pod = pods[i]
		}
		findings = append(findings, f)
	}
	events, unassigned, _ := reconciliation(l, staffOf(oneApp{}), "", findings, time.Unix(100, 0))
	var binds []string
	for _, event := range events {
		for _, effect := range l.Step(event).Effects {
			if bind, ok := effect.(ledger.Bind); ok {
				binds = append(binds, bind.Task.ID)
			}
		}
	}
	if app := l.App("a"); app == nil || app.State != ledger.AppStateRecovering {
		t.Fatalf("application: %+v", app)
	}
	if want := []string{"decided"}; !slices.Equal(binds, want) || len(unassigned) != 1 {
		t.Errorf("binds %v, want %v; unassigned %d, want 1", binds, want, len(unassigned))
	}
	for uid, state := range map[string]ledger.TaskState{"bound": ledger.TaskStateBound, "decided": ledger.TaskStateAllocated, "vanished": "", "ended": ""} {
		if task := l.Task("a", uid); task == nil && state != "" || task != nil && task.State != state {
			t.Errorf("task %s: %+v, want %q", uid, task, state)
		}
	}
}

// TestADeletedPodThatWaitedIsOver: nothing is asked for it after a failover, as long as
// a finalizer may keep it.
func TestADeletedPodThatWaitedIsOver(t *testing.T) {
	l := ledger.New()
	reconciled(t, l, testPod("run", "n1", v1.PodRunning))
	l.Step(ledger.AddTask{AppID: "a", ID: "wait", Resources: map[string]int64{"pods": 1}})
	leaving := testPod("wait", "", v1.PodPending)
	leaving.DeletionTimestamp = &metav1.Time{}
	if _, unassigned := reconciled(t, l, leaving, testPod("run", "n1", v1.PodRunning)); len(unassigned) > 0 {
		t.Errorf("reported as waiting: %v", unassigned)
	}
	if task := l.Task("a", "wait"); task != nil && !task.State.Terminal() {
		t.Errorf("still %s", task.State)
	}
}

// TestAPodToBeIgnoredOccupiesItsNode: by whoever it was bound.
func TestAPodToBeIgnoredOccupiesItsNode(t *testing.T) {
	s := &Standby{cfg: Config{SchedulerName: "yunikorn"}}
	for name, c := range map[string]struct {
		scheduler, ignore string
		want              bool
	}{
		"ours":              {"yunikorn", "", false},
		"ours, ignore":      {"yunikorn", "true", true},
		"ours, not ignored": {"yunikorn", "false", false},
		"others'":           {"other", "", true},
	} {
		pod := testPod("x", "n1", v1.PodRunning)
		pod.Spec.SchedulerName = c.scheduler
		pod.Annotations = map[string]string{workload.AnnotationIgnore: c.ignore}
		if got := s.foreign(pod); got != c.want {
			t.Errorf("%s: foreign is %v", name, got)
		}
	}
}
