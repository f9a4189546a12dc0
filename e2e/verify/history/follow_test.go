package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// server scripts an API server: each listing and each watch is a step, and the
// test says what it yields.
type server struct {
	mu    sync.Mutex
	lists []listing
	// watches are handed out in order; asked holds the revision of each.
	watches []any // *watch.FakeWatcher or error
	asked   []string
}

type listing struct {
	pods []*v1.Pod
	rev  string
	err  error
}

func (s *server) list(context.Context, metav1.ListOptions) ([]*v1.Pod, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lists) == 0 {
		return nil, "", errors.New("nobody expected a listing")
	}
	l := s.lists[0]
	s.lists = s.lists[1:]
	return l.pods, l.rev, l.err
}

func (s *server) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, o.ResourceVersion)
	if len(s.watches) == 0 {
		w := watch.NewFake()
		context.AfterFunc(ctx, w.Stop)
		return w, nil
	}
	next := s.watches[0]
	s.watches = s.watches[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	return next.(watch.Interface), nil
}

// record follows the scripted server with a Cluster until the test ends.
func record(t *testing.T, s *server) *Cluster {
	t.Helper()
	c := newCluster(nil, nil)
	f := c.podFollower(quiet())
	f.list, f.watch = s.list, s.watch
	ctx, cancel := context.WithCancel(t.Context())
	rev, err := f.start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.based = true
	var wg sync.WaitGroup
	wg.Go(func() { f.run(ctx, rev) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

func testPod(name string, rev int, node string) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.Namespace, p.UID = name, "ns", types.UID("uid-"+name)
	p.ResourceVersion = fmt.Sprint(rev)
	p.Spec.SchedulerName, p.Spec.NodeName = "yunikorn", node
	p.Spec.Containers = []v1.Container{{Resources: v1.ResourceRequirements{Requests: v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("250m"), v1.ResourceMemory: resource.MustParse("1Ki"),
	}}}}
	return p
}

func bookmark(rev int) *v1.Pod { return testPod("", rev, "") }

// lines renders events as "revision kind name node".
func lines(evs []PodEvent) []string {
	var out []string
	for _, e := range evs {
		out = append(out, fmt.Sprintf("%d %s %s %s", e.Revision, e.Kind, e.Pod.Name, e.Pod.Node))
	}
	return out
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestWatchResumesWhereItBrokeWithoutListingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, third := watch.NewFake(), watch.NewFake(), watch.NewFake()
		s := &server{
			lists:   []listing{{pods: []*v1.Pod{testPod("a", 3, "")}, rev: "5"}},
			watches: []any{first, second, errors.New("connection refused"), third},
		}
		c := record(t, s)
		var told []PodEvent
		stop := c.Subscribe(func(ev PodEvent) { told = append(told, ev) })
		first.Add(testPod("b", 6, ""))
		first.Action(watch.Bookmark, bookmark(9))
		first.Stop()
		synctest.Wait()
		second.Modify(testPod("b", 12, "n1"))
		second.Error(&metav1.Status{Status: metav1.StatusFailure, Code: 500, Reason: metav1.StatusReasonInternalError})
		third.Delete(testPod("b", 15, "n1"))
		synctest.Wait()

		want(t, "revisions watched from", s.asked, []string{"5", "9", "12", "12"})
		want(t, "events", lines(c.Pods()), []string{"3 base a ", "6 added b ", "12 changed b n1", "15 gone b n1"})
		want(t, "events told", lines(told), lines(c.Pods())[1:])
		if gaps := c.Gaps(); len(gaps) != 0 {
			t.Errorf("gaps: %v", gaps)
		}
		stop()
		third.Add(testPod("c", 20, ""))
		synctest.Wait()
		if len(told) != 3 {
			t.Error("an event was told after the subscription had been cancelled")
		}
	})
}

