package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

var (
	podResource = schema.GroupResource{Resource: "pods"}
	conflict    = apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, "p", errors.New("no"))
	notFound    = apierrors.NewNotFound(podResource, "p")
	// tooLate is how the API server words it.
	tooLate = apierrors.NewForbidden(podResource, "p", errors.New(
		"ValidatingAdmissionPolicy 'understudy-fence' with binding 'understudy-fence' denied request: epoch 7 of \"me\" is over"))
	tenure = Tenure{Epoch: 7, Holder: "me", Lease: "uid-lease"}
)

func TestBindSaysWhatItHasTo(t *testing.T) {
	s, box := newServer(), newInbox()
	var sent *v1.Binding
	s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
		sent = a.(clienttesting.CreateAction).GetObject().(*v1.Binding)
		return sent, nil
	})
	b := NewBinder(s, 1, tenure, box.sink, quiet)
	defer b.Stop()
	b.Do(ledger.Bind{Task: task("p")})
	if got, want := box.next(t), (ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: "node-1"}); got != want {
		t.Errorf("event = %#v, want %#v", got, want)
	}
	if sent.Name != "p" || sent.Namespace != "ns" || sent.UID != "uid-p" || sent.Target.Kind != "Node" ||
		sent.Target.Name != "node-1" {
		t.Errorf("binding = %+v; want pod, UID precondition and node", sent)
	}
	if !maps.Equal(sent.Annotations, map[string]string{"understudy.dev/epoch": "7", "understudy.dev/holder": "me"}) ||
		!maps.Equal(sent.Labels, map[string]string{"understudy.dev/lease": "uid-lease"}) {
		t.Errorf("binding = %+v; want who decided it, and in which term", sent)
	}
}

func TestBindOutcomes(t *testing.T) {
	gone := ledger.CompleteTask{AppID: "app", TaskID: "uid-p"}
	bound := func(node string) ledger.Event { return ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: node} }
	failed := func(err error) ledger.Event {
		return ledger.BindFailed{AppID: "app", TaskID: "uid-p", Message: err.Error(), Node: "node-1"}
	}
	timeout, refused := apierrors.NewTimeoutError("slow", 1), apierrors.NewForbidden(podResource, "p", errors.New("policy"))
	overloaded, invalid := apierrors.NewTooManyRequests("busy", 1), apierrors.NewBadRequest("no")
	forGood := func(err error) ledger.Event {
		return ledger.BindFailed{AppID: "app", TaskID: "uid-p", Message: err.Error(), Refused: true, Node: "node-1"}
	}
	leaving := pod("p")
	leaving.DeletionTimestamp = &leaving.CreationTimestamp
	tests := []struct {
		name string
		err  error
		pod  *v1.Pod
		want ledger.Event
	}{
		{"pod gone", notFound, nil, gone},
		{"timeout", timeout, nil, failed(timeout)},
		{"overloaded", overloaded, pod("p"), failed(overloaded)},
		{"refused", refused, pod("p"), forGood(refused)},
		{"invalid", invalid, pod("p"), forGood(invalid)},
		{"refused: bound by an earlier attempt", refused, pod("p", on("node-1")), bound("node-1")},
		{"refused: pod gone", refused, nil, gone},
		{"no connection", context.DeadlineExceeded, nil, failed(context.DeadlineExceeded)},
		{"conflict: bound by an earlier attempt", conflict, pod("p", on("node-1")), bound("node-1")},
		{"conflict: bound elsewhere", conflict, pod("p", on("node-2")), bound("node-2")},
		{"conflict: another pod of the name", conflict, pod("p", uid("other"), on("node-1")), gone},
		{"conflict: pod gone meanwhile", conflict, nil, gone},
		{"conflict: pod on its way out", conflict, leaving, gone},
		{"conflict: for another reason", conflict, pod("p"), failed(conflict)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, box := newServer(), newInbox()
			if tt.pod != nil {
				s = newServer(tt.pod)
			}
			s.answer("create", "pods", func(clienttesting.Action) (runtime.Object, error) { return nil, tt.err })
			b := NewBinder(s, 0, tenure, box.sink, quiet)
			defer b.Stop()
			b.Do(ledger.Bind{Task: task("p")})
			if got := box.next(t); got != tt.want {
				t.Errorf("event = %#v\nwant    %#v", got, tt.want)
			}
		})
	}
}

func TestBindIsSilentWhenTheTermIsOver(t *testing.T) {
	s, box := newServer(), newInbox()
	tried := make(chan struct{})
	s.answer("create", "pods", func(clienttesting.Action) (runtime.Object, error) {
		close(tried)
		return nil, fmt.Errorf("post: %w", ErrFenced)
	})
	b := NewBinder(s, 1, tenure, box.sink, quiet)
	b.Do(ledger.Bind{Task: task("p")})
	<-tried
	b.Stop()
	box.empty(t)
}

