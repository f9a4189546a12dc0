package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

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
)

func TestBindSaysWhatItHasTo(t *testing.T) {
	s, box := newServer(), newInbox()
	var sent *v1.Binding
	s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
		sent = a.(clienttesting.CreateAction).GetObject().(*v1.Binding)
		return sent, nil
	})
	b := NewBinder(s, 1, 7, box.sink, quiet)
	defer b.Stop()
	b.Do(ledger.Bind{Task: task("p")})
	if got, want := box.next(t), (ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: "node-1"}); got != want {
		t.Errorf("event = %#v, want %#v", got, want)
	}
	if sent.Name != "p" || sent.Namespace != "ns" || sent.UID != "uid-p" || sent.Target.Kind != "Node" ||
		sent.Target.Name != "node-1" || sent.Annotations[EpochAnnotation] != "7" {
		t.Errorf("binding = %+v; want pod, UID precondition, node and epoch", sent)
	}
}

func TestBindOutcomes(t *testing.T) {
	gone := ledger.CompleteTask{AppID: "app", TaskID: "uid-p"}
	bound := func(node string) ledger.Event { return ledger.BindDone{AppID: "app", TaskID: "uid-p", Node: node} }
	failed := func(err error) ledger.Event {
		return ledger.BindFailed{AppID: "app", TaskID: "uid-p", Message: err.Error()}
	}
	timeout, refused := apierrors.NewTimeoutError("slow", 1), apierrors.NewForbidden(podResource, "p", errors.New("policy"))
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
		{"refused", refused, nil, failed(refused)},
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
			b := NewBinder(s, 0, 1, box.sink, quiet)
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
	b := NewBinder(s, 1, 1, box.sink, quiet)
	b.Do(ledger.Bind{Task: task("p")})
	<-tried
	b.Stop()
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
	b := NewBinder(s, workers, 1, box.sink, quiet)
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
		{errors.New("no volume"), ledger.BindFailed{AppID: "app", TaskID: "uid-p", Message: "no volume"}},
		{fmt.Errorf("node-1: %w", ErrNodeGone), ledger.NodeLost{AppID: "app", TaskID: "uid-p"}},
	} {
		s, box := newServer(), newInbox()
		s.answer("create", "pods", func(clienttesting.Action) (runtime.Object, error) {
			t.Error("bound all the same")
			return nil, nil
		})
		b := NewBinder(s, 1, 1, box.sink, quiet)
		b.Before(func(context.Context, string, string) error { return tt.err })
		b.Do(ledger.Bind{Task: task("p")})
		if got := box.next(t); got != tt.want {
			t.Errorf("%v: event = %#v, want %#v", tt.err, got, tt.want)
		}
		b.Stop()
	}
}
