package term

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/coordinator/telemetry/telemetrytest"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// unsetTelemetry makes a test independent of what the environment says of traces.
func unsetTelemetry(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
}

// traced steps events with tracing on, and returns the spans by their names: the
// last of those with the same name.
func traced(t *testing.T, l *ledger.Ledger, events ...ledger.Event) map[string]telemetrytest.Span {
	t.Helper()
	unsetTelemetry(t)
	collector := telemetrytest.New()
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL())
	tracing, err := telemetry.StartTracing(t.Context(), telemetry.NewStanding("r"), "v")
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		stepTracer{tracing}.step(l, event)
	}
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := map[string]telemetrytest.Span{}
	for _, s := range collector.Spans() {
		spans[s.Name] = s
	}
	return spans
}

func stamp(at int64) ledger.Stamp { return ledger.Stamp{At: ledger.Time(at)} }

// scheduled brings a pod of application a to where the engine chooses a node.
var scheduled = []ledger.Event{
	ledger.AddApp{Stamp: stamp(1), ID: "a"},
	ledger.AddTask{Stamp: stamp(2), AppID: "a", ID: "t", Namespace: "ns", Name: "pod"},
	ledger.AppAccepted{Stamp: stamp(3), AppID: "a"},
	ledger.Allocated{Stamp: stamp(4), AppID: "a", TaskID: "t", Node: "n"},
}

// bindings are the ways in which a lead learns that a pod is bound: the answer to
// its request, or the informer, whichever is quicker.
var bindings = map[string]ledger.Event{
	"answer":   ledger.BindDone{Stamp: stamp(5), AppID: "a", TaskID: "t", Node: "n"},
	"informer": ledger.AddTask{Stamp: stamp(5), AppID: "a", ID: "t", Namespace: "ns", Name: "pod", Node: "n"},
}

// endings are those in which it learns that a pod has ended.
var endings = map[string]ledger.Event{
	"notified":   ledger.CompleteTask{Stamp: stamp(6), AppID: "a", TaskID: "t"},
	"terminated": ledger.AddTask{Stamp: stamp(6), AppID: "a", ID: "t", Namespace: "ns", Name: "pod", Node: "n", Terminated: true},
	"vanished":   ledger.RemoveTask{Stamp: stamp(6), AppID: "a", TaskID: "t"},
}

func TestStepsAreLinkedToTheirPredecessors(t *testing.T) {
	for how, binding := range bindings {
		for why, ending := range endings {
			t.Run(how+"/"+why, func(t *testing.T) {
				spans := traced(t, ledger.New(), append(slices.Clone(scheduled), binding, ending,
					ledger.AppEnded{Stamp: stamp(7), AppID: "a", State: ledger.AppStateCompleted})...)
				for step, predecessor := range map[string]string{
					"app.submit": "", "app.admit": "app.submit", "task.submit": "app.submit", "task.ask": "task.submit",
					"task.bind": "task.ask", "task.complete": "task.bind", "app.lifecycle": "app.admit",
				} {
					span, made := spans[step]
					if !made {
						t.Errorf("no span for %s", step)
						continue
					}
					if before := spans[predecessor].ID; predecessor != "" && !slices.Equal(span.Links, []telemetrytest.ID{before}) {
						t.Errorf("%s is linked to %v, not to %s %v", step, span.Links, predecessor, before)
					}
					if span.Attributes["app.id"] != "a" || strings.HasPrefix(step, "task.") && span.Attributes["task.id"] != "t" {
						t.Errorf("%s has attributes %v", step, span.Attributes)
					}
				}
			})
		}
	}
}

