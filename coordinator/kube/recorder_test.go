package kube

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// record runs do with a recorder and returns the Events written once all has
// been quiet. answer, if not nil, decides each request.
func record(t *testing.T, do func(*Recorder), answer func() error) (written []*v1.Event) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		events := make(chan *v1.Event, 100_000)
		s.answer("create", "events", func(a clienttesting.Action) (runtime.Object, error) {
			event := a.(clienttesting.CreateAction).GetObject().(*v1.Event)
			if answer != nil {
				if err := answer(); err != nil {
					return nil, err
				}
			}
			events <- event
			return event, nil
		})
		r := NewRecorder(s, RecorderConfig{Instance: "replica-1_abc"}, quiet)
		do(r)
		pass(10 * time.Minute)
		r.Stop()
		close(events)
		for e := range events {
			written = append(written, e)
		}
	})
	return written
}

func messages(events []*v1.Event) (out []string) {
	for _, e := range events {
		out = append(out, e.InvolvedObject.Name+" "+e.Reason+" "+e.Message)
	}
	slices.Sort(out)
	return out
}

func TestEvent(t *testing.T) {
	events := record(t, func(r *Recorder) {
		r.Task(ledger.ReportTask{Task: task("p"), Reason: "Scheduled", Action: "Binding", Message: "on node-1"})
	}, nil)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	if e.Namespace != "ns" || e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.UID != "uid-p" || e.Type != v1.EventTypeNormal ||
		e.Reason != "Scheduled" || e.Action != "Binding" || e.Source.Component != "understudy" || e.Source.Host != "replica-1_abc" || e.FirstTimestamp.IsZero() {
		t.Errorf("event = %+v", e)
	}
}

// TestAConfigMapThatIsBrokenAgainIsToldOfAgain: once each time, however often it is said.
func TestAConfigMapThatIsBrokenAgainIsToldOfAgain(t *testing.T) {
	cm := queues("queues", "")
	cm.UID = "uid-cm"
	events := record(t, func(r *Recorder) {
		r.ConfigMap(nil, true, "Refused", "one that is gone")
		for range 3 {
			r.ConfigMap(cm, true, "Refused", "no queues")
			r.ConfigMap(cm, true, "Refused", "no queues")
			r.ConfigMap(cm, false, "Accepted", "in force")
		}
	}, nil)
	if got := messages(events); len(got) != 6 || got[0] != "queues Accepted in force" || got[3] != "queues Refused no queues" {
		t.Errorf("told %q", got)
	}
	if e := events[0]; e.Namespace != "own" || e.InvolvedObject.Kind != "ConfigMap" || e.InvolvedObject.UID != "uid-cm" {
		t.Errorf("event = %+v", e)
	}
}

// TestWhatIsToldAgainByAnotherReplica has the same name, so that the API server has it once.
func TestWhatIsToldAgainByAnotherReplica(t *testing.T) {
	names := func(about v1.ObjectReference, message string) (names []string) {
		for _, e := range record(t, func(r *Recorder) {
			r.Object(about, true, "InvalidSpec", message)
			r.Problems(pod("p"), []workload.Problem{{Key: "k", Message: message}})
			r.Task(ledger.ReportTask{Task: task("q"), Reason: "FailedBinding", Message: message})
		}, nil) {
			names = append(names, e.Name)
		}
		slices.Sort(names)
		return names
	}
	about := v1.ObjectReference{Kind: "Application", Namespace: "ns", Name: "report", UID: "1", ResourceVersion: "5"}
	first := names(about, "line 3 cannot be read")
	about.ResourceVersion = "6"
	if again := names(about, "line 4 cannot be read"); len(again) != 3 || !slices.Equal(again, first) {
		t.Errorf("names %q and %q", first, again)
	}
	if other := names(about, "the queue is unknown"); slices.ContainsFunc(other, func(name string) bool { return slices.Contains(first, name) }) {
		t.Errorf("names of something else %q and %q", first, other)
	}
	anew := about
	anew.UID = "2"
	if other := names(anew, "line 3 cannot be read"); slices.Contains(first, other[2]) {
		t.Errorf("names of another object %q and %q", first, other)
	}
}

