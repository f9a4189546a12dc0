package podgroup

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/managerstest"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fields = map[string]any

var (
	beta  = schedulingv1beta1.SchemeGroupVersion.WithResource(resource)
	alpha = schedulingv1alpha3.SchemeGroupVersion.WithResource(resource)
)

func world(t *testing.T, served schema.GroupVersionResource) *managerstest.World {
	return managerstest.New(t, map[schema.GroupVersionResource]string{served: "PodGroup"})
}

func started(t *testing.T, w *managerstest.World) *Manager {
	t.Helper()
	m := newManager(w.Deps("podgroup"))
	if err := errors.Join(m.ServiceInit(), m.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	synctest.Wait()
	return m
}

// run runs a test in a world with a manager that has been started.
func run(t *testing.T, test func(*testing.T, *managerstest.World, *Manager)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := world(t, beta)
		test(t, w, started(t, w))
	})
}

// gang makes a PodGroup of the namespace ns; without a count its policy is basic.
func gang(name, uid string, minCount int64) *unstructured.Unstructured {
	policy := fields{"gang": fields{"minCount": minCount}}
	if minCount == 0 {
		policy = fields{"basic": fields{}}
	}
	o := &unstructured.Unstructured{Object: fields{
		"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "spec": fields{"schedulingPolicy": policy},
	}}
	o.SetNamespace("ns")
	o.SetName(name)
	o.SetUID(types.UID(uid))
	o.SetGeneration(1)
	return o
}

func pod(uid, group string, edit ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid)},
		Spec:       v1.PodSpec{SchedulerName: workload.DefaultSchedulerName},
	}
	if group != "" {
		p.Spec.SchedulingGroup = &v1.PodSchedulingGroup{PodGroupName: &group}
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func of(app string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Labels = map[string]string{workload.KeyAppID: app} }
}

func on(node string) func(*v1.Pod) { return func(p *v1.Pod) { p.Spec.NodeName = node } }

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s\nwant: %s", what, got, want)
	}
}

// TestAPodGroupIsATaskGroup: its pods are reported at once, and wait in the ledger for as
// many as it wants.
func TestAPodGroupIsATaskGroup(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		w.AddPod(pod("plain", ""))
		expect(t, "calls for a pod without a group", w.Calls(), "")
		annotated := pod("u1", "g", func(p *v1.Pod) {
			p.Annotations = map[string]string{
				workload.AnnotationTaskGroupName: "other",
				workload.AnnotationTaskGroups:    `[{"name":"other","minMember":5}]`,
			}
		})
		w.AddPod(annotated)
		expect(t, "calls before the group exists", w.Calls(),
			`app podgroup-ns.g, group ns/g of podgroup-ns.g wants 0 whole=false, task podgroup-ns.g/u1 on ""`)
		if app := w.Metadata("podgroup-ns.g"); len(app.TaskGroups) > 0 {
			t.Errorf("there are two kinds of gangs: %+v", app.TaskGroups)
		}
		w.Create(t, beta, gang("g", "1", 2))
		expect(t, "calls", w.Calls(), `group ns/g of podgroup-ns.g wants 2 whole=false`)
		w.AddPod(pod("u2", "g"))
		expect(t, "calls", w.Calls(), `group ns/g of podgroup-ns.g wants 2 whole=false, task podgroup-ns.g/u2 on ""`)
		w.Change(t, beta, "ns", "g", func(o *unstructured.Unstructured) {
			o.Object["spec"] = gang("g", "1", 3).Object["spec"]
		})
		expect(t, "calls", w.Calls(), `group ns/g of podgroup-ns.g wants 3 whole=false`)
		w.Change(t, beta, "ns", "g", func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{"a": "b"}) })
		expect(t, "calls for a change of labels", w.Calls(), "")
		w.Delete(t, beta, "ns", "g")
		expect(t, "calls", w.Calls(), `group ns/g of podgroup-ns.g wants 0 whole=false`)
		w.Create(t, beta, gang("g", "2", 0))
		expect(t, "calls for the policy basic", w.Calls(), `group ns/g of podgroup-ns.g wants 1 whole=false`)
		w.DeletePod(annotated)
		w.DeletePod(pod("u2", "g"))
		w.Calls()
		w.Delete(t, beta, "ns", "g")
		expect(t, "calls for a group without pods", w.Calls(), "")
		if len(m.known) > 0 || len(m.objects) > 0 {
			t.Errorf("remembered are %v and %v", m.known, m.objects)
		}
	})
}