// What expired is listed anew: no change is missed, and the gap is noted, since
// what happened in between is unknown.
func TestExpiredWatchIsListedAnewAndLeavesAGap(t *testing.T) {
	for name, expired := range map[string]func(w *watch.FakeWatcher) any{
		"as an event": func(w *watch.FakeWatcher) any {
			status := apierrors.NewResourceExpired("too old").Status()
			go w.Error(&status)
			return w
		},
		"as an answer": func(*watch.FakeWatcher) any { return apierrors.NewResourceExpired("too old") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				second := watch.NewFake()
				s := &server{
					lists: []listing{
						{pods: []*v1.Pod{testPod("a", 3, ""), testPod("b", 4, "")}, rev: "5"},
						{err: errors.New("not now")},
						{pods: []*v1.Pod{testPod("a", 7, "n1"), testPod("c", 8, "n2")}, rev: "20"},
					},
				}
				s.watches = []any{expired(watch.NewFake()), apierrors.NewResourceExpired("too old"), second}
				c := record(t, s)
				second.Modify(testPod("c", 21, "n2"))
				synctest.Wait()
				want(t, "events", lines(c.Pods()), []string{
					"3 base a ", "4 base b ", "20 gone b ", "20 changed a n1", "20 added c n2",
				})
				gaps := c.Gaps()
				if len(gaps) != 1 || gaps[0].After != 5 || gaps[0].Until != 20 || gaps[0].What != "pods" {
					t.Errorf("gaps: %+v, want one of pods from 5 to 20", gaps)
				}
			})
		})
	}
}

func TestOnlyWhatChecksLookAtBecomesAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch.NewFake()
		c := record(t, &server{lists: []listing{{rev: "1"}}, watches: []any{w}})
		p := testPod("a", 2, "")
		w.Add(p)
		steps := []func(*v1.Pod){
			func(p *v1.Pod) { p.Labels = map[string]string{"x": "y"} }, // no event
			func(p *v1.Pod) {
				p.Spec.NodeName = "n1"
				p.Annotations = map[string]string{EpochAnnotation: "7"}
			},
			func(p *v1.Pod) { p.Status.Phase = v1.PodRunning },
			func(p *v1.Pod) { p.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady}} }, // no event
			func(p *v1.Pod) { p.Status.ContainerStatuses = []v1.ContainerStatus{{RestartCount: 2}} },
			func(p *v1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now },
		}
		for i, step := range steps {
			p = p.DeepCopy()
			p.ResourceVersion = fmt.Sprint(i + 3)
			step(p)
			w.Modify(p)
		}
		synctest.Wait()
		want(t, "events", lines(c.Pods()), []string{
			"2 added a ", "4 changed a n1", "5 changed a n1", "7 changed a n1", "8 changed a n1",
		})
		last := c.Pods()[4].Pod
		if last.Epoch != 7 || last.Restarts != 2 || !last.Deleting || last.Phase != v1.PodRunning {
			t.Errorf("last state: %+v", last)
		}
		if r := last.Requests; r[v1.ResourceCPU] != 250 || r[v1.ResourceMemory] != 1024 || r[v1.ResourcePods] != 1 {
			t.Errorf("requests: %v", r)
		}
		if run := c.Running(); len(run.Pods) != 0 {
			t.Error("a pod that is being deleted counts as running")
		}
	})
}

func TestAppIDIsReadInTheDocumentedOrder(t *testing.T) {
	p := testPod("a", 1, "")
	steps := []struct {
		set  func()
		want string
	}{
		{func() {}, "yunikorn-ns-autogen"},
		{func() { p.Labels = map[string]string{"spark-app-selector": "spark"} }, "spark"},
		{func() { p.Labels["applicationId"] = "old" }, "old"},
		{func() { p.Annotations = map[string]string{"yunikorn.apache.org/app-id": "annotated"} }, "annotated"},
		{func() { p.Labels["yunikorn.apache.org/app-id"] = "new" }, "new"},
		{func() { p.Annotations["yunikorn.apache.org/ignore-application"] = "true" }, ""},
	}
	for _, s := range steps {
		s.set()
		if got := FromPod(p, nil).AppID; got != s.want {
			t.Errorf("app ID %q, want %q", got, s.want)
		}
	}
}
