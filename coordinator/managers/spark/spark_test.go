package spark

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/managers/managerstest"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fields = map[string]any

var applications = schema.GroupVersionResource{Group: group, Version: version, Resource: resourceName}

func world(t *testing.T) *managerstest.World {
	return managerstest.New(t, map[schema.GroupVersionResource]string{applications: kind})
}

// run runs a test in a world with a manager that has been started.
func run(t *testing.T, test func(*testing.T, *managerstest.World, *Manager)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		test(t, w, started(t, w))
	})
}

func started(t *testing.T, w *managerstest.World) *Manager {
	t.Helper()
	m := newManager(w.Deps(Type))
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	synctest.Wait()
	return m
}

// spark makes a SparkApplication in a state, whose status names an attempt unless id is
// empty.
func spark(name, state, id string, spec fields) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: fields{"apiVersion": group + "/" + version, "kind": kind, "spec": spec}}
	o.SetNamespace("ns")
	o.SetName(name)
	o.SetUID(types.UID("uid-" + name))
	set(o, state, id)
	return o
}

func set(o *unstructured.Unstructured, state, id string) {
	status := fields{"applicationState": fields{"state": state, "errorMessage": ""}}
	if id != "" {
		status["sparkApplicationId"] = id
		status["driverInfo"] = fields{"podName": o.GetName() + "-driver"}
	}
	o.Object["status"] = status
}

// move has the SparkApplication pi be in a state, with an attempt.
func move(t *testing.T, w *managerstest.World, state, id string) {
	t.Helper()
	w.Change(t, applications, "ns", "pi", func(o *unstructured.Unstructured) { set(o, state, id) })
}

// pod makes a pod as the operator and Spark label it.
func pod(name, role, id, node string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), Annotations: map[string]string{},
			Labels: map[string]string{
				labelName: "pi", labelRole: role, workload.LabelSparkAppID: id,
				"sparkoperator.k8s.io/launched-by-spark-operator": "true",
			},
		},
		Spec: v1.PodSpec{SchedulerName: workload.DefaultSchedulerName, NodeName: node},
	}
}

func asking(p *v1.Pod, requests map[v1.ResourceName]string) *v1.Pod {
	list := v1.ResourceList{}
	for name, value := range requests {
		list[name] = resource.MustParse(value)
	}
	p.Spec.Containers = []v1.Container{{Name: "spark", Resources: v1.ResourceRequirements{Requests: list}}}
	return p
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s\nwant: %s", what, got, want)
	}
}