// TestNoPodIsReportedBeforeTheGroupsAreKnown: one that is not listed yet would count as one
// that is gone, and a group that has been whole as one that has not.
func TestNoPodIsReportedBeforeTheGroupsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, alpha)
		whole := gang("g", "1", 2)
		whole.SetAPIVersion("scheduling.k8s.io/v1alpha3")
		whole.Object["status"] = fields{"conditions": []any{fields{
			"type": schedulingv1beta1.PodGroupInitiallyScheduled, "status": "True", "reason": "Scheduled", "message": "",
			"lastTransitionTime": "2026-01-01T00:00:00Z",
		}}}
		w.Create(t, alpha, whole)
		m := newManager(w.Deps("podgroup"))
		if err := m.tasks.Start(); err != nil {
			t.Fatal(err)
		}
		defer m.Stop()
		w.AddPod(pod("u1", "g", on("n")))
		expect(t, "calls", w.Calls(), "")
		if _, err := m.ListApplications(); err == nil || m.HasSynced() {
			t.Error("the PodGroups count as known")
		}
		m.watch.Start()
		synctest.Wait()
		expect(t, "calls", w.Calls(), `app podgroup-ns.g, group ns/g of podgroup-ns.g wants 2 whole=true, task podgroup-ns.g/u1 on "n"`)
		apps, err := m.ListApplications()
		if _, listed := apps["podgroup-ns.g"]; err != nil || !listed {
			t.Errorf("listed are %v, %v", apps, err)
		}
		if a := m.GetExistingAllocation(pod("u1", "g", on("n"))); a == nil || a.TaskGroupName != "ns/g" || a.ApplicationID != "podgroup-ns.g" {
			t.Errorf("the allocation is %v", a)
		}
	})
}

// TestGroupsOfOneApplication: pods may name it, and all pods of a group are its first's.
func TestGroupsOfOneApplication(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		w.Create(t, beta, gang("g", "1", 2))
		w.Create(t, beta, gang("h", "2", 2))
		w.AddPod(pod("u1", "g", of("app")))
		w.AddPod(pod("u2", "h", of("app")))
		expect(t, "calls", w.Calls(), `app app, group ns/g of app wants 2 whole=false, task app/u1 on "", `+
			`group ns/h of app wants 2 whole=false, task app/u2 on ""`)
		w.AddPod(pod("u3", "g", of("other")))
		w.AddPod(pod("u4", "g"))
		expect(t, "calls", w.Calls(), `group ns/g of app wants 2 whole=false, task app/u3 on "", `+
			`group ns/g of app wants 2 whole=false, task app/u4 on ""`)
		expect(t, "problems", w.Problems(), "u3 "+workload.KeyAppID)
		if !m.Claims(pod("x", "nobody's")) || m.Claims(pod("x", "")) {
			t.Error("the wrong pods are claimed")
		}
	})
}

// TestWhatAPodGroupSaysOfPreemption is handed on; of what nobody can do, its user is told.
func TestWhatAPodGroupSaysOfPreemption(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		g := gang("g", "1", 2)
		maps.Copy(g.Object["spec"].(fields), fields{
			"priority": int64(-7), "preemptionPolicy": "Never", "disruptionMode": fields{"all": fields{}},
		})
		w.Create(t, beta, g)
		w.AddPod(pod("u1", "g"))
		expect(t, "calls", w.Calls(), `app podgroup-ns.g, `+
			`group ns/g of podgroup-ns.g wants 2 whole=false priority=-7 yields together, task podgroup-ns.g/u1 on ""`)
		expect(t, "events", w.Events(), "")
		h := gang("h", "2", 2)
		maps.Copy(h.Object["spec"].(fields), fields{
			"preemptionPolicy": "PreemptLowerPriority", "disruptionMode": fields{"single": fields{}},
			"schedulingConstraints": fields{"topology": []any{fields{"key": "rack"}}},
		})
		w.Create(t, beta, h)
		w.AddPod(pod("u2", "h"))
		expect(t, "calls", w.Calls(), `app podgroup-ns.h, group ns/h of podgroup-ns.h wants 2 whole=false, task podgroup-ns.h/u2 on ""`)
		expect(t, "events", w.Events(),
			"PodGroup/h NotHonored: spec.schedulingConstraints does not count: its pods are placed as if it were not there")
	})
}