// What an engine says of an application's end, and what ends it, are two things.
func TestOneLifecycleForEachApplication(t *testing.T) {
	ended := func(at int64, state ledger.AppState) ledger.Event {
		return ledger.AppEnded{Stamp: stamp(at), AppID: "a", State: state}
	}
	submit := ledger.AddApp{Stamp: stamp(2), ID: "a", Submitted: 1}
	accept := ledger.AppAccepted{Stamp: stamp(3), AppID: "a"}
	pod := ledger.AddTask{Stamp: stamp(4), AppID: "a", ID: "t"}
	gone := ledger.CompleteTask{Stamp: stamp(6), AppID: "a", TaskID: "t"}
	for name, tc := range map[string]struct {
		events []ledger.Event
		state  string
		end    int64
	}{
		"completed":             {[]ledger.Event{submit, accept, ended(5, ledger.AppStateCompleted), ended(8, ledger.AppStateCompleted)}, "Completed", 5},
		"not while a pod lives": {[]ledger.Event{submit, accept, pod, ended(5, ledger.AppStateCompleted)}, "", 0},
		"by its manager":        {[]ledger.Event{submit, accept, ledger.CompleteApp{Stamp: stamp(5), AppID: "a"}}, "Completed", 5},
		"rejected":              {[]ledger.Event{submit, ledger.AppRejected{Stamp: stamp(5), AppID: "a"}}, "Rejected", 5},
		"fails with its pods":   {[]ledger.Event{submit, accept, pod, ledger.FailApp{Stamp: stamp(5), AppID: "a"}, gone, ended(8, ledger.AppStateFailed)}, "Failed", 6},
		"killed with its pods":  {[]ledger.Event{submit, accept, pod, ledger.KillApp{Stamp: stamp(5), AppID: "a"}, gone}, "Killed", 6},
	} {
		t.Run(name, func(t *testing.T) {
			life, made := traced(t, ledger.New(), tc.events...)["app.lifecycle"]
			if made != (tc.state != "") {
				t.Fatalf("lifecycle: %v", life)
			}
			if made && (life.Start.UnixNano() != 1 || life.End.UnixNano() != tc.end || life.Attributes["app.state"] != tc.state) {
				t.Errorf("from %d to %d, %v", life.Start.UnixNano(), life.End.UnixNano(), life.Attributes)
			}
		})
	}
}

// Guarantee of the package telemetry: without OTEL_* variables a step costs what
// the ledger costs.
func TestStepsWithoutTracesAllocateNothingMore(t *testing.T) {
	unsetTelemetry(t)
	tracing, err := telemetry.StartTracing(t.Context(), telemetry.NewStanding("r"), "v")
	if err != nil || tracing.Enabled() {
		t.Fatalf("enabled without a setting, %v", err)
	}
	lead := &Lead{Deps: Deps{Tracing: tracing}}
	f := &timings{tracing: tracing}
	for _, event := range scheduled {
		cost := func(step func(*ledger.Ledger, ledger.Event) ledger.Delta) float64 {
			l := ledger.New()
			for _, before := range scheduled {
				l.Step(before)
			}
			return testing.AllocsPerRun(100, func() { step(l, event) })
		}
		bare, led := cost((*ledger.Ledger).Step), cost(lead.step)
		if led != bare {
			t.Errorf("%s: %v allocations, %v in the ledger", event.Kind(), led, bare)
		}
	}
	if got := testing.AllocsPerRun(100, func() { f.within(t.Context()) }); got != 0 {
		t.Errorf("a request of a failover: %v allocations", got)
	}
}

// A task that takes the place of a placeholder has its node when that is given up.
func TestTheChoiceOfAPlaceIsLinked(t *testing.T) {
	spans := traced(t, ledger.New(),
		ledger.AddApp{Stamp: stamp(1), ID: "a", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}},
		ledger.AppAccepted{Stamp: stamp(2), AppID: "a"},
		ledger.AddTask{Stamp: stamp(3), AppID: "a", ID: "p", Name: "p", TaskGroup: "g", Placeholder: true, Node: "n"},
		ledger.AddTask{Stamp: stamp(4), AppID: "a", ID: "t", Name: "t", TaskGroup: "g"},
		ledger.Released{Stamp: stamp(5), AppID: "a", TaskID: "p", Termination: ledger.PlaceholderReplaced, For: "t", Node: "n"},
		ledger.CompleteTask{Stamp: stamp(6), AppID: "a", TaskID: "p"},
		ledger.BindDone{Stamp: stamp(7), AppID: "a", TaskID: "t", Node: "n"},
	)
	for step, predecessor := range map[string]string{"task.ask": "task.submit", "task.bind": "task.ask"} {
		if before := spans[predecessor].ID; !slices.Equal(spans[step].Links, []telemetrytest.ID{before}) {
			t.Errorf("%s is linked to %v, not to %s %v", step, spans[step].Links, predecessor, before)
		}
	}
}
