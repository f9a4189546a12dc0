package general

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// contract records the protocol calls.
type contract struct {
	mu     sync.Mutex
	calls  []string
	states map[string]string // of applications
	tasks  map[string]bool
	owners map[string]string // of tasks that a predecessor has reported
	made   chan struct{}     // receives one value for each call, if not nil
}

func (c *contract) call(format string, args ...any) {
	c.mu.Lock()
	c.calls = append(c.calls, fmt.Sprintf(format, args...))
	c.mu.Unlock()
	if c.made != nil {
		c.made <- struct{}{}
	}
}

func (c *contract) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

func (c *contract) GetApplication(id string) protocol.ManagedApp {
	if _, ok := c.states[id]; !ok {
		return nil
	}
	return knownApp{c, id}
}

func (c *contract) AddApplication(r *protocol.AddApplicationRequest) protocol.ManagedApp {
	c.call("app %s", r.Metadata.ApplicationID)
	return nil
}

func (c *contract) AddTask(r *protocol.AddTaskRequest) protocol.ManagedTask {
	c.call("task %s/%s on %q", r.Metadata.ApplicationID, r.Metadata.TaskID, r.Metadata.Pod.Spec.NodeName)
	return nil
}
func (c *contract) Report(r *protocol.AddTaskRequest) bool { c.AddTask(r); return true }
func (c *contract) Owner(id string) string                 { return c.owners[id] }
func (c *contract) RemoveApplication(string) error         { return nil }
func (c *contract) RemoveTask(app, task string)            { c.call("remove %s/%s", app, task) }
func (c *contract) NotifyApplicationComplete(string)       {}
func (c *contract) NotifyApplicationFail(string)           {}
func (c *contract) NotifyTaskComplete(app, task string)    { c.call("complete %s/%s", app, task) }

type knownApp struct {
	c  *contract
	id string
}

func (a knownApp) GetApplicationID() string    { return a.id }
func (a knownApp) GetApplicationState() string { return a.c.states[a.id] }
func (a knownApp) GetQueue() string            { return "" }
func (a knownApp) GetUser() string             { return "" }
func (a knownApp) SetState(string)             {}
func (a knownApp) TriggerAppRecovery() error   { return nil }
func (a knownApp) GetTask(id string) (protocol.ManagedTask, error) {
	if !a.c.tasks[a.id+"/"+id] {
		return nil, errors.New("not known")
	}
	return nil, nil
}

type fakeCluster struct{ informer cache.SharedIndexInformer }

func (c fakeCluster) PodInformer() cache.SharedIndexInformer { return c.informer }
func (c fakeCluster) Namespace(string) *v1.Namespace         { return nil }

type option func(*v1.Pod)

func inApp(id string) option {
	return func(p *v1.Pod) { p.Labels = map[string]string{workload.KeyAppID: id} }
}
func on(node string) option       { return func(p *v1.Pod) { p.Spec.NodeName = node } }
func in(phase v1.PodPhase) option { return func(p *v1.Pod) { p.Status.Phase = phase } }
func named(name string) option    { return func(p *v1.Pod) { p.Name = name } }
func created(at int64) option {
	return func(p *v1.Pod) { p.CreationTimestamp = metav1.Unix(at, 0) }
}
func asking(cpu string) option {
	return func(p *v1.Pod) {
		p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)},
		}}}
	}
}

func pod(uid string, options ...option) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: uid, UID: types.UID(uid),
			Labels:            map[string]string{workload.KeyAppID: "app"},
			CreationTimestamp: metav1.Unix(1000, 0),
		},
		Spec: v1.PodSpec{SchedulerName: workload.DefaultSchedulerName},
	}
	for _, o := range options {
		o(p)
	}
	return p
}

func general(c *contract) handlers {
	return handlers{managing(c, fakeCluster{}, nil)}
}

