// Package tracing looks at the traces of real replicas through a real receiver.
package tracing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/telemetry/telemetrytest"
	"github.com/understudy-ha/understudy/e2e/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long anything may take to show in the traces.
const limit = time.Minute

// scene is a lab whose replicas send their traces here.
type scene struct {
	*testing.T
	lab       *lab.Lab
	collector *telemetrytest.Collector
}

func begin(t *testing.T) *scene {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "") // which means that it is not set
		}
	}
	s := &scene{T: t, collector: telemetrytest.New()}
	t.Cleanup(s.collector.Close)
	// The lab passes them on.
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", s.collector.URL())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	var out strings.Builder
	o := lab.Default()
	o.Dir, o.Nodes, o.Out = filepath.Join(t.TempDir(), "lab"), 4, &out
	var err error
	s.lab, err = lab.Up(t.Context(), o)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.lab.Down(false); err != nil {
			t.Error(err)
		}
	})
	return s
}

// pods creates n pods of an application and returns when the first of them and
// the last were.
func (s *scene) pods(app string, n int) (first, last time.Time) {
	s.Helper()
	for i := range n {
		pod, err := s.lab.Client().CoreV1().Pods("default").Create(s.Context(), &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("%s-%d", app, i), Labels: map[string]string{"applicationId": app, "queue": "root.default"},
			},
			Spec: v1.PodSpec{
				SchedulerName: "yunikorn",
				Containers: []v1.Container{{Name: "main", Image: "none", Resources: v1.ResourceRequirements{
					Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("100m")},
				}}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			s.Fatal(err)
		}
		last = pod.CreationTimestamp.Time
		if i == 0 {
			first = last
		}
	}
	return first, last
}

func (s *scene) deletePods(app string) {
	s.Helper()
	now := int64(0)
	err := s.lab.Client().CoreV1().Pods("default").DeleteCollection(s.Context(),
		metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: "applicationId=" + app})
	if err != nil {
		s.Fatal(err)
	}
}

// end signals the lead and returns its name.
func (s *scene) end(signal syscall.Signal) string {
	s.Helper()
	name, err := s.lab.Leader(s.Context())
	if err == nil {
		err = s.lab.Kill(name, signal)
	}
	if err != nil {
		s.Fatal(err)
	}
	return name
}

// await waits for n spans of a name and an epoch, which in a test is enough to
// tell them from others; an epoch of zero stands for any.
func (s *scene) await(n int, name string, epoch int) []telemetrytest.Span {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), limit)
	defer cancel()
	var found []telemetrytest.Span
	all, err := s.collector.Wait(ctx, func(spans []telemetrytest.Span) bool {
		found = slices.DeleteFunc(spans, func(span telemetrytest.Span) bool {
			return span.Name != name || epoch != 0 && span.Attributes["epoch"] != fmt.Sprint(epoch)
		})
		return len(found) >= n
	})
	if err != nil {
		s.Fatalf("%d spans %s of epoch %d, want %d: %v\n%s", len(found), name, epoch, n, err, list(all))
	}
	return found
}

func (s *scene) one(name string, epoch int) telemetrytest.Span {
	s.Helper()
	found := s.await(1, name, epoch)
	if len(found) != 1 {
		s.Fatalf("%d spans %s of epoch %d", len(found), name, epoch)
	}
	return found[0]
}

func list(spans []telemetrytest.Span) string {
	var out strings.Builder
	for _, span := range spans {
		fmt.Fprintf(&out, "%s %-14s %-24s %v\n", span.Trace, process(span), span.Name, span.Attributes)
	}
	return out.String()
}

func process(span telemetrytest.Span) string { return span.Resource["service.instance.id"] }

// steps are the parts of a failover, in order.
var steps = []string{"detect", "acquire", "claim", "catch-up", "sync-cluster", "reconcile", "verify-engine", "release-engine", "attach"}

// failover checks the trace of the failover that began an epoch and returns the
// span of the whole.
func (s *scene) failover(epoch int, reason string) telemetrytest.Span {
	s.Helper()
	whole := s.one("failover", epoch)
	if got := whole.Attributes["failover.reason"]; got != reason {
		s.Errorf("epoch %d began because the lease was %s, want %s", epoch, got, reason)
	}
	from := whole.Start
	for _, name := range steps {
		step := s.one("failover."+name, epoch)
		if step.Parent != whole.ID || !step.Start.Equal(from) || process(step) != process(whole) {
			s.Errorf("epoch %d: %s begins at %v below %v in %s, want %v, %v, %s",
				epoch, name, step.Start, step.Parent, process(step), from, whole.ID, process(whole))
		}
		from = step.End
	}
	if !whole.End.Equal(from) {
		s.Errorf("epoch %d: the failover ends at %v, its last step at %v", epoch, whole.End, from)
	}
	processes := []string{process(whole)}
	for _, follow := range s.await(2, "failover.follow", epoch) {
		if follow.Parent != whole.ID {
			s.Errorf("epoch %d: %s followed below %v, want %v", epoch, process(follow), follow.Parent, whole.ID)
		}
		processes = append(processes, process(follow))
	}
	slices.Sort(processes)
	if want := []string{"understudy-0", "understudy-1", "understudy-2"}; !slices.Equal(processes, want) {
		s.Errorf("epoch %d: the failover is a trace of %v, want %v", epoch, processes, want)
	}
	return whole
}