// That the API server takes the term for over is no outcome of a binding: it is
// for the Lease to say, and if the term goes on so does the binding.
func TestBindIsTriedAgainWhenTheAPIServerTakesTheTermForOver(t *testing.T) {
	s, box := newServer(), newInbox()
	var refusals, attempts atomic.Int32
	s.answer("create", "pods", func(clienttesting.Action) (runtime.Object, error) {
		if attempts.Add(1) <= 2 {
			return nil, tooLate
		}
		return nil, nil
	})
	tenure := tenure
	tenure.OnRefusal = func(err error) {
		refusals.Add(1)
		if !errors.Is(err, tooLate) {
			t.Errorf("told of %v", err)
		}
	}
	b := NewBinder(s, 1, tenure, box.sink, quiet)
	defer b.Stop()
	began := time.Now()
	b.Do(ledger.Bind{Task: task("p")})
	if got, want := box.next(t), (ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: "node-1"}); got != want {
		t.Errorf("event = %#v, want %#v", got, want)
	}
	if took := time.Since(began); took < 3*retries.Duration {
		t.Errorf("three attempts within %v", took)
	}
	if attempts.Load() != 3 || refusals.Load() != 2 {
		t.Errorf("%d attempts, told of %d refusals", attempts.Load(), refusals.Load())
	}
	box.empty(t)
}

// Thousands of bindings are taken without waiting for any, none is lost, and
// no more than the workers are in flight.
func TestBinderTakesABurst(t *testing.T) {
	const pods, workers = 2000, 8
	s, box := newServer(), &inbox{make(chan ledger.Event, pods)}
	gate := make(chan struct{})
	var mu sync.Mutex
	at, most := 0, 0
	s.answer("create", "pods", func(clienttesting.Action) (runtime.Object, error) {
		mu.Lock()
		at++
		most = max(most, at)
		mu.Unlock()
		<-gate
		mu.Lock()
		at--
		mu.Unlock()
		return nil, nil
	})
	b := NewBinder(s, workers, tenure, box.sink, quiet)
	for i := range pods {
		b.Do(ledger.Bind{Task: task(fmt.Sprint(i))})
		b.Do(ledger.Bind{Task: task(fmt.Sprint(i))}) // asked for again
	}
	close(gate)
	var bound []string
	for range pods {
		bound = append(bound, box.next(t).(ledger.BindDone).TaskID)
	}
	b.Stop()
	box.empty(t)
	slices.Sort(bound)
	if got := len(slices.Compact(bound)); got != pods {
		t.Errorf("%d pods bound, want %d", got, pods)
	}
	if most > workers {
		t.Errorf("%d in flight, want at most %d", most, workers)
	}
}

// A pod whose volumes could not be bound must not be bound itself: its node may
// be one they can not reach.
func TestNothingIsBoundBeforeItsVolumes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want ledger.Event
	}{
		{errors.New("no volume"), ledger.BindFailed{AppID: "app", TaskID: "uid-p", Message: "no volume", Node: "node-1"}},
		{fmt.Errorf("node-1: %w", ErrNodeGone), ledger.NodeLost{AppID: "app", TaskID: "uid-p", Node: "node-1"}},
		{ErrUnfit, ledger.NodeLost{AppID: "app", TaskID: "uid-p", Message: ErrUnfit.Error(), Node: "node-1"}},
	} {
		s, box := newServer(), newInbox()
		s.answer("create", "pods", func(clienttesting.Action) (runtime.Object, error) {
			t.Error("bound all the same")
			return nil, nil
		})
		b := NewBinder(s, 1, tenure, box.sink, quiet)
		b.Before(func(context.Context, *ledger.Task) error { return tt.err }, func(string) bool { return false })
		b.Do(ledger.Bind{Task: task("p")})
		if got := box.next(t); got != tt.want {
			t.Errorf("%v: event = %#v, want %#v", tt.err, got, tt.want)
		}
		b.Stop()
	}
}

// A provisioner may take minutes. Pods that wait for theirs must not keep others
// from being bound.
func TestVolumesHoldUpNoOtherBinding(t *testing.T) {
	s, box := newServer(), newInbox()
	s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
		return a.(clienttesting.CreateAction).GetObject(), nil
	})
	b := NewBinder(s, 1, tenure, box.sink, quiet)
	defer b.Stop()
	provisioned, slow := make(chan struct{}), func(taskID string) bool { return taskID != "uid-p" }
	b.Before(func(_ context.Context, task *ledger.Task) error {
		if slow(task.ID) {
			<-provisioned
		}
		return nil
	}, slow)
	for _, name := range []string{"slow-1", "slow-2", "p"} {
		b.Do(ledger.Bind{Task: task(name)})
	}
	if got, want := box.next(t), (ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: "node-1"}); got != want {
		t.Errorf("event = %#v, want %#v", got, want)
	}
	close(provisioned)
	box.next(t)
	box.next(t)
}
