package standby

import (
	"log/slog"
	"maps"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/general"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// podsOf is an informer that has seen these pods.
func podsOf(list map[string]*v1.Pod) cache.SharedIndexInformer {
	informer := cache.NewSharedIndexInformer(nil, &v1.Pod{}, 0, nil)
	for _, pod := range list {
		if err := informer.GetStore().Add(pod); err != nil {
			panic(err)
		}
	}
	return synced{informer}
}

type synced struct{ cache.SharedIndexInformer }

func (synced) HasSynced() bool { return true }

type onlyPods struct{ informer cache.SharedIndexInformer }

func (c onlyPods) PodInformer() cache.SharedIndexInformer { return c.informer }
func (onlyPods) Namespace(string) *v1.Namespace           { return nil }

func podsManager(t *testing.T, pods map[string]*v1.Pod) staff {
	manager, err := general.New(managers.Deps{
		Name: general.Name, Settings: func(any) error { return nil }, Cluster: onlyPods{podsOf(pods)},
		SchedulerName: "yunikorn", Resources: engine.ResourcesOf, Claimed: func(*v1.Pod) string { return "" },
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return staffOf(manager)
}

// edited are the ways in which a user may change what a pod says it belongs to.
var edited = map[string]func(*v1.Pod){
	"relabelled":       func(p *v1.Pod) { p.Labels[workload.KeyAppID] = "other" },
	"label removed":    func(p *v1.Pod) { delete(p.Labels, workload.KeyAppID) },
	"of Spark":         func(p *v1.Pod) { p.Labels = map[string]string{workload.LabelSparkAppID: "other"} },
	"by an annotation": func(p *v1.Pod) { p.Labels = nil; p.Annotations = map[string]string{workload.KeyAppID: "other"} },
	"to be ignored":    func(p *v1.Pod) { p.Annotations = map[string]string{workload.AnnotationIgnore: "true"} },
}

// before is a ledger and its pods: one that waits, one whose binding is under way,
// one that is bound, and the placeholder of a gang.
func before() (*ledger.Ledger, map[string]*v1.Pod) {
	l, pods := ledger.New(), make(map[string]*v1.Pod)
	for id, node := range map[string]string{"waits": "", "decided": "n1", "bound": "n1", "holds": "n2"} {
		pod := testPod(id, node, v1.PodPending)
		pod.Spec.SchedulerName = "yunikorn"
		pod.Labels = map[string]string{workload.KeyAppID: "first"}
		pods[id] = pod
	}
	for _, event := range []ledger.Event{
		ledger.AddApp{Stamp: stamp(1), ID: "first", Manager: general.Name, Submitted: 1},
		ledger.AppAccepted{Stamp: stamp(2), AppID: "first"},
		ledger.AddApp{Stamp: stamp(1), ID: "gang", Manager: general.Name, Submitted: 1, TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 2}}},
		ledger.AppAccepted{Stamp: stamp(2), AppID: "gang"},
	} {
		l.Step(event)
	}
	for id, pod := range pods {
		add := ledger.AddTask{
			Stamp: stamp(3), AppID: "first", ID: id, Namespace: pod.Namespace, Name: pod.Name, Resources: engine.ResourcesOf(pod),
		}
		switch id {
		case "decided":
			l.Step(add)
			l.Step(ledger.Allocated{Stamp: stamp(4), AppID: "first", TaskID: id, Node: "n1"})
			continue
		case "holds":
			add.AppID, add.Placeholder, add.TaskGroup = "gang", true, "g"
			pod.Labels[workload.KeyAppID] = "gang"
			pod.Annotations = map[string]string{workload.AnnotationPlaceholder: "true", workload.AnnotationTaskGroupName: "g"}
		}
		add.Node = pod.Spec.NodeName
		l.Step(add)
	}
	return l, pods
}

// TestRelabelledPodsArePromotedAsOneTask: whatever the labels of a pod say by then, a
// new lead finds the task that it is, and the engine counts what the ledger counts.
// Doubled records of older versions are gone afterwards.
func TestRelabelledPodsArePromotedAsOneTask(t *testing.T) {
	for name, edit := range edited {
		for _, doubled := range []bool{false, true} {
			state, pods := before()
			if doubled {
				other := &ledger.App{ID: "other", State: ledger.AppStateRunning, Manager: general.Name, Submitted: 9}
				state.Apply(ledger.Change{Key: ledger.Key{AppID: "other"}, App: other})
				for id := range pods {
					double := *state.TaskByID(id)
					double.AppID = "other"
					state.Apply(ledger.Change{Key: ledger.Key{AppID: "other", TaskID: id}, Task: &double})
				}
			}
			want := states(state)
			want["decided"] = [2]string{"first", string(ledger.TaskStateBound)}
			e := newHeldEngine(t)
			s := testStandby(state, e.do)
			s.feedFrom(state)

			var findings []finding
			for id, pod := range pods {
				edit(pod)
				task := state.TaskByID(id)
				if agrees := agree(task, pod, "yunikorn"); agrees != (id != "decided") {
					t.Errorf("%s: ledger and cluster agree about the pod that %s: %v", name, id, agrees)
				}
				// To look at all of them, as after a restart, changes nothing.
				findings = append(findings, finding{ledger.Key{AppID: task.AppID, TaskID: id}, true, pod})
			}
			events, unassigned, _ := reconciliation(state, podsManager(t, pods), "yunikorn", findings, time.Unix(100, 0))
			for _, event := range events {
				for _, c := range state.Step(event).Changes {
					s.feed(state, c.Key)
				}
			}
			if got := states(state); !maps.Equal(got, want) {
				t.Errorf("%s, doubled %v: tasks are %v, want %v", name, doubled, got, want)
			}
			for double := range state.Doubles() {
				t.Errorf("%s: task %s is still doubled in %s", name, double.ID, double.AppID)
			}
			if !doubled && state.Counts().Apps[ledger.AppStateRecovering] > 0 {
				t.Errorf("%s: an application has been made up: %v", name, state.Counts())
			}
			if len(unassigned) != 1 || unassigned[0] != pods["waits"] {
				t.Errorf("%s: for the manager to report: %d pods", name, len(unassigned))
			}
			e.check(state)
		}
	}
}

// states says of each task whose it is and in which state.
func states(l *ledger.Ledger) map[string][2]string {
	all := make(map[string][2]string)
	for app := range l.Apps() {
		for task := range l.Tasks(app.ID) {
			all[task.ID] = [2]string{app.ID, string(task.State)}
		}
	}
	return all
}

// TestApplicationOfARelabelledPodIsRecovered: its record is lost, or it has been set
// aside with its tasks.
func TestApplicationOfARelabelledPodIsRecovered(t *testing.T) {
	for name, lose := range map[string]func(*ledger.Ledger){
		"lost":      func(l *ledger.Ledger) { l.Apply(ledger.Change{Key: ledger.Key{AppID: "first"}}) },
		"set aside": func(l *ledger.Ledger) { l.SetAside("first") },
	} {
		state, pods := before()
		lose(state)
		edited["relabelled"](pods["bound"])
		findings := []finding{{ledger.Key{AppID: "first", TaskID: "bound"}, true, pods["bound"]}}
		events, _, _ := reconciliation(state, podsManager(t, pods), "yunikorn", findings, time.Unix(100, 0))
		for _, event := range events {
			state.Step(event)
		}
		app, task := state.App("first"), state.Task("first", "bound")
		if app == nil || task == nil || task.State != ledger.TaskStateBound || state.App("other") != nil {
			t.Errorf("%s: recovered are %+v and %+v, made up is %+v", name, app, task, state.App("other"))
		}
	}
}

// TestSuspectsAreLookedUpByUID: what is said of a pod under another application is
// said of the task.
func TestSuspectsAreLookedUpByUID(t *testing.T) {
	state := ledger.New()
	s := testStandby(state, newHeldEngine(t).do)
	state.Step(ledger.AddApp{Stamp: stamp(1), ID: "a"})
	state.Step(ledger.AddTask{Stamp: stamp(2), AppID: "a", ID: "x"}) // without a pod name there is no pod
	s.feedFrom(state)
	s.noteTask("b", "x")
	if found := s.finish(state); len(found) != 1 || found[0].key.AppID != "a" {
		t.Errorf("findings %v", found)
	}
}

// TestStandbyFollowsDoubledRecords: in whatever order records of one task under
// several applications come and go, the engine knows what a new one would be fed.
func TestStandbyFollowsDoubledRecords(t *testing.T) {
	app := func(id string, age int64) ledger.Change {
		return ledger.Change{Key: ledger.Key{AppID: id}, App: &ledger.App{ID: id, State: ledger.AppStateRunning, Submitted: ledger.Time(age)}}
	}
	task := func(app, node string, state ledger.TaskState) ledger.Change {
		return ledger.Change{Key: ledger.Key{AppID: app, TaskID: "t"}, Task: &ledger.Task{AppID: app, ID: "t", Node: node, State: state}}
	}
	for name, changes := range map[string][]ledger.Change{
		"the older comes later":      {app("b", 2), task("b", "n1", ledger.TaskStateBound), app("a", 1), task("a", "n1", ledger.TaskStateBound)},
		"its application comes last": {app("b", 2), task("b", "n1", ledger.TaskStateBound), task("a", "n1", ledger.TaskStateBound), app("a", 1)},
		"one ends": {
			app("a", 1), app("b", 2), task("a", "n1", ledger.TaskStateBound), task("b", "n2", ledger.TaskStateBound),
			task("a", "n1", ledger.TaskStateCompleted),
		},
		"the task's goes": {
			app("a", 1), app("b", 2), task("a", "n1", ledger.TaskStateBound), task("b", "n2", ledger.TaskStateBound),
			{Key: ledger.Key{AppID: "a", TaskID: "t"}},
		},
		"the double goes": {
			app("a", 1), app("b", 2), task("b", "n2", ledger.TaskStateBound), task("a", "n1", ledger.TaskStateBound),
			{Key: ledger.Key{AppID: "b", TaskID: "t"}},
		},
		"the application goes": {
			app("a", 1), app("b", 2), task("a", "n1", ledger.TaskStateBound), task("b", "n2", ledger.TaskStateBound),
			{Key: ledger.Key{AppID: "a"}},
		},
	} {
		e := newHeldEngine(t)
		l := ledger.New()
		s := testStandby(l, e.do)
		s.feedFrom(l)
		for _, c := range changes {
			l.Apply(c)
			s.Apply(l, c)
			e.check(l)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}
