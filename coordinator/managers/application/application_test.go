package application

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/managerstest"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fields = map[string]any

// run runs a test in a world with a manager that has been started.
func run(t *testing.T, test func(*testing.T, *managerstest.World, *Manager)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		test(t, w, started(t, w))
	})
}

func world(t *testing.T) *managerstest.World {
	return managerstest.New(t, map[schema.GroupVersionResource]string{v1alpha1.Resource(): "Application"})
}

func started(t *testing.T, w *managerstest.World) *Manager {
	t.Helper()
	m := newManager(w.Deps("application"))
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	synctest.Wait()
	return m
}

// object makes an Application; uid tells it from others of its name.
func object(namespace, name, uid string, spec any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: fields{"apiVersion": "yunikorn.apache.org/v1alpha1", "kind": "Application"}}
	o.SetNamespace(namespace)
	o.SetName(name)
	o.SetUID(types.UID(uid))
	o.SetCreationTimestamp(metav1.Unix(1000, 0))
	if spec != nil {
		o.Object["spec"] = spec
	}
	return o
}

func pod(namespace, uid, app, node string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: uid, UID: types.UID(uid), Labels: map[string]string{workload.KeyAppID: app},
		},
		Spec: v1.PodSpec{SchedulerName: workload.DefaultSchedulerName, NodeName: node},
	}
}

func create(t *testing.T, w *managerstest.World, o *unstructured.Unstructured) {
	t.Helper()
	w.Create(t, v1alpha1.Resource(), o)
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s\nwant: %s", what, got, want)
	}
}

// tell tells what became of an application, as the lead does.
func tell(m *Manager, id, state, message string) {
	m.AppChanged(managers.AppStatus{ApplicationID: id, State: state, Message: message})
	synctest.Wait()
}

func TestAnObjectDescribesItsApplication(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		o := object("ns", "my-app", "1", fields{
			"queue": "root.team",
			"schedulingPolicy": fields{"type": "TryReserve", "parameters": fields{
				"placeholderTimeoutInSeconds": int64(30), "gangSchedulingStyle": "Hard",
			}},
			"taskGroups": []any{fields{"name": "workers", "minMember": int64(3), "minResource": fields{"cpu": "500m", "memory": int64(1024)}}},
		})
		o.SetLabels(map[string]string{workload.DefaultUserLabel: "ann"})
		create(t, w, o)
		w.AddPod(pod("ns", "u", "ns-my-app", ""))
		expect(t, "calls", w.Calls(), `app ns-my-app, task ns-my-app/u on ""`)
		expect(t, "events", w.Events(), "")
		app := w.Metadata("ns-my-app")
		if app.QueueName != "root.team" || app.User != "ann" || app.Tags[workload.TagNamespace] != "ns" || app.CreationTime != 1000 {
			t.Errorf("application = %+v", app)
		}
		if p := app.SchedulingPolicyParameters; p.GetPlaceholderTimeout() != 30 || p.GetGangSchedulingStyle() != "Hard" {
			t.Errorf("policy = %+v", p)
		}
		if g := app.TaskGroups; len(g) != 1 || g[0].Name != "workers" || g[0].MinMember != 3 ||
			!g[0].MinResource["memory"].Equal(resource.MustParse("1024")) || app.OwnerReferences[0].Kind != "Application" || app.OwnerReferences[0].UID != "1" {
			t.Errorf("groups = %+v of %+v", g, app.OwnerReferences)
		}
		w.Change(t, v1alpha1.Resource(), "ns", "my-app", func(o *unstructured.Unstructured) {
			o.Object["spec"] = fields{"queue": "root.other"}
		})
		expect(t, "calls", w.Calls(), "")
		expect(t, "events", w.Events(), "Application/my-app ApplicationHasBegun: the changed spec counts when the application begins anew")
	})
}