// TestStates: what each state does to an attempt that runs, once, and to one that a
// replica finds so when it starts.
func TestStates(t *testing.T) {
	for state, want := range map[string]string{
		"": "", "SUBMITTED": "", "RUNNING": "", "UNKNOWN": "", "RESUMING": "",
		"SUCCEEDING": "complete spark-1", "COMPLETED": "complete spark-1",
		"FAILING": "fail spark-1", "FAILED": "fail spark-1", "SUBMISSION_FAILED": "fail spark-1",
		"PENDING_RERUN": "complete spark-1", "INVALIDATING": "complete spark-1",
		"SUSPENDING": "complete spark-1", "SUSPENDED": "complete spark-1",
		"BREWING": "", // of a newer operator
	} {
		if _, known := states[state]; !known != (state == "BREWING") {
			t.Errorf("state %q: known %t", state, known)
		}
		t.Run(state, func(t *testing.T) {
			run(t, func(t *testing.T, w *managerstest.World, _ *Manager) {
				w.Create(t, applications, spark("pi", "RUNNING", "spark-1", nil))
				w.AddPod(pod("pi-driver", roleDriver, "spark-1", "n"))
				expect(t, "calls before", w.Calls(), `app spark-1, task spark-1/pi-driver on "n"`)
				move(t, w, state, "spark-1")
				move(t, w, state, "spark-1")
				expect(t, "calls", w.Calls(), want)
				if told := strings.Contains(w.Events(), "is not known"); told != (state == "BREWING") {
					t.Errorf("an Event about the state: %t", told)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				w := world(t)
				w.Create(t, applications, spark("pi", state, "spark-1", nil))
				started(t, w)
				expect(t, "calls at the start", w.Calls(), want)
			})
		})
	}
	if len(states) != 14 {
		t.Errorf("%d states", len(states))
	}
}

// TestAttempts: each is an application of its own, in whatever order pods and status are
// seen, also if the end of the one before was not.
func TestAttempts(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, _ *Manager) {
		w.Create(t, applications, spark("pi", "", "", nil))
		w.AddPod(pod("pi-driver", roleDriver, "spark-1", ""))
		expect(t, "calls", w.Calls(), `app spark-1, task spark-1/pi-driver on ""`)
		move(t, w, "SUBMITTED", "spark-1")
		move(t, w, "FAILING", "spark-1")
		w.DeletePod(pod("pi-driver", roleDriver, "spark-1", ""))
		expect(t, "calls", w.Calls(), "fail spark-1, end spark-1/pi-driver, remove spark-1/pi-driver")
		// The next driver is seen before the status tells of it.
		driver := pod("pi-driver", roleDriver, "spark-2", "")
		driver.UID = "second"
		w.AddPod(driver)
		move(t, w, "PENDING_RERUN", "spark-1")
		move(t, w, "SUBMITTED", "spark-2")
		expect(t, "calls", w.Calls(), `app spark-2, task spark-2/second on ""`)
		// Another follows; that this one failed was not seen.
		move(t, w, "SUBMITTED", "spark-3")
		expect(t, "calls", w.Calls(), "fail spark-2")
		w.AddPod(pod("x", "executor", "spark-3", ""))
		w.Calls()
		w.Delete(t, applications, "ns", "pi")
		expect(t, "calls", w.Calls(), "complete spark-3")
	})
}

// TestAttemptsAreNotCountedForEver: one that is restarted always is.
func TestAttemptsAreNotCountedForEver(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		w.Create(t, applications, spark("pi", "", "", nil))
		for i := range 100 {
			id := "spark-" + strings.Repeat("i", i+1)
			move(t, w, "RUNNING", id)
			move(t, w, "FAILING", id)
		}
		if n := len(m.apps["ns/pi"].attempts); n > maxAttempts {
			t.Errorf("%d attempts are remembered", n)
		}
	})
}

// TestExecutorsThatOutliveTheirDriver keep their nodes; those without one get none, and
// neither begins the application anew.
func TestExecutorsThatOutliveTheirDriver(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, _ *Manager) {
		w.Create(t, applications, spark("pi", "RUNNING", "spark-1", nil))
		w.AddPod(pod("x", "executor", "spark-1", "n"))
		move(t, w, "COMPLETED", "spark-1")
		w.Calls()
		w.AddPod(pod("late", "executor", "spark-1", ""))
		expect(t, "calls", w.Calls(), "")
		over := pod("x", "executor", "spark-1", "n")
		over.Status.Phase = v1.PodSucceeded
		w.ChangePod(over)
		expect(t, "calls", w.Calls(), "end spark-1/x")
	})
	// One who leads anew knows them by the cluster alone.
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		w.Create(t, applications, spark("pi", "COMPLETED", "spark-1", nil))
		w.AddPod(pod("x", "executor", "spark-1", "n"))
		m := started(t, w)
		apps, err := m.ListApplications()
		if err != nil || !slices.Equal(slices.Collect(maps.Keys(apps)), []string{"spark-1"}) {
			t.Errorf("applications = %v, %v", apps, err)
		}
		app := w.GetApplication("spark-1")
		if app == nil || app.GetApplicationState() != "Completed" {
			t.Errorf("calls = %s", w.Calls())
		}
	})
}

const groups = `[{"name":"spark-driver","minMember":1,"minResource":{"cpu":"1","memory":"1408Mi"}},` +
	`{"name":"spark-executor","minMember":2,"minResource":{"cpu":"2","memory":"1408Mi","nvidia.com/gpu":"1"},"labels":{"a":"b"}}]`