func tell(m *Manager, app string, groups ...managers.GroupStatus) {
	m.GroupsChanged(app, groups)
	synctest.Wait()
}

func condition(t *testing.T, w *managerstest.World, name string) string {
	t.Helper()
	c := apimeta.FindStatusCondition(conditions(w.Object(t, beta, "ns", name)), schedulingv1beta1.PodGroupInitiallyScheduled)
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s %s %q of %d", c.Status, c.Reason, c.Message, c.ObservedGeneration)
}

// TestCondition: False says why a try failed, True stays.
func TestCondition(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		g := gang("g", "1", 2)
		g.Object["status"] = fields{"conditions": []any{fields{
			"type": "Mine", "status": "True", "reason": "Because", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
		}}}
		w.Create(t, beta, g)
		waits := managers.GroupStatus{Name: "ns/g", UID: "1"}
		tell(m, "app", waits)
		expect(t, "condition of a group that has not been tried", condition(t, w, "g"), "")
		failed := waits
		failed.Reason, failed.Message = "Unschedulable", "no room"
		for range 2 {
			tell(m, "app", failed)
		}
		expect(t, "condition", condition(t, w, "g"), `False Unschedulable "no room" of 1`)
		expect(t, "writes", w.Writes(), "g <nil> <nil>")
		whole := managers.GroupStatus{Name: "ns/g", UID: "1", Whole: true}
		tell(m, "app", whole)
		expect(t, "condition", condition(t, w, "g"), `True Scheduled "" of 1`)
		tell(m, "app", failed)
		expect(t, "condition", condition(t, w, "g"), `True Scheduled "" of 1`)
		if all := conditions(w.Object(t, beta, "ns", "g")); len(all) != 2 {
			t.Errorf("a condition of somebody else is gone: %v", all)
		}
		expect(t, "writes", w.Writes(), "g <nil> <nil>")

		// Another of its name says nothing of this one, and it comes before it is told of.
		w.Delete(t, beta, "ns", "g")
		w.Create(t, beta, gang("g", "2", 2))
		tell(m, "app", whole)
		expect(t, "condition of another", condition(t, w, "g"), "")
		tell(m, "later", managers.GroupStatus{Name: "ns/h", UID: "3", Whole: true})
		w.Create(t, beta, gang("h", "3", 2))
		expect(t, "condition of one that is seen late", condition(t, w, "h"), `True Scheduled "" of 1`)
		tell(m, "later")
		tell(m, "app")
		if len(m.told)+len(m.names) > 0 {
			t.Errorf("remembered are %v of %v", m.told, m.names)
		}
	})
}

// TestOneWriteIsInFlight, and one that fails or meets something newer is tried again.
func TestOneWriteIsInFlight(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		w.Create(t, beta, gang("g", "1", 2))
		var flying, most atomic.Int32
		release := make(chan struct{})
		failures := 2
		w.Write = func(string) error {
			most.Store(max(most.Load(), flying.Add(1)))
			<-release
			flying.Add(-1)
			if failures--; failures >= 0 {
				return kube.ErrFenced
			}
			return nil
		}
		for i := range 20 {
			tell(m, "app", managers.GroupStatus{Name: "ns/g", UID: "1", Reason: "Unschedulable", Message: fmt.Sprint(i)})
		}
		w.Change(t, beta, "ns", "g", func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{"a": "b"}) })
		close(release)
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, "condition", condition(t, w, "g"), `False Unschedulable "19" of 1`)
		if most.Load() != 1 {
			t.Errorf("%d writes at once", most.Load())
		}
	})
}

// TestAProtocolWithoutGroups is none that this manager can work with.
func TestAProtocolWithoutGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, beta)
		deps := w.Deps("podgroup")
		deps.Protocol = struct {
			protocol.ApplicationManagementProtocol
		}{deps.Protocol}
		made, err := New(deps)
		if err != nil {
			t.Fatal(err)
		}
		if made.ServiceInit() == nil {
			t.Error("it would report pods that nobody holds back")
		}
	})
}