// TestPods: they wait for their object, are of its namespace, and end.
func TestPods(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		early, gone, alien := pod("ns", "u", "ns-app", ""), pod("ns", "v", "ns-app", ""), pod("other", "x", "ns-app", "")
		w.AddPod(early)
		w.AddPod(gone)
		w.AddPod(alien)
		w.DeletePod(gone)
		if m.Claims(early) {
			t.Error("a pod is claimed that may never be reported")
		}
		w.Calls()
		create(t, w, object("ns", "app", "1", nil))
		expect(t, "calls", w.Calls(), `app ns-app, task ns-app/u on ""`)
		if !m.Claims(early) || m.Claims(alien) {
			t.Errorf("claims: own %t, of another namespace %t", m.Claims(early), m.Claims(alien))
		}
		bound := pod("ns", "u", "ns-app", "n")
		w.ChangePod(bound)
		over := bound.DeepCopy()
		over.Status.Phase = v1.PodSucceeded
		w.ChangePod(over)
		w.DeletePod(over)
		expect(t, "calls", w.Calls(), `task ns-app/u on "n", end ns-app/u, end ns-app/u, remove ns-app/u`)
	})
}

// TestNamesWithDashes: IDs are not taken apart, and two objects with one ID do not mix.
func TestNamesWithDashes(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("a", "b-c", "1", fields{"queue": "root.first"}))
		create(t, w, object("a-b", "c", "2", fields{"queue": "root.second"}))
		expect(t, "events", w.Events(),
			"Application/c ApplicationIDTaken: application a-b-c is that of a/b-c; this object counts when that one is gone")
		first, second := pod("a", "u", "a-b-c", ""), pod("a-b", "v", "a-b-c", "")
		w.AddPod(first)
		w.AddPod(second)
		expect(t, "calls", w.Calls(), `app a-b-c, task a-b-c/u on ""`)
		if !m.Claims(first) || m.Claims(second) {
			t.Errorf("claims: %t, %t", m.Claims(first), m.Claims(second))
		}
		tell(m, "a-b-c", "Running", "")
		expect(t, "writes", w.Writes(), "b-c Running ")
		w.DeletePod(first)
		w.Calls()
		w.Delete(t, v1alpha1.Resource(), "a", "b-c")
		expect(t, "calls", w.Calls(), `forget a-b-c, app a-b-c, task a-b-c/v on ""`)
		expect(t, "queue", w.Metadata("a-b-c").QueueName, "root.second")
		tell(m, "a-b-c", "Running", "")
		expect(t, "writes", w.Writes(), "c Running ")
	})
}

// TestStatusFollows: every state of the ledger, each once.
func TestStatusFollows(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		for _, s := range strings.Fields("Submitted:New Recovering:New Accepted:Accepted Reserving:Starting Resuming:Starting " +
			"Running:Running Failing:Failed Failed:Failed Completed:Completed Killing:Killed Killed:Killed Rejected:Rejected") {
			state, want, _ := strings.Cut(s, ":")
			for range 2 {
				tell(m, "ns-app", state, "m")
			}
			after := w.Object(t, v1alpha1.Resource(), "ns", "app")
			status := statusOf(after)
			if string(status.ApplicationState) != want || status.Message != "m" || status.AppID != "ns-app" {
				t.Errorf("%s: status = %+v", state, status)
			}
		}
		expect(t, "writes", w.Writes(), "app New m; app Accepted m; app Starting m; app Running m; app Failed m; "+
			"app Completed m; app Killed m; app Rejected m")
		tell(m, "ns-app", "Failed", strings.Repeat("ä", maxMessage))
		tell(m, "ns-app", "Failed", strings.Repeat("ä", maxMessage))
		status := statusOf(w.Object(t, v1alpha1.Resource(), "ns", "app"))
		if len(status.Message) != maxMessage || len(strings.Split(w.Writes(), ";")) != 1 {
			t.Errorf("a long message: %d bytes", len(status.Message))
		}
	})
}

