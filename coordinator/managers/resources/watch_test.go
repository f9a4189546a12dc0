package resources

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	discoveryfake "k8s.io/client-go/discovery/fake"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	things  = schema.GroupVersionResource{Group: "example.org", Version: "v1", Resource: "things"}
	oldies  = schema.GroupVersionResource{Group: "example.org", Version: "v1alpha1", Resource: "things"}
	missing = apierrors.NewNotFound(things.GroupResource(), "")
)

// server is an API server whose kind comes and goes.
type server struct {
	*dynamicfake.FakeDynamicClient
	discovery *discoveryfake.FakeDiscovery
	served    atomic.Pointer[string] // the version that it has, nil for none
	dark      atomic.Bool            // discovery fails
	denied    atomic.Int32           // look-ups that are denied although the kind is there

	mu      sync.Mutex
	watches []watch.Interface
}

func newServer(version string, objects ...runtime.Object) *server {
	s := &server{
		FakeDynamicClient: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
			map[schema.GroupVersionResource]string{things: "ThingList", oldies: "ThingList"}, objects...),
		discovery: &discoveryfake.FakeDiscovery{Fake: &clienttesting.Fake{}},
	}
	s.serve(version)
	s.discovery.AddReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		switch {
		case s.dark.Load():
			return true, nil, errors.New("no answer")
		case s.denied.Load() > 0:
			s.denied.Add(-1)
			return true, nil, missing
		}
		s.discovery.Resources = nil
		if served := s.served.Load(); served != nil {
			s.discovery.Resources = []*metav1.APIResourceList{{
				GroupVersion: "example.org/" + *served,
				APIResources: []metav1.APIResource{{Name: "things/status", Kind: "Thing"}, {Name: "things", Kind: "Thing"}},
			}}
		}
		return true, nil, nil
	})
	s.PrependReactor("list", "things", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if s.has(a.GetResource()) {
			return false, nil, nil
		}
		return true, nil, missing
	})
	s.PrependWatchReactor("things", func(a clienttesting.Action) (bool, watch.Interface, error) {
		if !s.has(a.GetResource()) {
			return true, nil, missing
		}
		w, err := s.Tracker().Watch(a.GetResource(), a.GetNamespace())
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watches = append(s.watches, w)
		return true, w, err
	})
	return s
}

// serve serves the kind in that version, or not at all.
func (s *server) serve(version string) {
	s.served.Store(nil)
	if version != "" {
		s.served.Store(&version)
	}
	s.cut()
}

func (s *server) has(r schema.GroupVersionResource) bool {
	served := s.served.Load()
	return served != nil && *served == r.Version
}

// cut ends all watches.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watches {
		w.Stop()
	}
	s.watches = nil
}

func (s *server) create(t *testing.T, gvr schema.GroupVersionResource, object *unstructured.Unstructured) {
	t.Helper()
	if _, err := s.Resource(gvr).Namespace("ns").Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (s *server) remove(t *testing.T, gvr schema.GroupVersionResource, name string) {
	t.Helper()
	if err := s.Resource(gvr).Namespace("ns").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func thing(name, uid string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.org/v1", "kind": "Thing"}}
	object.SetNamespace("ns")
	object.SetName(name)
	object.SetUID(types.UID(uid))
	return object
}

// diary notes what a watch tells.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take returns what was noted since it was called last.
func (d *diary) take() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return strings.Join(lines, ", ")
}

func (d *diary) handler() Handler {
	return Handler{
		Added: func(o *unstructured.Unstructured, initial bool) {
			if o.GetName() == "bad" {
				panic("cannot read it")
			}
			d.note("+%s/%s %t", o.GetName(), o.GetUID(), initial)
		},
		Changed: func(old, o *unstructured.Unstructured) { d.note("%s/%s>%s", o.GetName(), old.GetUID(), o.GetUID()) },
		Deleted: func(o *unstructured.Unstructured) { d.note("-%s/%s", o.GetName(), o.GetUID()) },
		Synced:  func() { d.note("synced") },
		Failed:  func(o *unstructured.Unstructured, _ error) { d.note("failed %s", o.GetName()) },
	}
}

func watching(t *testing.T, s *server, kind Kind, cfg Config) (*Watch, *diary) {
	t.Helper()
	d := &diary{}
	kind.Group, kind.Kind = "example.org", "Thing"
	w := New(kind, s, s.discovery, d.handler(), cfg, time.Now, slog.New(slog.DiscardHandler))
	w.Start()
	t.Cleanup(w.Stop)
	return w, d
}

func expect(t *testing.T, d *diary, want string) {
	t.Helper()
	synctest.Wait()
	if got := d.take(); got != want {
		t.Errorf("told %q\nwant %q", got, want)
	}
}

func TestObjectsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("v1", thing("a", "1"))
		w, d := watching(t, s, Kind{}, Default())
		expect(t, d, "+a/1 true, synced")
		s.create(t, things, thing("b", "2"))
		expect(t, d, "+b/2 false")
		if _, err := s.Resource(things).Namespace("ns").Update(t.Context(), thing("b", "2"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(t, d, "b/2>2")
		status := w.Status()
		if status.Resource != things || !status.Present || !status.Synced || status.Objects != 2 {
			t.Errorf("status = %+v", status)
		}
		if o := w.Get("ns", "b"); o == nil || o.GetUID() != "2" {
			t.Errorf("Get returns %v", o)
		}
		s.remove(t, things, "b")
		expect(t, d, "-b/2")
	})
}

