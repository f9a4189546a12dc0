package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// waiters is an API server with pods that wait. What is patched is seen by whoever
// looks a pod up only when the server lets it.
type waiters struct {
	*server
	mu      sync.Mutex
	pods    map[string]*v1.Pod // as the server has them
	seen    map[string]*v1.Pod // as the informer has them
	lagging bool
	patches []string
	answers []error // to the next patches, in turn
	held    func()  // called while a patch is under way
}

type statusPatch struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Status   v1.PodStatus      `json:"status"`
}

func newWaiters(pods ...*v1.Pod) *waiters {
	w := &waiters{server: newServer(), pods: map[string]*v1.Pod{}, seen: map[string]*v1.Pod{}}
	for _, p := range pods {
		w.pods[p.Name], w.seen[p.Name] = p, p
	}
	w.answer("patch", "pods", func(a clienttesting.Action) (runtime.Object, error) { return w.patch(a.(clienttesting.PatchAction)) })
	w.answer("create", "events", func(clienttesting.Action) (runtime.Object, error) { return nil, nil })
	return w
}

func (w *waiters) patch(a clienttesting.PatchAction) (runtime.Object, error) {
	if w.held != nil {
		w.held()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var p statusPatch
	if err := json.Unmarshal(a.GetPatch(), &p); err != nil || a.GetPatchType() != types.StrategicMergePatchType || a.GetSubresource() != "status" {
		return nil, fmt.Errorf("%s of %q: %w", a.GetPatchType(), a.GetSubresource(), err)
	}
	if len(w.answers) > 0 {
		err := w.answers[0]
		w.answers = w.answers[1:]
		if err != nil {
			return nil, err
		}
	}
	old := w.pods[a.GetName()]
	// What a patch does not name is no precondition of it.
	if rv := p.Metadata.ResourceVersion; rv != "" && rv != old.ResourceVersion || p.Metadata.UID != "" && p.Metadata.UID != old.UID {
		return nil, apierrors.NewConflict(podResource, a.GetName(), errors.New("modified"))
	}
	c := p.Status.Conditions[0]
	w.patches = append(w.patches, fmt.Sprintf("%s %s=%s %s %s", a.GetName(), c.Type, c.Status, c.Reason, c.Message))
	w.change(a.GetName(), condition(c))
	return w.pods[a.GetName()], nil
}

// change gives a pod its next version. The caller holds mu.
func (w *waiters) change(name string, with option) {
	next := w.pods[name].DeepCopy()
	with(next)
	next.ResourceVersion += "1"
	w.pods[name] = next
	if !w.lagging {
		w.seen[name] = next
	}
}

func (w *waiters) pod(_, name string) *v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[name]
}

func condition(c v1.PodCondition) option {
	return func(p *v1.Pod) { p.Status.Conditions = []v1.PodCondition{c} }
}

func unschedulable(message string) v1.PodCondition {
	return v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: ReasonUnschedulable, Message: message}
}

// conditioned runs do with a recorder for the pods of w until all has been quiet.
func conditioned(t *testing.T, w *waiters, yield func(context.Context) error, do func(*Recorder)) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(w, RecorderConfig{Instance: "replica-1_abc", Yield: yield, Pod: w.pod}, quiet)
		do(r)
		pass(10 * time.Minute)
		r.Stop()
	})
}

func (w *waiters) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.patches, want) {
		t.Errorf("written %q\nwant    %q", w.patches, want)
	}
}

func TestConditionOfAPodThatWaits(t *testing.T) {
	w := newWaiters(pod("a"), pod("b"))
	conditioned(t, w, nil, func(r *Recorder) {
		r.Waits(w.pod("", "a"), ReasonUnschedulable, "0/3 nodes fit: 3 Insufficient cpu")
		pass(time.Minute)
		r.Waits(w.pod("", "b"), ReasonSkipped, "beyond the quota")
		pass(time.Minute)
		// Other numbers are not another reason; what has been before is, again.
		r.Waits(w.pod("", "a"), ReasonUnschedulable, "0/7 nodes fit: 7 Insufficient cpu")
		pass(time.Minute)
		r.Waits(w.pod("", "a"), ReasonSkipped, "beyond the quota")
		pass(time.Minute)
		r.Waits(w.pod("", "a"), ReasonUnschedulable, "0/7 nodes fit: 7 Insufficient cpu")
		pass(time.Minute)
		r.Waits(w.pod("", "b"), ReasonUnschedulable, "beyond the quota")
	})
	w.expect(t,
		"a PodScheduled=False Unschedulable 0/3 nodes fit: 3 Insufficient cpu",
		"b PodScheduled=False SchedulingSkipped beyond the quota",
		"a PodScheduled=False SchedulingSkipped beyond the quota",
		"a PodScheduled=False Unschedulable 0/7 nodes fit: 7 Insufficient cpu",
		"b PodScheduled=False Unschedulable beyond the quota",
	)
}