// TestOneWriteUnderWay: while a status is being written nothing else is written of that
// object, and only the newest is then; others do not wait.
func TestOneWriteUnderWay(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		slow := make(chan struct{})
		w.Write = func(name string) error {
			if name == "slow" {
				<-slow
			}
			return nil
		}
		create(t, w, object("ns", "slow", "1", nil))
		create(t, w, object("ns", "quick", "2", nil))
		for _, state := range []string{"Accepted", "Reserving", "Running", "Completed"} {
			tell(m, "ns-slow", state, "")
		}
		tell(m, "ns-quick", "Running", "")
		expect(t, "writes", w.Writes(), "quick Running ")
		close(slow)
		synctest.Wait()
		expect(t, "writes", w.Writes(), "slow Accepted ; slow Completed ")
	})
}

// TestAStatusThatIsNotTaken is tried again until it is, unless it never will be.
func TestAStatusThatIsNotTaken(t *testing.T) {
	gr := v1alpha1.Resource().GroupResource()
	for name, c := range map[string]struct {
		err  error
		want string // the writes after a minute in which the API server has got well again
	}{
		"fenced":    {fmt.Errorf("patch: %w", kube.ErrFenced), "app Running "},
		"conflict":  {apierrors.NewConflict(gr, "app", errors.New("changed")), "app Running "},
		"forbidden": {apierrors.NewForbidden(gr, "app", errors.New("no right")), "app Running "},
		"away":      {errors.New("no answer"), "app Running "},
		"not valid": {apierrors.NewInvalid(schema.GroupKind{}, "app", nil), ""},
		"gone":      {apierrors.NewNotFound(gr, "app"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
				var tries, well atomic.Int32
				w.Write = func(string) error {
					if well.Load() > 0 {
						return nil
					}
					tries.Add(1)
					return c.err
				}
				create(t, w, object("ns", "app", "1", nil))
				tell(m, "ns-app", "Running", "")
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := tries.Load(); n > 150 || n == 0 || c.want == "" && n > 1 {
					t.Errorf("%d tries in an hour", n)
				}
				well.Store(1)
				time.Sleep(time.Minute)
				synctest.Wait()
				expect(t, "writes", w.Writes(), c.want)
			})
		})
	}
}

// TestAWriteOverlapsWithAChange: the version that was read counts, so that nothing newer
// is overwritten, and the status is written all the same.
func TestAWriteOverlapsWithAChange(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		changed := false
		w.Write = func(string) error {
			if !changed {
				changed = true
				w.ChangeUnseen(t, v1alpha1.Resource(), "ns", "app", func(o *unstructured.Unstructured) {
					o.SetLabels(map[string]string{"new": "label"})
				})
			}
			return nil
		}
		tell(m, "ns-app", "Running", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, "writes", w.Writes(), "app Running ")
	})
}

// TestTheWatchLagsBehind what was written: that is not written again, and what follows
// it needs no second try.
func TestTheWatchLagsBehind(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		stale := w.Object(t, v1alpha1.Resource(), "ns", "app")
		for _, state := range []string{"Accepted", "Accepted", "Running", "Running"} {
			if err := m.write(t.Context(), stale, managers.AppStatus{ApplicationID: "ns-app", State: state}); err != nil {
				t.Errorf("%s: %v", state, err)
			}
		}
		expect(t, "writes", w.Writes(), "app Accepted ; app Running ")
	})
}

// TestASchemaThatDropsTheMessage: what was written is not written for ever.
func TestASchemaThatDropsTheMessage(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		w.Prune = func(status map[string]any) { delete(status, "message") }
		create(t, w, object("ns", "app", "1", nil))
		tell(m, "ns-app", "Running", "why")
		expect(t, "writes", w.Writes(), "app Running why")
	})
}