// managing returns a manager that reports to c, and what it cannot read to problems.
func managing(c protocol.ApplicationManagementProtocol, cluster fakeCluster, problems func(*v1.Pod, []workload.Problem)) *Manager {
	if problems == nil {
		problems = func(*v1.Pod, []workload.Problem) {}
	}
	g, err := newManager(managers.Deps{
		Name: Name, Settings: func(any) error { return nil }, Protocol: c, Cluster: cluster,
		SchedulerName: workload.DefaultSchedulerName, UserLabel: workload.DefaultUserLabel,
		Resources: func(*v1.Pod) map[string]int64 { return map[string]int64{"vcore": 100} },
		Claimed:   func(*v1.Pod) string { return "" },
		Problems:  problems, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return g
}

func TestHandlers(t *testing.T) {
	gated := func(p *v1.Pod) { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g"}} }
	leaving := func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	foreign := func(p *v1.Pod) { p.Spec.SchedulerName = "other" }
	ignored := func(p *v1.Pod) { p.Annotations = map[string]string{workload.AnnotationIgnore: "true"} }
	tests := []struct {
		name string
		do   func(handlers)
		want []string
	}{
		{"add", func(h handlers) { h.OnAdd(pod("u"), false) }, []string{"app app", `task app/u on ""`}},
		{"add assigned", func(h handlers) { h.OnAdd(pod("u", on("n")), false) }, []string{"app app", `task app/u on "n"`}},
		{"add terminated", func(h handlers) { h.OnAdd(pod("u", on("n"), in(v1.PodSucceeded)), false) }, []string{"complete app/u"}},
		{"add foreign", func(h handlers) { h.OnAdd(pod("u", foreign), false); h.OnDelete(pod("u", foreign)) }, nil},
		{"add deleting", func(h handlers) { h.OnAdd(pod("u", leaving), false) }, []string{"complete app/u"}},
		{"deleted while it waits, kept by a finalizer", func(h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", leaving))
			h.OnUpdate(pod("u", leaving), pod("u", leaving, in(v1.PodPending)))
			h.OnDelete(pod("u", leaving))
		}, []string{"app app", `task app/u on ""`, "complete app/u", "complete app/u", "remove app/u"}},
		{"deleted while it runs", func(h handlers) {
			h.OnAdd(pod("u", on("n")), false)
			h.OnUpdate(pod("u", on("n")), pod("u", on("n"), leaving))
		}, []string{"app app", `task app/u on "n"`}},
		{"gate opens", func(h handlers) { h.OnAdd(pod("u", gated), false); h.OnUpdate(pod("u", gated), pod("u")) }, []string{"app app", `task app/u on ""`}},
		{"label edited", func(h handlers) {
			h.OnAdd(pod("u", on("n")), false)
			h.OnUpdate(pod("u", on("n")), pod("u", on("n"), inApp("other")))
			h.OnUpdate(pod("u", on("n"), inApp("other")), pod("u", on("n"), inApp("other"), in(v1.PodRunning)))
			h.OnUpdate(pod("u", on("n"), inApp("other")), pod("u", on("n")))
			h.OnDelete(pod("u", on("n"), inApp("other")))
		}, []string{"app app", `task app/u on "n"`, `task other/u on "n"`, "complete app/u", "remove app/u"}},
		{"to be ignored later", func(h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", ignored))
			h.OnUpdate(pod("u", ignored), pod("u", ignored, on("n")))
			h.OnUpdate(pod("u", ignored, on("n")), pod("u", ignored, on("n"), in(v1.PodFailed)))
		}, []string{"app app", `task app/u on ""`, `task app/u on "n"`, "complete app/u"}},
		{"nothing of interest", func(h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", in(v1.PodPending)))
		}, []string{"app app", `task app/u on ""`}},
		{"assigned", func(h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", on("n")))
			h.OnUpdate(pod("u", on("n")), pod("u", on("n"), in(v1.PodRunning)))
		}, []string{"app app", `task app/u on ""`, `task app/u on "n"`}},
		{"resized in place", func(h handlers) {
			h.OnAdd(pod("u", on("n"), asking("1")), false)
			h.OnUpdate(pod("u", on("n"), asking("1")), pod("u", on("n"), asking("2")))
		}, []string{"app app", `task app/u on "n"`, `task app/u on "n"`}},
		{"succeeds", func(h handlers) {
			h.OnAdd(pod("u", on("n")), false)
			h.OnUpdate(pod("u", on("n")), pod("u", on("n"), in(v1.PodSucceeded)))
			h.OnUpdate(pod("u", on("n"), in(v1.PodSucceeded)), pod("u", on("n"), in(v1.PodSucceeded)))
		}, []string{"app app", `task app/u on "n"`, "complete app/u"}},
		{"fails", func(h handlers) {
			h.OnAdd(pod("u", on("n")), false)
			h.OnUpdate(pod("u", on("n")), pod("u", on("n"), in(v1.PodFailed)))
		}, []string{"app app", `task app/u on "n"`, "complete app/u"}},
		{"deleted", func(h handlers) { h.OnAdd(pod("u"), false); h.OnDelete(pod("u")) },
			[]string{"app app", `task app/u on ""`, "complete app/u", "remove app/u"}},
		{"deletion noticed by a new listing", func(h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "ns/u", Obj: pod("u")})
		}, []string{"app app", `task app/u on ""`, "complete app/u", "remove app/u"}},
		{"name taken by another pod between listings", func(h handlers) {
			h.OnAdd(pod("u1", named("p")), false)
			h.OnUpdate(pod("u1", named("p")), pod("u2", named("p")))
		}, []string{"app app", `task app/u1 on ""`, "complete app/u1", "remove app/u1", "app app", `task app/u2 on ""`}},
		{"label changed after the report", func(h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", inApp("other"), on("n")))
			h.OnDelete(pod("u", inApp("other"), on("n")))
		}, []string{"app app", `task app/u on ""`, `task app/u on "n"`, "complete app/u", "remove app/u"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &contract{}
			tt.do(general(c))
			if got := c.take(); !slices.Equal(got, tt.want) {
				t.Errorf("calls = %q\nwant    %q", got, tt.want)
			}
		})
	}
}

// A pod that names no application shares one with its namespace, or has one of its own that
// stays the same in every replica, wherever it is looked at.
func TestGeneratedApplications(t *testing.T) {
	nameless := func(uid string, more ...option) *v1.Pod {
		return pod(uid, append(more, func(p *v1.Pod) { p.Labels = nil })...)
	}
	for name, tt := range map[string]struct {
		unique bool
		want   []string
		listed []string
	}{
		"shared": {false, []string{
			"app yunikorn-ns-autogen", `task yunikorn-ns-autogen/u1 on ""`,
			"app yunikorn-ns-autogen", `task yunikorn-ns-autogen/u2 on "n"`,
			"app app", `task app/u3 on ""`,
			`task app/u1 on ""`, "complete yunikorn-ns-autogen/u2", "complete yunikorn-ns-autogen/u1", "remove yunikorn-ns-autogen/u1",
		}, []string{"yunikorn-ns-autogen"}},
		"unique": {true, []string{
			"app ns-u1", `task ns-u1/u1 on ""`, "app ns-u2", `task ns-u2/u2 on "n"`, "app app", `task app/u3 on ""`,
			`task app/u1 on ""`, "complete ns-u2/u2", "complete ns-u1/u1", "remove ns-u1/u1",
		}, []string{"ns-u2"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &contract{}
			h := generating(c, tt.unique)
			h.OnAdd(nameless("u1"), false)
			h.OnAdd(nameless("u2", on("n")), false)
			h.OnAdd(pod("u3"), false)
			h.OnUpdate(nameless("u1"), pod("u1")) // it is named later, and told so
			h.OnUpdate(nameless("u2", on("n")), nameless("u2", on("n"), in(v1.PodSucceeded)))
			h.OnDelete(nameless("u1"))
			if got := c.take(); !slices.Equal(got, tt.want) {
				t.Errorf("calls = %q\nwant    %q", got, tt.want)
			}
			fresh := generating(c, tt.unique) // in another replica, which only sees what is there
			apps := fresh.g.applications([]*v1.Pod{nameless("u2", on("n")), nameless("u4")})
			if got := slices.Sorted(maps.Keys(apps)); !slices.Equal(got, tt.listed) {
				t.Errorf("applications = %q, want %q", got, tt.listed)
			}
			if got := fresh.g.GetExistingAllocation(nameless("u2", on("n"))); got.GetApplicationID() != tt.listed[0] {
				t.Errorf("allocation of %q, want %q", got.GetApplicationID(), tt.listed[0])
			}
		})
	}
}

func generating(c *contract, unique bool) handlers {
	h := general(c)
	if unique {
		h.g.appID = workload.UniqueAppID
	}
	return h
}

func TestSettings(t *testing.T) {
	made := func(file *bool, configMaps bool) string {
		m, err := New(managers.Deps{Name: Name, UniqueAppID: configMaps, Settings: func(into any) error {
			into.(*settings).GenerateUniqueAppID = file
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return m.(*Manager).appID(pod("u", func(p *v1.Pod) { p.Labels = nil }))
	}
	const one, shared = "ns-u", "yunikorn-ns-autogen"
	for _, tt := range []struct {
		file       *bool
		configMaps bool
		want       string
	}{
		{nil, false, shared}, {nil, true, one}, {ptr.To(true), false, one}, {ptr.To(false), true, shared},
	} {
		if got := made(tt.file, tt.configMaps); got != tt.want {
			t.Errorf("with %v in the file and %t in the ConfigMaps: %q", tt.file, tt.configMaps, got)
		}
	}
}

// A new lead's handlers see every pod again. That must not begin anew what its
// predecessor saw end.
func TestReplay(t *testing.T) {
	c := &contract{
		states: map[string]string{"live": "Running", "failed": "Failed"},
		tasks:  map[string]bool{"failed/old": true},
	}
	h := general(c)
	h.OnAdd(pod("a", inApp("live")), true)
	h.OnAdd(pod("old", inApp("failed")), true)
	h.OnAdd(pod("new", inApp("failed")), true)
	h.OnAdd(pod("b", inApp("unknown")), true)
	h.OnAdd(pod("c", inApp("unknown")), true)
	want := []string{
		`task live/a on ""`,
		`task failed/old on ""`,
		"app failed", `task failed/new on ""`,
		"app unknown", `task unknown/b on ""`, `task unknown/c on ""`,
	}
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("calls = %q\nwant    %q", got, want)
	}
}

func TestProblemsAreReportedAndThePodScheduled(t *testing.T) {
	c := &contract{}
	var reported []string
	g := managing(c, fakeCluster{}, func(p *v1.Pod, found []workload.Problem) {
		for _, f := range found {
			reported = append(reported, p.Name+" "+f.Key)
		}
	})
	bad := pod("u")
	bad.Annotations = map[string]string{workload.AnnotationTaskGroups: "[{]", workload.AnnotationUserInfo: "?", workload.AnnotationPlaceholder: "?"}
	before := bad.DeepCopy()
	handlers{g}.OnAdd(bad, false)
	slices.Sort(reported)
	if want := []string{"u " + workload.AnnotationPlaceholder, "u " + workload.AnnotationTaskGroups, "u " + workload.AnnotationUserInfo}; !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q", reported, want)
	}
	if got, want := c.take(), []string{"app app", `task app/u on ""`}; !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
	if !equality.Semantic.DeepEqual(bad, before) {
		t.Error("the pod of the cache was changed")
	}
}

// What a predecessor has told is not told again; what came while nobody led is.
func TestProblemsOfPodsThatCameWhileNobodyLed(t *testing.T) {
	c := &contract{states: map[string]string{"live": "Running"}, tasks: map[string]bool{"live/old": true}}
	var reported []string
	g := managing(c, fakeCluster{}, func(p *v1.Pod, _ []workload.Problem) { reported = append(reported, p.Name) })
	for _, p := range []*v1.Pod{
		pod("old", inApp("live")), pod("late", inApp("live")), pod("assigned", inApp("live"), on("n")),
		pod("first", inApp("unknown")), pod("second", inApp("unknown")),
	} {
		p.Annotations = map[string]string{workload.AnnotationUserInfo: "?"}
		handlers{g}.OnAdd(p, true)
	}
	if want := []string{"late", "first", "second"}; !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q", reported, want)
	}
}

// startInformer runs a pod informer over source until the test ends.
func startInformer(t *testing.T, source *cachetesting.FakeControllerSource) cache.SharedIndexInformer {
	informer := cache.NewSharedIndexInformer(source, &v1.Pod{}, 0, cache.Indexers{})
	var running sync.WaitGroup
	stop := make(chan struct{})
	running.Go(func() { informer.Run(stop) })
	t.Cleanup(func() {
		close(stop)
		running.Wait()
		source.Shutdown()
	})
	if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
		t.Fatal("not synced")
	}
	return informer
}