// TestAKindThatComesAndGoes: it is waited for, its objects are deleted with it, and it
// may come back.
func TestAKindThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("")
		w, d := watching(t, s, Kind{Versions: []string{"v1"}}, Default())
		expect(t, d, "synced")
		if status := w.Status(); status.Present || !status.Synced || status.Err != "" {
			t.Errorf("status without the kind = %+v", status)
		}
		time.Sleep(time.Hour)
		if n := len(s.discovery.Actions()); n > 200 {
			t.Errorf("%d look-ups in an hour", n)
		}
		s.create(t, things, thing("a", "1"))
		s.serve("v1")
		time.Sleep(time.Minute)
		expect(t, d, "+a/1 true, synced")
		s.discovery.ClearActions()
		time.Sleep(time.Hour)
		if n := len(s.discovery.Actions()); n > 0 {
			t.Errorf("%d look-ups of a kind that is there", n)
		}

		s.serve("")
		time.Sleep(3 * time.Minute)
		expect(t, d, "-a/1, synced")
		if status := w.Status(); status.Present || status.Objects != 0 || !w.HasSynced() {
			t.Errorf("status without the kind = %+v", status)
		}
		s.serve("v1")
		time.Sleep(time.Minute)
		expect(t, d, "+a/1 true, synced")
	})
}

// TestAKindThatComesIsNotListedYet: absent, it counts as listed; once it has come, not
// before it has been.
func TestAKindThatComesIsNotListedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("", thing("a", "1"))
		under, release := make(chan struct{}), make(chan struct{})
		w := New(Kind{Group: "example.org", Kind: "Thing"}, s, s.discovery, Handler{
			Added: func(*unstructured.Unstructured, bool) { close(under); <-release },
		}, Default(), time.Now, slog.New(slog.DiscardHandler))
		w.Start()
		defer w.Stop()
		synctest.Wait()
		absent := w.HasSynced()
		s.serve("v1")
		<-under
		came := w.HasSynced()
		close(release)
		synctest.Wait()
		if !absent || came || !w.HasSynced() {
			t.Errorf("synced: %t while absent, %t while it is listed, %t then", absent, came, w.HasSynced())
		}
	})
}

// TestAKindThatIsDeniedForAMoment: an API server that starts does not know its kinds
// yet. Nobody's application ends by that.
func TestAKindThatIsDeniedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("v1", thing("a", "1"))
		_, d := watching(t, s, Kind{}, Default())
		expect(t, d, "+a/1 true, synced")
		s.serve("")
		time.Sleep(5 * time.Second)
		s.serve("v1")
		s.create(t, things, thing("b", "2"))
		time.Sleep(time.Minute)
		expect(t, d, "a/1>1, +b/2 false")
	})
}

// TestDiscoveryThatFails: whether the kind is there is not known, so that nothing counts
// as listed, and nothing as gone.
func TestDiscoveryThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("v1", thing("a", "1"))
		s.dark.Store(true)
		w, d := watching(t, s, Kind{}, Default())
		expect(t, d, "")
		if status := w.Status(); status.Synced || !strings.Contains(status.Err, "no answer") {
			t.Errorf("status = %+v", status)
		}
		s.dark.Store(false)
		time.Sleep(time.Minute)
		expect(t, d, "+a/1 true, synced")
		s.dark.Store(true)
		s.serve("")
		time.Sleep(time.Hour)
		expect(t, d, "")
	})
}