// TestAnUnderstudy: an object that was deleted and created anew while others led is its
// own, and lives.
func TestAnUnderstudy(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		w.AddPod(pod("ns", "u", "ns-app", "n"))
		w.Delete(t, v1alpha1.Resource(), "ns", "app")
		create(t, w, object("ns", "app", "2", nil))
		w.SetState("ns-app", "Running")
		w.Calls()
		tell(m, "ns-app", "Running", "")
		w.AddPod(pod("ns", "v", "ns-app", ""))
		expect(t, "calls", w.Calls(), `task ns-app/v on ""`)
		expect(t, "writes", w.Writes(), "app Running ")
	})
}

// TestAnObjectIsDeleted: without pods its application is forgotten; with pods it fails,
// and is forgotten when none lives.
func TestAnObjectIsDeleted(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "idle", "1", nil))
		tell(m, "ns-idle", "Running", "")
		w.Delete(t, v1alpha1.Resource(), "ns", "idle")
		expect(t, "calls", w.Calls(), "app ns-idle, forget ns-idle")
		tell(m, "ns-idle", "", "")
		expect(t, "calls", w.Calls(), "")

		create(t, w, object("ns", "busy", "2", nil))
		p := pod("ns", "u", "ns-busy", "n")
		w.AddPod(p)
		tell(m, "ns-busy", "Running", "")
		w.Calls()
		w.Delete(t, v1alpha1.Resource(), "ns", "busy")
		expect(t, "calls", w.Calls(), "fail ns-busy")
		tell(m, "ns-busy", "Failing", "")
		expect(t, "calls while a pod lives", w.Calls(), "")
		w.DeletePod(p)
		w.Calls()
		tell(m, "ns-busy", "Failed", "")
		expect(t, "calls", w.Calls(), "forget ns-busy")
	})
}

// TestAnObjectIsCreatedAnew while pods of the one before it live: it begins when they
// have ended, its pods wait for that, and its status is its own.
func TestAnObjectIsCreatedAnew(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		old := pod("ns", "old", "ns-app", "n")
		w.AddPod(old)
		tell(m, "ns-app", "Running", "")
		w.Delete(t, v1alpha1.Resource(), "ns", "app")
		w.Writes()
		w.Calls()
		create(t, w, object("ns", "app", "2", nil))
		w.AddPod(pod("ns", "new", "ns-app", ""))
		tell(m, "ns-app", "Failing", "its object is gone")
		expect(t, "calls", w.Calls(), "")
		w.DeletePod(old)
		w.Calls()
		tell(m, "ns-app", "Failed", "its object is gone")
		expect(t, "calls", w.Calls(), `app ns-app, task ns-app/new on ""`)
		expect(t, "writes", w.Writes(), "")
		tell(m, "ns-app", "Running", "")
		expect(t, "writes", w.Writes(), "app Running ")
	})
}

// TestAnObjectIsCreatedAnewBeforeItsEndIsTold: what comes of the one before it is told
// later, and is not about it.
func TestAnObjectIsCreatedAnewBeforeItsEndIsTold(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		old := pod("ns", "old", "ns-app", "n")
		w.AddPod(old)
		tell(m, "ns-app", "Running", "")
		w.Writes()
		w.Delete(t, v1alpha1.Resource(), "ns", "app")
		w.DeletePod(old)
		w.Calls()
		create(t, w, object("ns", "app", "2", nil))
		expect(t, "calls", w.Calls(), "")
		tell(m, "ns-app", "Failed", "")
		expect(t, "calls and writes", w.Calls()+w.Writes(), "app ns-app")
	})
}