func TestStartReportsAndStopEndsIt(t *testing.T) {
	source := cachetesting.NewFakeControllerSource()
	source.Add(pod("u1"))
	c := &contract{made: make(chan struct{}, 16)}
	g := managing(c, fakeCluster{startInformer(t, source)}, nil)
	if err := g.ServiceInit(); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if g.Start() == nil {
		t.Error("a second Start did not fail")
	}
	<-c.made
	<-c.made
	source.Add(pod("u2"))
	<-c.made
	<-c.made
	want := []string{"app app", `task app/u1 on ""`, "app app", `task app/u2 on ""`}
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}

	g.Stop()
	handlers{g}.OnAdd(pod("u3"), false) // what the informer may still have under way
	if got := c.take(); len(got) > 0 {
		t.Errorf("calls after Stop: %q", got)
	}
	g.Stop()
}

// TestReplayOfRelabelledPods: pods that a predecessor reported are reported again
// under the application that it reported them for.
func TestReplayOfRelabelledPods(t *testing.T) {
	ignored := func(p *v1.Pod) { p.Annotations = map[string]string{workload.AnnotationIgnore: "true"} }
	c := &contract{owners: map[string]string{"u": "app", "v": "app"}, states: map[string]string{"app": "Running"}}
	h := general(c)
	h.OnAdd(pod("u", inApp("other")), true)
	h.OnAdd(pod("v", ignored), true)
	h.OnAdd(pod("w", ignored), true) // never reported
	want := []string{`task app/u on ""`, `task app/v on ""`}
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
	// One whose application's record is lost brings it back under its name.
	c.states = nil
	h.g.Replay([]*v1.Pod{pod("u", inApp("other"))})
	want = []string{"app app", `task app/u on ""`}
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
}