// TestTaskGroupsAreCompleted from the driver's pod and from what executors will request.
func TestTaskGroupsAreCompleted(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		w.Create(t, applications, spark("pi", "SUBMITTED", "", fields{
			"batchSchedulerOptions": fields{"queue": "root.spark"}, "proxyUser": "ann",
			"executor": fields{"gpu": fields{"name": "nvidia.com/gpu", "quantity": int64(2)}},
			"sparkConf": fields{
				"spark.executor.resource.fpga.amount": "1", "spark.executor.resource.fpga.vendor": "example.com", "spark.x": "y",
			},
		}))
		driver := asking(pod("pi-driver", roleDriver, "spark-1", ""), map[v1.ResourceName]string{
			"cpu": "1", "memory": "1408Mi", "example.com/nic": "1", "ephemeral-storage": "1Gi",
		})
		driver.Annotations[workload.AnnotationTaskGroups] = groups
		driver.Annotations[workload.AnnotationTaskGroupName] = "spark-driver"
		w.AddPod(driver)
		expect(t, "events", w.Events(), "SparkApplication/pi TaskGroupsCompleted: the operator's task groups lacked "+
			"1Gi ephemeral-storage of group spark-driver, 1 example.com/nic of group spark-driver, "+
			"1 example.com/fpga of group spark-executor, 2 nvidia.com/gpu of group spark-executor; they are completed")
		app := w.Metadata("spark-1")
		if app.QueueName != "root.spark" || app.User != "ann" || len(app.TaskGroups) != 2 {
			t.Fatalf("application = %+v", app)
		}
		for i, want := range []string{
			"cpu=1 ephemeral-storage=1Gi example.com/nic=1 memory=1408Mi",
			"cpu=2 example.com/fpga=1 memory=1408Mi nvidia.com/gpu=2",
		} {
			var got []string
			for name, q := range app.TaskGroups[i].MinResource {
				got = append(got, name+"="+q.String())
			}
			slices.Sort(got)
			expect(t, "group", strings.Join(got, " "), want)
		}
		again, err := workload.DecodeTaskGroups(app.Tags[workload.AnnotationTaskGroups])
		if err != nil || !equality.Semantic.DeepEqual(again, app.TaskGroups) {
			t.Errorf("the tag says %+v, %v", again, err)
		}

		// A placeholder has none of the operator's labels.
		holds := pod("tg-x", "", "spark-1", "")
		holds.Labels = map[string]string{workload.KeyAppID: "spark-1", workload.LabelPlaceholder: "true"}
		holds.Annotations = app.TaskGroups[1].Annotations
		if !m.Claims(holds) {
			t.Error("a placeholder is not claimed")
		}
		w.Calls()
		w.AddPod(holds)
		expect(t, "calls", w.Calls(), `task spark-1/tg-x on ""`)

		// What an executor requests in the end comes too late.
		x := asking(pod("x", "executor", "spark-1", ""), map[v1.ResourceName]string{"cpu": "2", "nvidia.com/gpu": "4"})
		x.Annotations[workload.AnnotationTaskGroupName] = "spark-executor"
		w.AddPod(x)
		expect(t, "events", w.Events(), "SparkApplication/pi TaskGroupLacksResources: a pod requests "+
			"4 nvidia.com/gpu of group spark-executor beyond its task group: no place is held for that")
		if driver.Annotations[workload.AnnotationTaskGroups] != groups {
			t.Error("the pod was changed")
		}
	})
}

// TestTheDriverDescribesItsExecutors, even if an executor is seen first; what the pods say
// themselves comes first.
func TestTheDriverDescribesItsExecutors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t)
		w.Create(t, applications, spark("pi", "RUNNING", "spark-1", fields{"batchSchedulerOptions": fields{"queue": "root.spark"}}))
		driver := pod("pi-driver", roleDriver, "spark-1", "n")
		driver.Labels[workload.LabelOldQueue] = "root.own"
		driver.Annotations[workload.AnnotationTaskGroups] = groups
		driver.Annotations[workload.AnnotationUserInfo] = `{"user":"bob"}`
		driver.CreationTimestamp = metav1.Unix(77, 0)
		w.AddPod(pod("a", "executor", "spark-1", "n"))
		w.AddPod(driver)
		m := started(t, w)
		apps, err := m.ListApplications()
		app := apps["spark-1"]
		if err != nil || app.QueueName != "root.own" || app.User != "bob" || len(app.TaskGroups) != 2 || app.CreationTime != 77 ||
			app.OwnerReferences[0].Name != "pi-driver" {
			t.Errorf("application = %+v, %v", app, err)
		}
		a := m.GetExistingAllocation(pod("a", "executor", "spark-1", "n"))
		if a == nil || a.ApplicationID != "spark-1" || a.NodeID != "n" {
			t.Errorf("allocation = %+v", a)
		}
		// Of another attempt it says nothing.
		if app, known := (owner{m}).Describe("ns/pi", pod("b", "executor", "spark-2", "")); !known || app.QueueName != "root.spark" || len(app.TaskGroups) > 0 {
			t.Errorf("application = %+v, %t", app, known)
		}
	})
}