// TestTheNextLead: what ended before it is not begun anew, a status that its predecessor
// owed is written, and an application whose object went meanwhile ends.
func TestTheNextLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		said := object("ns", "said", "1", nil)
		said.Object["status"] = fields{"appID": "ns-said", "applicationState": "Completed", "message": ""}
		create(t, w, said)
		create(t, w, object("ns", "owed", "2", nil))
		create(t, w, object("ns", "lives", "3", nil))
		create(t, w, object("ns", "lost", "4", nil))
		w.SetState("ns-owed", "Failed")
		w.SetState("ns-lives", "Running", "u")
		w.SetState("ns-gone", "Running", "v")
		w.AddPod(pod("ns", "u", "ns-lives", "n"))
		m := newManager(w.Deps("application"))
		m.AppChanged(managers.AppStatus{ApplicationID: "ns-gone", State: "Running"})
		m.AppChanged(managers.AppStatus{ApplicationID: "ns-owed", State: "Failed", Message: "why"})
		m.AppChanged(managers.AppStatus{ApplicationID: "ns-said", State: "Completed"})
		if err := m.settle(t.Context(), "ns-gone"); err != nil || w.Calls() != "" {
			t.Errorf("an application was ended before it was known what objects there are: %v", err)
		}
		if _, err := m.ListApplications(); err == nil {
			t.Error("a partial listing")
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		defer m.Stop()
		synctest.Wait()
		calls := strings.Split(w.Calls(), ", ")
		slices.Sort(calls)
		expect(t, "calls", strings.Join(calls, ", "), `app ns-lost, fail ns-gone, task ns-lives/u on "n"`)
		expect(t, "writes", w.Writes(), "owed Failed why")

		w.AddPod(pod("ns", "new", "ns-said", ""))
		w.SetState("ns-said", "Completed")
		w.AddPod(pod("ns", "another", "ns-owed", ""))
		expect(t, "calls", w.Calls(), `app ns-said, task ns-said/new on "", app ns-owed, task ns-owed/another on ""`)
	})
}

func TestRecoverable(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "runs", "1", fields{"queue": "root.q"}))
		create(t, w, object("ns", "waits", "2", nil))
		w.AddPod(pod("ns", "u", "ns-runs", "n"))
		w.AddPod(pod("ns", "v", "ns-waits", ""))
		w.AddPod(pod("ns", "x", "ns-unknown", "n"))
		w.AddPod(pod("other", "y", "ns-runs", "n"))
		apps, err := m.ListApplications()
		if err != nil || !slices.Equal(slices.Collect(maps.Keys(apps)), []string{"ns-runs"}) || apps["ns-runs"].QueueName != "root.q" {
			t.Errorf("applications = %+v, %v", apps, err)
		}
		a := m.GetExistingAllocation(pod("ns", "u", "ns-runs", "n"))
		if a == nil || a.ApplicationID != "ns-runs" || a.AllocationKey != "u" || a.NodeID != "n" || len(a.ResourcePerAlloc.Resources) != 1 {
			t.Errorf("allocation = %+v", a)
		}
		over := pod("ns", "u", "ns-runs", "n")
		over.Status.Phase = v1.PodFailed
		for _, none := range []*v1.Pod{pod("ns", "v", "ns-waits", ""), pod("ns", "x", "ns-unknown", "n"), pod("other", "y", "ns-runs", "n"), over} {
			if a := m.GetExistingAllocation(none); a != nil {
				t.Errorf("pod %s holds %+v", none.Name, a)
			}
		}
	})
}