func TestListApplications(t *testing.T) {
	source := cachetesting.NewFakeControllerSource()
	for _, p := range []*v1.Pod{
		pod("young", on("n"), created(20), func(p *v1.Pod) { p.Labels[workload.KeyQueue] = "root.young" }),
		pod("old", on("n"), created(10), func(p *v1.Pod) { p.Labels[workload.KeyQueue] = "root.old" }),
		pod("oldest", created(1)), // not assigned
		pod("done", on("n"), created(2), in(v1.PodSucceeded)),
		pod("elsewhere", inApp("waiting")),
		pod("finished", inApp("finished"), on("n"), in(v1.PodFailed)),
		pod("foreign", inApp("foreign"), on("n"), func(p *v1.Pod) { p.Spec.SchedulerName = "other" }),
	} {
		source.Add(p)
	}
	g := managing(&contract{}, fakeCluster{startInformer(t, source)}, nil)
	apps, err := g.ListApplications()
	if err != nil {
		t.Fatal(err)
	}
	app, ok := apps["app"]
	if len(apps) != 1 || !ok || app.QueueName != "root.old" || app.CreationTime != 10 {
		t.Errorf("applications = %+v; want app alone, as its oldest running pod says", apps)
	}
}

// Placeholders do not say who the user is. With nothing else left of an application, the
// pod that waits for them does.
func TestAPlaceholderDescribesNoApplicationWhosePodWaits(t *testing.T) {
	as := func(user string) option {
		return func(p *v1.Pod) {
			p.Annotations = map[string]string{workload.AnnotationUserInfo: `{"user":"` + user + `"}`}
		}
	}
	holds := func(p *v1.Pod) { p.Annotations = map[string]string{workload.AnnotationPlaceholder: "true"} }
	g := managing(&contract{}, fakeCluster{}, nil)
	apps := g.applications([]*v1.Pod{
		pod("hold", on("n"), created(1), holds), pod("driver", created(2), as("ann")),
		pod("waits", inApp("waits"), as("bob")),
		pod("runs", inApp("runs"), on("n"), created(2), as("eve")), pod("older", inApp("runs"), created(1), as("bob")),
		pod("alone", inApp("alone"), on("n"), holds),
	})
	users := map[string]string{}
	for id, app := range apps {
		users[id] = app.User
	}
	if want := map[string]string{"app": "ann", "runs": "eve", "alone": "nobody"}; !maps.Equal(users, want) {
		t.Errorf("users = %v, want %v", users, want)
	}
}