// TestAnApplicationThatIsShared by its label does not end with one of those who share it.
func TestAnApplicationThatIsShared(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, _ *Manager) {
		w.Create(t, applications, spark("pi", "RUNNING", "spark-1", nil))
		driver := pod("pi-driver", roleDriver, "spark-1", "")
		driver.Labels[workload.KeyAppID] = "nightly"
		w.AddPod(driver)
		expect(t, "calls", w.Calls(), `app nightly, task nightly/pi-driver on ""`)
		move(t, w, "FAILED", "spark-1")
		w.Delete(t, applications, "ns", "pi")
		expect(t, "calls", w.Calls(), "fail spark-1")
		if state := w.GetApplication("nightly").GetApplicationState(); state != "Accepted" {
			t.Errorf("the shared application is %s", state)
		}
	})
}

// TestPodsWithoutLabel of Spark do not share what is generated for their namespace, which
// would end with the first of them.
func TestPodsWithoutLabel(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, _ *Manager) {
		w.Create(t, applications, spark("pi", "SUBMITTED", "", nil))
		p := pod("pi-driver", roleDriver, "", "")
		p.Labels[labelSubmission] = "sub"
		w.AddPod(p)
		expect(t, "calls", w.Calls(), `app ns-pi-sub, task ns-pi-sub/pi-driver on ""`)
	})
}

// TestScheduled: what a ScheduledSparkApplication makes is like any other.
func TestScheduled(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		o := spark("nightly-1700000000", "RUNNING", "spark-1", nil)
		o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: group + "/v1beta2", Kind: "ScheduledSparkApplication", Name: "nightly", UID: "s"}})
		w.Create(t, applications, o)
		p := pod("nightly-1700000000-driver", roleDriver, "spark-1", "")
		p.Labels[labelName] = o.GetName()
		if !m.Claims(p) {
			t.Error("not claimed")
		}
		w.AddPod(p)
		expect(t, "calls", w.Calls(), `app spark-1, task spark-1/nightly-1700000000-driver on ""`)
	})
}

// TestWithoutTheOperator: what is labelled as its pods are is what it says itself. Nothing
// is claimed that may have to wait.
func TestWithoutTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := managerstest.New(t, nil)
		p := pod("early", roleDriver, "spark-1", "n")
		w.AddPod(p)
		m := newManager(w.Deps(Type))
		if m.Claims(p) {
			t.Error("claimed before it is known which SparkApplications there are")
		}
		if _, err := m.ListApplications(); err == nil || m.GetExistingAllocation(p) != nil {
			t.Error("a partial listing")
		}
		if err := m.tasks.Start(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "calls", w.Calls(), "")
		m.watch.Start()
		defer m.Stop()
		synctest.Wait()
		expect(t, "calls", w.Calls(), `app spark-1, task spark-1/early on "n"`)
		if apps, err := m.ListApplications(); err != nil || len(apps) != 1 || !m.Claims(p) || m.GetExistingAllocation(p) == nil {
			t.Errorf("applications = %v, %v", apps, err)
		}
	})
}

// TestPodsWithoutSparkApplication are reported as they say themselves.
func TestPodsWithoutSparkApplication(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		p := pod("orphan", "executor", "spark-9", "n")
		w.AddPod(p)
		expect(t, "calls", w.Calls(), `app spark-9, task spark-9/orphan on "n"`)
		if apps, err := m.ListApplications(); err != nil || len(apps) != 1 {
			t.Errorf("applications = %v, %v", apps, err)
		}
	})
}