// TestBadInput: what cannot be read is said, and the rest of the object counts.
func TestBadInput(t *testing.T) {
	group := func(change fields) any {
		g := fields{"name": "g", "minMember": int64(1)}
		maps.Copy(g, change)
		return fields{"queue": "root.q", "taskGroups": []any{g}}
	}
	for name, c := range map[string]struct {
		spec any
		want string // the beginning of the Event
	}{
		"spec":        {"text", "InvalidSpec: spec: is ignored"},
		"queue":       {fields{"queue": int64(7)}, "InvalidSpec: spec.queue: is ignored"},
		"groups":      {fields{"queue": "root.q", "taskGroups": "one"}, "InvalidSpec: spec.taskGroups: no gang"},
		"no members":  {group(fields{"minMember": int64(0)}), "InvalidSpec: spec.taskGroups: no gang"},
		"a string":    {group(fields{"minMember": "3"}), "InvalidSpec: spec.taskGroups: no gang"},
		"a quantity":  {group(fields{"minResource": fields{"cpu": "lots"}}), "InvalidSpec: spec.taskGroups: no gang"},
		"no name":     {group(fields{"name": ""}), "InvalidSpec: spec.taskGroups: no gang"},
		"policy":      {fields{"schedulingPolicy": "Hard"}, "InvalidSpec: spec.schedulingPolicy: is ignored"},
		"parameters":  {fields{"schedulingPolicy": fields{"parameters": []any{"a"}}}, "InvalidSpec: " + fieldParameters},
		"a parameter": {fields{"schedulingPolicy": fields{"parameters": fields{"gangSchedulingStyle": []any{}}}}, "InvalidSpec: " + fieldParameters},
		"a style":     {fields{"schedulingPolicy": fields{"parameters": fields{"gangSchedulingStyle": "Rigid"}}}, "InvalidSpec: " + fieldParameters},
		"a timeout":   {fields{"schedulingPolicy": fields{"parameters": fields{"placeholderTimeoutInSeconds": int64(-1)}}}, "InvalidSpec: " + fieldParameters},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
				create(t, w, object("ns", "bad", "1", c.spec))
				create(t, w, object("ns", "good", "2", nil))
				expect(t, "calls", w.Calls(), "app ns-bad, app ns-good")
				if events := w.Events(); !strings.HasPrefix(events, "Application/bad "+c.want) || strings.Contains(events, ";") {
					t.Errorf("events = %s\nwant one: %s", events, c.want)
				}
				app := w.Metadata("ns-bad")
				if len(app.TaskGroups) > 0 {
					t.Errorf("groups = %+v", app.TaskGroups)
				}
				if spec, ok := c.spec.(fields); ok && spec["queue"] == "root.q" && app.QueueName != "root.q" {
					t.Errorf("queue = %q", app.QueueName)
				}
			})
		})
	}
}

// TestALargeStatusIsNotKept, nor what is none.
func TestALargeStatusIsNotKept(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		large, odd := object("ns", "large", "1", nil), object("ns", "odd", "2", nil)
		large.Object["status"] = fields{"message": strings.Repeat("x", 1<<20), "log": strings.Repeat("x", 1<<20)}
		odd.Object["status"] = fields{"message": int64(3), "appID": []any{}}
		odd.Object["more"] = strings.Repeat("x", 1<<20)
		create(t, w, large)
		create(t, w, odd)
		for _, name := range []string{"large", "odd"} {
			kept, err := m.watch.Get("ns", name).MarshalJSON()
			if err != nil || len(kept) > 4<<10 {
				t.Errorf("%d bytes of %s are kept, %v", len(kept), name, err)
			}
			tell(m, "ns-"+name, "Running", "")
		}
		expect(t, "writes", w.Writes(), "large Running ; odd Running ")
	})
}

// TestStopEndsEverything: no call, no write after it.
func TestStopEndsEverything(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		create(t, w, object("ns", "app", "1", nil))
		w.Calls()
		m.Stop()
		create(t, w, object("ns", "late", "2", nil))
		w.AddPod(pod("ns", "u", "ns-app", ""))
		tell(m, "ns-app", "Running", "")
		expect(t, "calls and writes", w.Calls()+w.Writes(), "")
	})
}

// TestRules: reading the objects, and writing their status alone. A manager that is only
// asked for them has started nothing.
func TestRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(world(t).Deps("application"))
		for _, rule := range m.Rules() {
			verbs := []string{"get", "list", "watch"}
			if rule.Resources[0] == "applications/status" {
				verbs = []string{"patch"}
			}
			if !slices.Equal(rule.APIGroups, []string{"yunikorn.apache.org"}) || len(rule.Resources) != 1 || !slices.Equal(rule.Verbs, verbs) {
				t.Errorf("rule = %+v", rule)
			}
		}
	})
}
