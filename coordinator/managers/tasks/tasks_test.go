package tasks

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers/managerstest"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// known is an owner whose pods name an application that it knows, or does not.
type known map[string]bool

func (k known) Names(pod *v1.Pod) string { return workload.NamedAppID(pod) }

func (k known) Describe(name string, pod *v1.Pod) (protocol.ApplicationMetadata, bool) {
	if pod.Name == "panics" {
		panic("cannot read it")
	}
	return protocol.ApplicationMetadata{ApplicationID: name}, k[name]
}

func (k known) Reported(string, string, *v1.Pod) {}

type option func(*v1.Pod)

func on(node string) option       { return func(p *v1.Pod) { p.Spec.NodeName = node } }
func in(phase v1.PodPhase) option { return func(p *v1.Pod) { p.Status.Phase = phase } }
func of(app string) option {
	return func(p *v1.Pod) { p.Labels = map[string]string{workload.KeyAppID: app} }
}
func uid(uid string) option { return func(p *v1.Pod) { p.UID = types.UID(uid) } }
func gated(p *v1.Pod)       { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g"}} }
func leaving(p *v1.Pod)     { p.DeletionTimestamp = &metav1.Time{} }
func foreign(p *v1.Pod)     { p.Spec.SchedulerName = "other" }
func holds(p *v1.Pod) {
	p.Annotations = map[string]string{workload.AnnotationPlaceholder: "true"}
}
func asks(cpu string) option {
	return func(p *v1.Pod) {
		p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)},
		}}}
	}
}

func pod(name string, options ...option) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)},
		Spec:       v1.PodSpec{SchedulerName: workload.DefaultSchedulerName},
	}
	of("app")(p)
	for _, o := range options {
		o(p)
	}
	return p
}

func TestHandlers(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*managerstest.World, *Tasks, handlers)
		want string
	}{
		"a pod": {func(_ *managerstest.World, _ *Tasks, h handlers) { h.OnAdd(pod("u"), false) }, `app app, task app/u on ""`},
		"foreign": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("u", foreign), false)
			h.OnDelete(pod("u", foreign))
		}, ""},
		"names nothing": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("u", of("")), false)
			h.OnDelete(pod("u", of("")))
		}, ""},
		"terminated":       {func(_ *managerstest.World, _ *Tasks, h handlers) { h.OnAdd(pod("u", on("n"), in(v1.PodFailed)), true) }, "end app/u"},
		"leaving unplaced": {func(_ *managerstest.World, _ *Tasks, h handlers) { h.OnAdd(pod("u", leaving), true) }, "end app/u"},
		"gated":            {func(_ *managerstest.World, _ *Tasks, h handlers) { h.OnAdd(pod("u", gated), false) }, ""},
		"gated no more": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("u", gated), false)
			h.OnUpdate(pod("u", gated), pod("u"))
		}, `app app, task app/u on ""`},
		"its life": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u"))
			h.OnUpdate(pod("u"), pod("u", on("n")))
			h.OnUpdate(pod("u", on("n")), pod("u", on("n"), asks("2")))
			h.OnUpdate(pod("u", on("n"), asks("2")), pod("u", on("n"), in(v1.PodSucceeded)))
			h.OnUpdate(pod("u", on("n"), in(v1.PodSucceeded)), pod("u", on("n"), in(v1.PodSucceeded)))
			h.OnDelete(cache.DeletedFinalStateUnknown{Obj: pod("u", on("n"), in(v1.PodSucceeded))})
		}, `app app, task app/u on "", task app/u on "n", task app/u on "n", end app/u, end app/u, remove app/u`},
		"terminated, never reported": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnUpdate(pod("u", in(v1.PodSucceeded)), pod("u", in(v1.PodSucceeded)))
		}, ""},
		"relabelled": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", of("other")))
			h.OnUpdate(pod("u", of("other")), pod("u", of("other"), on("n")))
			h.OnDelete(pod("u", of("other"), on("n")))
		}, `app app, task app/u on "", task other/u on "", task app/u on "n", end app/u, remove app/u`},
		"another takes its name": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("u"), false)
			h.OnUpdate(pod("u"), pod("u", uid("second")))
		}, `app app, task app/u on "", end app/u, remove app/u, task app/second on ""`},
		"waits": {func(_ *managerstest.World, t *Tasks, h handlers) {
			h.OnAdd(pod("u", of("later")), false)
			h.OnAdd(pod("v", of("later")), false)
			h.OnAdd(pod("x", of("never")), false)
			h.OnUpdate(pod("u", of("later")), pod("u", of("later"), on("n")))
			h.OnUpdate(pod("v", of("later")), pod("v", of("later"), leaving))
			t.owner.(known)["later"] = true
			t.Do(func() { t.Known("later"); t.KnownAll() })
		}, `end later/v, app later, task later/u on "n"`},
		"waits and goes": {func(_ *managerstest.World, t *Tasks, h handlers) {
			h.OnAdd(pod("u", of("later")), false)
			h.OnDelete(pod("u", of("later")))
			t.owner.(known)["later"] = true
			t.Do(t.KnownAll)
		}, "end later/u, remove later/u"},
		"part of what has ended": {func(w *managerstest.World, _ *Tasks, h handlers) {
			w.SetState("app", "Completed", "u")
			h.OnAdd(pod("u", on("n")), true)
		}, `task app/u on "n"`},
		"new in what has ended": {func(w *managerstest.World, _ *Tasks, h handlers) {
			w.SetState("app", "Failed", "u")
			h.OnAdd(pod("v"), true)
		}, `app app, task app/v on ""`},
		"a late placeholder": {func(w *managerstest.World, _ *Tasks, h handlers) {
			w.SetState("app", "Killed")
			h.OnAdd(pod("hold", holds), false)
		}, `task app/hold on ""`},
		"a placeholder alone": {func(_ *managerstest.World, _ *Tasks, h handlers) { h.OnAdd(pod("hold", holds, on("n")), true) }, `app app, task app/hold on "n"`},
		"panics": {func(_ *managerstest.World, _ *Tasks, h handlers) {
			h.OnAdd(pod("panics"), false)
			h.OnAdd(pod("u"), false)
		}, `app app, task app/u on ""`},
		"stopped": {func(_ *managerstest.World, t *Tasks, h handlers) {
			t.Stop()
			h.OnAdd(pod("u"), false)
			t.Do(t.KnownAll)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := managerstest.New(t, nil)
				tasks := New(w.Deps("m"), known{"app": true, "other": true})
				c.do(w, tasks, handlers{tasks})
				if got := w.Calls(); got != c.want {
					t.Errorf("calls = %s\nwant    %s", got, c.want)
				}
				if busy, _ := tasks.Progress(); busy {
					t.Error("it is busy for ever")
				}
			})
		})
	}
}