// TestBadInput: what cannot be read is said once and counts as absent; others go on.
func TestBadInput(t *testing.T) {
	gpu := func(value any) func(*unstructured.Unstructured) {
		return func(o *unstructured.Unstructured) {
			o.Object["spec"] = fields{"executor": fields{"gpu": fields{"name": "g", "quantity": value}}}
		}
	}
	for name, c := range map[string]struct {
		spoil func(*unstructured.Unstructured)
		want  string
	}{
		"spec":     {func(o *unstructured.Unstructured) { o.Object["spec"] = "text" }, "spec is ignored: it is no object"},
		"status":   {func(o *unstructured.Unstructured) { o.Object["status"] = []any{"x"} }, "status is ignored: it is no object"},
		"state":    {func(o *unstructured.Unstructured) { o.Object["status"] = fields{"applicationState": "FAILED"} }, "status.applicationState is ignored: it is no object"},
		"a number": {func(o *unstructured.Unstructured) { o.Object["status"] = fields{"sparkApplicationId": int64(3)} }, fieldID + " is ignored: it is no string"},
		"queue": {func(o *unstructured.Unstructured) {
			o.Object["spec"] = fields{"batchSchedulerOptions": fields{"queue": fields{}}}
		}, fieldQueue + " is ignored: it is no string"},
		"gpu":    {gpu("two"), fieldGPUCount + " is ignored: it is no number above zero"},
		"no gpu": {gpu(int64(-1)), fieldGPUCount + " is ignored: it is no number above zero"},
		"conf": {func(o *unstructured.Unstructured) {
			o.Object["spec"] = fields{"sparkConf": fields{"spark.executor.resource.gpu.amount": "1e-2000000000"}}
		}, "spec.sparkConf[spark.executor.resource.gpu.amount] is ignored: it is no amount of a resource whose vendor is named"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, w *managerstest.World, _ *Manager) {
				bad := spark("pi", "RUNNING", "", nil)
				c.spoil(bad)
				w.Create(t, applications, bad)
				w.Change(t, applications, "ns", "pi", func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{"a": "b"}) })
				expect(t, "events", w.Events(), "SparkApplication/pi InvalidField: "+c.want)
				w.Create(t, applications, spark("good", "COMPLETED", "spark-good", nil))
				w.AddPod(pod("pi-driver", roleDriver, "spark-1", ""))
				expect(t, "calls", w.Calls(), `complete spark-good, app spark-1, task spark-1/pi-driver on ""`)
			})
		})
	}
}

// TestALargeObjectIsNotKept: of a status of a megabyte and of templates of pods only what
// is read is.
func TestALargeObjectIsNotKept(t *testing.T) {
	run(t, func(t *testing.T, w *managerstest.World, m *Manager) {
		large := strings.Repeat("x", 1<<20)
		o := spark("pi", "RUNNING", "spark-1", fields{
			"driver": fields{"template": large}, "executor": fields{"gpu": fields{"name": "g", "quantity": int64(1)}, "template": large},
			"sparkConf": fields{"spark.large": large, "spark.executor.resource.g.amount": large}, "proxyUser": large,
		})
		o.Object["status"].(fields)["executorState"] = fields{large: "RUNNING"}
		w.Create(t, applications, o)
		kept, err := m.watch.Get("ns", "pi").MarshalJSON()
		if err != nil || len(kept) > 4<<10 {
			t.Errorf("%d bytes are kept, %v", len(kept), err)
		}
		w.AddPod(pod("pi-driver", roleDriver, "spark-1", ""))
		move(t, w, "FAILED", "spark-1")
		expect(t, "calls", w.Calls(), `app spark-1, task spark-1/pi-driver on "", fail spark-1`)
	})
}

func TestRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := newManager(world(t).Deps(Type)).Rules()
		if len(rules) != 1 || !slices.Equal(rules[0].Verbs, []string{"get", "list", "watch"}) || !slices.Equal(rules[0].Resources, []string{"sparkapplications"}) {
			t.Errorf("rules = %+v", rules)
		}
	})
}