func TestListApplicationsRefusesAPartialListing(t *testing.T) {
	source := cachetesting.NewFakeControllerSource()
	defer source.Shutdown()
	never := cache.NewSharedIndexInformer(source, &v1.Pod{}, 0, cache.Indexers{})
	g := managing(&contract{}, fakeCluster{never}, nil)
	if apps, err := g.ListApplications(); err == nil {
		t.Errorf("got %v before the pods were listed", apps)
	}
}

func TestGetExistingAllocation(t *testing.T) {
	g := managing(&contract{}, fakeCluster{}, nil)
	priority := int32(7)
	p := pod("u", on("n"))
	p.Annotations = map[string]string{workload.AnnotationPlaceholder: "true", workload.AnnotationTaskGroupName: "tg"}
	p.Spec.Priority = &priority
	a := g.GetExistingAllocation(p)
	if a == nil || a.AllocationKey != "u" || a.NodeID != "n" || a.ApplicationID != "app" || !a.Placeholder ||
		a.TaskGroupName != "tg" || a.Priority != 7 || a.ResourcePerAlloc.Resources["vcore"].Value != 100 {
		t.Errorf("allocation = %v", a)
	}
	for _, none := range []*v1.Pod{
		pod("u"),
		pod("u", on("n"), in(v1.PodSucceeded)),
		pod("u", on("n"), func(p *v1.Pod) { p.Spec.SchedulerName = "other" }),
	} {
		if a := g.GetExistingAllocation(none); a != nil {
			t.Errorf("pod %+v got %v", none.Spec, a)
		}
	}
}