// A new lead finds pods that have been told by the last one.
func TestConditionIsNotRepeatedAfterAFailover(t *testing.T) {
	w := newWaiters(pod("a", condition(unschedulable("0/3 nodes fit: 3 Insufficient cpu"))))
	events := 0
	w.answer("create", "events", func(clienttesting.Action) (runtime.Object, error) { events++; return nil, nil })
	conditioned(t, w, nil, func(r *Recorder) {
		r.Waits(w.pod("", "a"), ReasonUnschedulable, "0/4 nodes fit: 4 Insufficient cpu")
	})
	w.expect(t)
	if events != 0 {
		t.Errorf("%d Events repeat what has been told", events)
	}
}

// What the ledger has to say of a pod that it does not ask for is told by an Event and
// by the condition; what the condition says already, by neither.
func TestConditionOfAPodThatIsNotAskedFor(t *testing.T) {
	told := condition(v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: ledger.ReasonTaskRejected, Message: "3 are too many"})
	w := newWaiters(pod("a"), pod("b", told), pod("c", uid("another")), pod("d"))
	var events []string
	w.answer("create", "events", func(a clienttesting.Action) (runtime.Object, error) {
		e := a.(clienttesting.CreateAction).GetObject().(*v1.Event)
		events = append(events, e.InvolvedObject.Name+" "+e.Reason)
		return nil, nil
	})
	conditioned(t, w, nil, func(r *Recorder) {
		for _, name := range []string{"a", "b", "c", "gone"} {
			r.Task(ledger.ReportTask{
				Task: task(name), Warning: true, Reason: ledger.ReasonTaskRejected, Message: "2 are too many",
				Condition: ledger.ReasonTaskRejected,
			})
			pass(time.Minute)
		}
		r.Task(ledger.ReportTask{Task: task("d"), Reason: "Scheduling", Message: "queued"})
	})
	w.expect(t, "a PodScheduled=False TaskRejected 2 are too many")
	if want := []string{"a TaskRejected", "c TaskRejected", "gone TaskRejected", "d Scheduling"}; !slices.Equal(events, want) {
		t.Errorf("Events %q, want %q", events, want)
	}
}

func TestConditionIsOnlyForPodsThatWait(t *testing.T) {
	scheduled := v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue}
	for name, is := range map[string]option{
		"bound":     on("node-1"),
		"scheduled": condition(scheduled),
		"ended":     in(v1.PodFailed),
		"another":   uid("another"),
		"going":     func(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWaiters(pod("a", is))
			conditioned(t, w, nil, func(r *Recorder) { r.Waits(pod("a"), ReasonUnschedulable, "no node") })
			w.expect(t)
		})
	}
	t.Run("gone", func(t *testing.T) {
		w := newWaiters()
		conditioned(t, w, nil, func(r *Recorder) { r.Waits(pod("a"), ReasonUnschedulable, "no node") })
		w.expect(t)
	})
}

// The pod is bound between the look at it and the write. What binds it says that it
// is scheduled, and the informer has not heard of it.
func TestConditionIsNeverWrittenOverThatOfABoundPod(t *testing.T) {
	w := newWaiters(pod("a"))
	w.lagging = true
	w.held = sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.change("a", func(p *v1.Pod) {
			p.Spec.NodeName = "node-1"
			p.Status.Conditions = []v1.PodCondition{{Type: v1.PodScheduled, Status: v1.ConditionTrue}}
		})
	})
	conditioned(t, w, nil, func(r *Recorder) { r.Waits(w.pod("", "a"), ReasonUnschedulable, "no node") })
	w.expect(t)
	if c := w.pods["a"].Status.Conditions[0]; c.Status != v1.ConditionTrue {
		t.Errorf("a bound pod says %+v", c)
	}
}

// The pod is bound while the write waits for more important ones, and the informer has
// heard of it.
func TestConditionIsNotWrittenForAPodThatIsBoundMeanwhile(t *testing.T) {
	for name, is := range map[string]option{
		"bound":     on("node-1"),
		"scheduled": condition(v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue}),
		"ended":     in(v1.PodFailed),
		"another":   uid("another"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWaiters(pod("a"))
			yield := func(context.Context) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.change("a", is)
				return nil
			}
			conditioned(t, w, yield, func(r *Recorder) {
				r.conditions.want(w.pod("", "a"), ReasonUnschedulable, "no node")
			})
			w.expect(t)
		})
	}
}

// The informer is behind for a moment: the write is tried again with what it has then.
func TestConditionIsWrittenOnceTheInformerHasCaughtUp(t *testing.T) {
	w := newWaiters(pod("a"))
	w.lagging = true
	w.mu.Lock()
	w.change("a", func(p *v1.Pod) { p.Labels = map[string]string{"x": "y"} })
	w.mu.Unlock()
	conditioned(t, w, nil, func(r *Recorder) {
		r.Waits(w.pod("", "a"), ReasonUnschedulable, "no node")
		pass(10 * time.Millisecond)
		w.mu.Lock()
		w.lagging, w.seen["a"] = false, w.pods["a"]
		w.mu.Unlock()
	})
	w.expect(t, "a PodScheduled=False Unschedulable no node")
}