// TestVersions: the first of the list that is there, another when that goes; what lives
// on lives on.
func TestVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		older := thing("a", "1")
		older.SetAPIVersion("example.org/v1alpha1")
		s := newServer("v1alpha1")
		s.create(t, oldies, older)
		gone := thing("b", "2")
		s.create(t, oldies, gone)
		w, d := watching(t, s, Kind{Versions: []string{"v1", "v1alpha1"}}, Default())
		expect(t, d, "+a/1 true, +b/2 true, synced")
		if w.Status().Resource != oldies {
			t.Errorf("watches %v", w.Status().Resource)
		}
		s.create(t, things, thing("a", "1"))
		s.create(t, things, thing("c", "3"))
		s.serve("v1")
		time.Sleep(2 * time.Minute)
		expect(t, d, "a/1>1, +c/3 true, -b/2, synced")
		if w.Status().Resource != things {
			t.Errorf("watches %v", w.Status().Resource)
		}
	})
}

// TestMissedDeletions: what a new listing finds is told as it was.
func TestMissedDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("v1", thing("a", "1"), thing("b", "2"))
		_, d := watching(t, s, Kind{}, Default())
		expect(t, d, "+a/1 true, +b/2 true, synced")
		s.cut()
		s.remove(t, things, "a")
		s.remove(t, things, "b")
		s.create(t, things, thing("b", "3"))
		time.Sleep(time.Minute)
		synctest.Wait()
		told := strings.Split(d.take(), ", ")
		slices.Sort(told)
		if want := []string{"+b/3 false", "-a/1", "-b/2"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestFinalStateUnknown: the deletion of an object of which only the name is known.
func TestFinalStateUnknown(t *testing.T) {
	d := &diary{}
	w := New(Kind{}, nil, newServer("v1").discovery, d.handler(), Default(), time.Now, slog.New(slog.DiscardHandler))
	teller := &teller{w: w}
	teller.OnAdd(thing("a", "1"), false)
	teller.OnDelete(cache.DeletedFinalStateUnknown{Key: "ns/a"})
	teller.OnDelete(cache.DeletedFinalStateUnknown{Key: "ns/never", Obj: thing("never", "2")})
	if got, want := d.take(), "+a/1 false, -a/1"; got != want || w.Status().Skipped > 0 {
		t.Errorf("told %q, want %q; %+v", got, want, w.Status())
	}
}

// TestPanics: an object that a handler cannot take is skipped and named, the others are
// told.
func TestPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("v1", thing("a", "1"), thing("bad", "2"), thing("c", "3"))
		w, d := watching(t, s, Kind{}, Default())
		expect(t, d, "+a/1 true, failed bad, +c/3 true, synced")
		if status := w.Status(); status.Skipped != 1 || !strings.Contains(status.Err, "ns/bad") {
			t.Errorf("status = %+v", status)
		}
		if busy, done := w.Progress(); busy || done == 0 {
			t.Errorf("busy = %t after %d calls", busy, done)
		}
	})
}

// TestTrim: what nobody reads is not stored, also of an object over which Trim panics.
func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big := func(name, uid string) *unstructured.Unstructured {
			o := thing(name, uid)
			o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "m"}})
			o.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"})
			o.Object["status"] = map[string]any{"log": strings.Repeat("x", 1<<20)}
			return o
		}
		s := newServer("v1", big("a", "1"), big("panics", "2"))
		cfg := Default()
		cfg.Trim = func(o *unstructured.Unstructured) {
			if o.GetName() == "panics" {
				panic("cannot trim it")
			}
			delete(o.Object, "status")
		}
		w, d := watching(t, s, Kind{}, cfg)
		expect(t, d, "+a/1 true, +panics/2 true, synced")
		for _, name := range []string{"a", "panics"} {
			o := w.Get("ns", name)
			if len(o.GetManagedFields()) > 0 || len(o.GetAnnotations()) != 1 || o.Object["status"] != nil {
				t.Errorf("%s keeps %v", name, o.Object)
			}
		}
		if w.Status().Skipped != 1 {
			t.Errorf("status = %+v", w.Status())
		}
	})
}

// TestStopWaitsForTheHandler: nothing is told after Stop, and Stop does not return
// before.
func TestStopWaitsForTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("v1", thing("a", "1"))
		under, release := make(chan struct{}), make(chan struct{})
		var over atomic.Bool
		w := New(Kind{Group: "example.org", Kind: "Thing"}, s, s.discovery, Handler{
			Added: func(*unstructured.Unstructured, bool) { close(under); <-release; over.Store(true) },
		}, Default(), time.Now, slog.New(slog.DiscardHandler))
		w.Stop() // without Start it does nothing
		w.Start()
		<-under
		if busy, _ := w.Progress(); !busy {
			t.Error("a call that is under way is not seen")
		}
		stopped := make(chan bool)
		go func() { w.Stop(); stopped <- over.Load() }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Fatal("Stop did not wait")
		default:
		}
		close(release)
		if !<-stopped {
			t.Error("Stop returned before the handler")
		}
	})
}