// described is a contract that knows the applications that it was told of, and by whom.
type described struct{ *contract }

func (d described) AddApplication(r *protocol.AddApplicationRequest) protocol.ManagedApp {
	d.call("app %s of %s", r.Metadata.ApplicationID, r.Metadata.User)
	d.states[r.Metadata.ApplicationID] = "Submitted"
	return nil
}

// TestPlaceholdersAreReplayedFirst: with its pods a gang would have those made that it lacks.
// What a placeholder says of its application does not count.
func TestPlaceholdersAreReplayedFirst(t *testing.T) {
	c := &contract{states: map[string]string{}, tasks: map[string]bool{}}
	g := general(c).g
	g.Protocol = described{c}
	holds := func(p *v1.Pod) { p.Annotations = map[string]string{workload.AnnotationPlaceholder: "true"} }
	ofAnn := func(p *v1.Pod) { p.Labels[workload.DefaultUserLabel] = "ann" }
	g.Replay([]*v1.Pod{
		pod("a1", inApp("a"), ofAnn), pod("a2", inApp("a"), ofAnn), pod("ax", inApp("a"), holds),
		pod("b1", inApp("b"), ofAnn), pod("cx", inApp("c"), holds), pod("d1", inApp("d"), ofAnn),
	})
	want := []string{
		"app a of ann", `task a/ax on ""`, `task a/a1 on ""`, `task a/a2 on ""`,
		"app b of ann", `task b/b1 on ""`, "app d of ann", `task d/d1 on ""`,
		"app c of nobody", `task c/cx on ""`,
	}
	if got := c.take(); !slices.Equal(got, want) {
		t.Errorf("calls = %q\nwant    %q", got, want)
	}
}