// TestFailoverIsOneTraceAndStepsAreLinkedAcrossIt lets one lead be killed and the
// next one hand over.
func TestFailoverIsOneTraceAndStepsAreLinkedAcrossIt(t *testing.T) {
	s := begin(t)
	first, last := s.pods("ends", 2)
	s.pods("stays", 2)
	s.await(4, "task.bind", 1)
	s.failover(1, "vacant")

	told := time.Now()
	killed := s.end(syscall.SIGKILL)
	s.pods("comes", 1)
	if bind := s.one("failover.first-bind", 2); bind.Attributes["app.id"] != "comes" || bind.Parent != s.one("failover", 2).ID {
		t.Errorf("first bind: %+v", bind)
	}
	crash := s.failover(2, "dead")
	if want := s.one("failover", 1).ID; !slices.Equal(crash.Links, []telemetrytest.ID{want}) {
		t.Errorf("the failover is linked to %v, want that of the lead that died, %v", crash.Links, want)
	}
	from := crash.Attributes["failover.from"]
	if !strings.HasPrefix(from, killed+"_") {
		t.Errorf("the failover is from %s, want %s", from, killed)
	}
	// The supervisor of the lead that died begins it, in which nobody else has a part.
	depose := s.one("failover.depose", 1)
	if crash.Parent != depose.ID || process(depose) != killed || depose.Attributes["failover.from"] != from ||
		depose.Start.Before(told) || len(depose.Links) != 0 {
		t.Errorf("the failover of %s, killed at %v, is below %v; want %+v", killed, told, crash.Parent, depose)
	}

	s.deletePods("ends")
	for _, complete := range s.await(2, "task.complete", 2) {
		s.linked(complete, "task.bind", "1")
	}
	told = time.Now()
	s.end(syscall.SIGTERM)
	handOver := s.one("failover.hand-over", 2)
	if handed := s.failover(3, "released"); handed.Parent != handOver.ID {
		t.Errorf("the failover is below %v, want the hand-over %v", handed.Parent, handOver.ID)
	}
	if handOver.Start.Before(told) || !slices.Equal(handOver.Links, []telemetrytest.ID{crash.ID}) {
		t.Errorf("the hand-over began at %v, asked for at %v, with links %v", handOver.Start, told, handOver.Links)
	}

	// The engine sees an application without pods through in half a minute, a new
	// lead at once.
	life := s.one("app.lifecycle", 0)
	s.linked(life, "app.admit", "1")
	if life.Attributes["app.id"] != "ends" || life.Attributes["app.state"] != "Completed" ||
		life.Start.Before(first) || life.Start.After(last) || life.End.Before(told) || life.End.After(time.Now()) {
		t.Errorf("lifecycle from %v to %v of %v", life.Start, life.End, life.Attributes)
	}
	s.sound()
}

// linked checks that the only link of a span is to one of a name and an epoch, of
// the same application.
func (s *scene) linked(span telemetrytest.Span, name, epoch string) {
	s.Helper()
	for _, before := range s.collector.Spans() {
		if len(span.Links) == 1 && before.ID == span.Links[0] && before.Name == name && before.Attributes["epoch"] == epoch &&
			before.Attributes["app.id"] == span.Attributes["app.id"] && before.Attributes["task.id"] == span.Attributes["task.id"] {
			return
		}
	}
	s.Errorf("%s %v has links %v, none of them to %s of epoch %s", span.Name, span.Attributes, span.Links, name, epoch)
}

// sound checks what is true of every span.
func (s *scene) sound() {
	s.Helper()
	all := s.collector.Spans()
	known := map[telemetrytest.ID]bool{{}: true}
	for _, span := range all {
		known[span.ID] = true
	}
	for _, span := range all {
		for _, key := range []string{"epoch", "etcd.revision", "replica.role"} {
			unknown := key == "etcd.revision" && span.Attributes["replica.role"] == "supervisor"
			if value := span.Attributes[key]; value == "" || value == "0" && !unknown {
				s.Errorf("%s of %s: %s is %q", span.Name, process(span), key, value)
			}
		}
		kind, _, _ := strings.Cut(span.Name, ".")
		if (kind == "app" || kind == "task") && span.Attributes["app.id"] == "" || kind == "task" && span.Attributes["task.id"] == "" {
			s.Errorf("%s does not say of what it is: %v", span.Name, span.Attributes)
		}
		if span.Resource["service.name"] != "understudy" || !strings.HasPrefix(process(span), "understudy-") {
			s.Errorf("%s is from %v", span.Name, span.Resource)
		}
		for _, id := range append(span.Links, span.Parent) {
			if !known[id] {
				s.Errorf("%s of %s refers to %v, which has not arrived", span.Name, process(span), id)
			}
		}
		if span.End.Before(span.Start) {
			s.Errorf("%s ends before it begins", span.Name)
		}
		if name := strings.ToLower(span.Name); strings.Contains(name, "watch") || strings.Contains(name, "lease") && kind != "failover" {
			s.Errorf("%s is traced", span.Name)
		}
	}
}