func TestNewestConditionWinsAndOneIsInFlight(t *testing.T) {
	w := newWaiters(pod("a"))
	at, most := 0, 0
	var mu sync.Mutex
	add := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		at += n
		most = max(most, at)
	}
	slow := func(context.Context) error {
		add(1)
		defer add(-1)
		time.Sleep(time.Second) // of the bubble
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		c := newConditions(w, RecorderConfig{Yield: slow, Pod: w.pod}, quiet)
		defer c.pool.stop()
		for _, why := range []string{"first", "second", "third", "last"} {
			c.want(w.pod("", "a"), ReasonUnschedulable, why)
			pass(100 * time.Millisecond)
		}
		pass(time.Minute)
		c.want(w.pod("", "a"), ReasonUnschedulable, "last") // which it says by now
		pass(time.Minute)
		c.want(w.pod("", "a"), ReasonUnschedulable, "anew")
		pass(time.Minute)
		if len(c.wanted) != 0 {
			t.Errorf("still remembered: %v", c.wanted)
		}
	})
	w.expect(t,
		"a PodScheduled=False Unschedulable first", "a PodScheduled=False Unschedulable last",
		"a PodScheduled=False Unschedulable anew")
	if most != 1 {
		t.Errorf("%d writes of a pod at a time", most)
	}
}

// The time of the change is that from another status: autoscalers and people read
// from it how long a pod has been waiting.
func TestConditionKeepsSinceWhen(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		pod  *v1.Pod
		want bool
	}{
		{pod("a"), true},
		{pod("a", condition(unschedulable("other"))), false},
	} {
		raw, err := conditionPatch(tt.pod, wanted{ReasonSkipped, "m"}, now)
		var p statusPatch
		if err = errors.Join(err, json.Unmarshal(raw, &p)); err != nil {
			t.Fatal(err)
		}
		if got := !p.Status.Conditions[0].LastTransitionTime.IsZero(); got != tt.want {
			t.Errorf("%s: time of the change written: %t, want %t", raw, got, tt.want)
		}
	}
}

func TestConditionTries(t *testing.T) {
	passes := errors.New("connection refused")
	for name, tt := range map[string]struct {
		answers []error
		want    int
	}{
		"passes":     {[]error{passes, passes}, 1},
		"stays":      {slices.Repeat([]error{passes}, 100), 0},
		"permanent":  {[]error{apierrors.NewForbidden(podResource, "a", errors.New("no")), nil}, 0},
		"fenced":     {[]error{fmt.Errorf("patch: %w", ErrFenced), nil}, 0},
		"is not now": {[]error{apierrors.NewNotFound(podResource, "a"), nil}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWaiters(pod("a"))
			w.answers = tt.answers
			conditioned(t, w, nil, func(r *Recorder) { r.Waits(w.pod("", "a"), ReasonUnschedulable, "no node") })
			if len(w.patches) != tt.want {
				t.Errorf("written %q, want %d", w.patches, tt.want)
			}
			if tried := len(tt.answers) - len(w.answers); tried > conditionTries {
				t.Errorf("%d tries", tried)
			}
		})
	}
}

func TestConditionsAndEventsYield(t *testing.T) {
	w := newWaiters(pod("a"))
	events := 0
	w.answer("create", "events", func(clienttesting.Action) (runtime.Object, error) { events++; return nil, nil })
	gate := make(chan struct{})
	yield := func(ctx context.Context) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	synctest.Test(t, func(t *testing.T) {
		gate = make(chan struct{}) // of the bubble
		r := NewRecorder(w, RecorderConfig{Instance: "r", Yield: yield, Pod: w.pod}, quiet)
		defer r.Stop()
		r.Waits(w.pod("", "a"), ReasonUnschedulable, "no node")
		pass(time.Minute)
		if len(w.patches) != 0 || events != 0 {
			t.Errorf("%d conditions and %d Events went ahead", len(w.patches), events)
		}
		close(gate)
		pass(time.Minute)
		if len(w.patches) != 1 || events != 1 {
			t.Errorf("%d conditions and %d Events when nothing is in the way", len(w.patches), events)
		}
	})
}

// That it waits is not told of a pod that has a node by the time it would be; all else is.
func TestAnOutdatedEventIsNotWritten(t *testing.T) {
	for _, test := range []struct {
		name   string
		change option
		want   int
	}{
		{"it still waits", version("2"), 2},
		{"it has a node", on("node-1"), 1},
		{"another of its name has", func(p *v1.Pod) { on("node-1")(p); uid("another")(p) }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWaiters(pod("a"))
			events := 0
			w.answer("create", "events", func(clienttesting.Action) (runtime.Object, error) { events++; return nil, nil })
			yield := func(context.Context) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.change("a", test.change)
				return nil
			}
			conditioned(t, w, yield, func(r *Recorder) {
				r.Pod(w.pod("", "a"), true, ReasonFailedScheduling, "no node")
				r.Pod(w.pod("", "a"), true, ReasonInvalid, "no label")
			})
			if events != test.want {
				t.Errorf("%d Events, not %d", events, test.want)
			}
		})
	}
}