// TestANewLeadRepeatsNoEvent: a pod that has been told of two reasons in turn is told of neither
// again by the next lead, whatever its condition says last.
func TestANewLeadRepeatsNoEvent(t *testing.T) {
	lead := 0
	tell := func(r *Recorder) {
		time.Sleep(time.Duration(lead) * time.Hour) // it has another time
		p := pod("p")
		r.Waits(p, ReasonUnschedulable, "0/3 nodes: 3 full")
		r.Waits(p, ReasonSkipped, "beyond the quota of root.a")
		r.Task(ledger.ReportTask{Task: task("p"), Reason: "Scheduled", Message: "on node-1"})
	}
	there := make(map[string]bool) // the API server
	for _, want := range []int{3, 0} {
		lead++
		news := 0
		for _, e := range record(t, tell, nil) {
			if !there[e.Namespace+"/"+e.Name] {
				news++
			}
			there[e.Namespace+"/"+e.Name] = true
		}
		if news != want {
			t.Errorf("lead %d: %d new Events, want %d", lead, news, want)
		}
	}
}

func TestReasonsAreToldOncePerPod(t *testing.T) {
	got := messages(record(t, func(r *Recorder) {
		for i := range 50 {
			r.Pod(pod("a"), true, "FailedScheduling", fmt.Sprintf("0/%d nodes: insufficient cpu", i))
			r.Pod(pod("b"), true, "FailedScheduling", "untolerated taint")
		}
		r.Pod(pod("a"), true, "FailedScheduling", "untolerated taint")
		r.Problems(pod("a"), []workload.Problem{{Key: "kx", Message: "bad"}, {Key: "ky", Message: "bad"}})
		r.Forget("uid-b")
		r.Pod(pod("b"), true, "FailedScheduling", "untolerated taint")
	}, nil))
	want := []string{
		"a FailedScheduling 0/0 nodes: insufficient cpu",
		"a FailedScheduling untolerated taint",
		"a InvalidAnnotation kx: bad",
		"a InvalidAnnotation ky: bad",
		"b FailedScheduling untolerated taint",
		"b FailedScheduling untolerated taint",
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q\nwant %q", got, want)
	}
}

func TestNoReasonIsLostInABurst(t *testing.T) {
	const pods = 5000
	got := messages(record(t, func(r *Recorder) {
		for i := range pods {
			r.Pod(pod(fmt.Sprint(i)), true, "FailedScheduling", "no node")
		}
	}, nil))
	if n := len(slices.Compact(got)); n != pods {
		t.Errorf("%d pods were told, want %d", n, pods)
	}
}

func TestAPodThatKeepsFailingIsToldSoMuch(t *testing.T) {
	events := record(t, func(r *Recorder) {
		for i := range 1000 {
			r.Pod(pod("a"), true, "FailedScheduling", strings.Repeat("x", i))
		}
	}, nil)
	if len(events) != maxReasons {
		t.Errorf("%d events, want %d", len(events), maxReasons)
	}
}

func TestEventTries(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"passes":    {errors.New("refused"), recorderTries},
		"permanent": {apierrors.NewForbidden(podResource, "p", errors.New("terminating")), 1},
		"fenced":    {fmt.Errorf("post: %w", ErrFenced), 1},
		"exists":    {apierrors.NewAlreadyExists(podResource, "p"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			events := record(t, func(r *Recorder) { r.Pod(pod("a"), false, "r", "m") }, func() error { tries++; return tt.err })
			if tries != tt.want || len(events) != 0 {
				t.Errorf("%d tries, want %d", tries, tt.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	if got := cut("aé", 2); got != "a" {
		t.Errorf("cut in the middle of a character: %q", got)
	}
	if got := cut("abc", 3); got != "abc" {
		t.Errorf("got %q", got)
	}
}