// TestProblems are told of a pod that waits and that nobody has reported before.
func TestProblems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := managerstest.New(t, nil)
		bad := func(p *v1.Pod) { p.Annotations = map[string]string{workload.AnnotationIgnore: "?"} }
		w.SetState("app", "Running", "old")
		tasks := New(w.Deps("m"), known{"app": true})
		h := handlers{tasks}
		h.OnAdd(pod("old", bad), true)
		h.OnAdd(pod("placed", bad, on("n")), true)
		h.OnAdd(pod("came", bad), true)
		h.OnAdd(pod("comes", bad), false)
		key := " " + workload.AnnotationIgnore
		if got, want := w.Problems(), "came"+key+"; comes"+key; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}

func TestApplications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := managerstest.New(t, nil)
		tasks := New(w.Deps("m"), known{"app": true, "ended": true, "waits": true})
		for _, p := range []*v1.Pod{
			pod("a", on("n")), pod("b", of("ended"), on("n"), in(v1.PodSucceeded)), pod("c", of("waits")),
			pod("d", of("unknown"), on("n")), pod("e", of("app"), on("n"), foreign),
		} {
			w.AddPod(p)
			if a := tasks.Allocation(p); (a != nil) != (p.Name == "a") {
				t.Errorf("pod %s holds %+v", p.Name, a)
			}
		}
		apps, err := tasks.Applications()
		if err != nil || !slices.Equal(slices.Collect(maps.Keys(apps)), []string{"app"}) {
			t.Errorf("applications = %v, %v", apps, err)
		}
	})
}

// TestStart: once, and the pods that exist are reported.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := managerstest.New(t, nil)
		w.AddPod(pod("u"))
		tasks := New(w.Deps("m"), known{"app": true})
		if err := tasks.Start(); err != nil {
			t.Fatal(err)
		}
		if tasks.Start() == nil {
			t.Error("a second Start did not fail")
		}
		synctest.Wait()
		if got, want := w.Calls(), `app app, task app/u on ""`; got != want {
			t.Errorf("calls = %s", got)
		}
		tasks.Stop()
		tasks.Stop()
		w.AddPod(pod("v"))
		if got := w.Calls(); got != "" {
			t.Errorf("calls after Stop: %s", got)
		}
	})
}
