package telemetry

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/coordinator/telemetry/telemetrytest"
)

func TestNothingConfiguredCostsNothing(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing":  {},
		"none":     {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		"disabled": {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		// Neither says where to send anything.
		"others": {"OTEL_SERVICE_NAME": "mine", "OTEL_TRACES_SAMPLER": "always_on"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			before := goleak.IgnoreCurrent()
			tracing, err := StartTracing(t.Context(), NewStanding("r1"), "v9")
			if err != nil || tracing.Enabled() {
				t.Fatalf("enabled = %t, %v", tracing.Enabled(), err)
			}
			if err := goleak.Find(before); err != nil {
				t.Errorf("a goroutine was started: %v", err)
			}
			ctx := t.Context()
			if allocs := testing.AllocsPerRun(100, func() {
				below, span := tracing.Span(ctx, "step")
				span.End()
				_, span = tracing.StartLinked(below, "step", "", time.Time{})
				span.End()
				if tracing.Record("step", "", time.Time{}, time.Time{}) != "" {
					t.Error("a traceparent without a trace")
				}
			}); allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
			if got := tracing.EtcdDialOptions(); got != nil {
				t.Error("the etcd client is instrumented")
			}
			if rt := roundTripper(nil); fmt.Sprint(tracing.WrapTransport(rt)) != fmt.Sprint(rt) {
				t.Error("the transport is wrapped")
			}
			_, span := tracing.Provider().Tracer("x").Start(ctx, "x")
			if span.IsRecording() {
				t.Error("the provider records")
			}
			if err := tracing.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBrokenSettingsLeaveAReplicaWithoutTraces(t *testing.T) {
	for name, env := range map[string][2]string{
		"exporter": {"OTEL_TRACES_EXPORTER", "pigeon"},
		"protocol": {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/xml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
			t.Setenv(env[0], env[1])
			tracing, err := StartTracing(t.Context(), NewStanding("r1"), "v9")
			if err == nil || tracing.Enabled() {
				t.Errorf("enabled = %t, error %v", tracing.Enabled(), err)
			}
		})
	}
}

func TestSpansArriveWithTheirLabels(t *testing.T) {
	c := newCollector(t)
	standing := NewStanding("r1")
	tracing, stop := c.process(t, standing)
	standing.Set("lead", 4)
	standing.SetRevision(77)

	ctx, step := tracing.Span(t.Context(), "bind", AppIDKey.String("app-1"), TaskIDKey.String("task-1"))
	_, child := tracing.Span(ctx, "child")
	_, foreign := tracing.Provider().Tracer("library").Start(ctx, "library call")
	_, own := tracing.Span(ctx, "own values", EpochKey.Int64(3), AppIDKey.String("app-2"))
	_, other := tracing.StartLinked(ctx, "other trace", "", time.Time{})
	for _, s := range []trace.Span{child, foreign, own, other, step} {
		s.End()
	}
	stop()

	for name, want := range map[string]string{
		"bind": "app-1 4 77 lead", "child": "app-1 4 77 lead", "library call": "app-1 4 77 lead",
		"own values":  "app-2 3 77 lead",
		"other trace": " 4 77 lead",
	} {
		got := c.span(t, name).Attributes
		if s := strings.Join([]string{got["app.id"], got["epoch"], got["etcd.revision"], got["replica.role"]}, " "); s != want {
			t.Errorf("%s: %q, want %q", name, s, want)
		}
	}
	resource := c.span(t, "bind").Resource
	if resource["service.name"] != "understudy" || resource["service.version"] != "v9" ||
		resource["service.instance.id"] != "r1" || resource["replica"] != "r1" {
		t.Errorf("resource = %v", resource)
	}
}

func TestServiceNameFromTheEnvironmentWins(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab")
	c := newCollector(t)
	tracing, stop := c.process(t, NewStanding("r1"))
	tracing.Record("x", "", time.Time{}, time.Time{})
	stop()
	got := c.span(t, "x").Resource
	if got["service.name"] != "mine" || got["deployment.environment.name"] != "lab" {
		t.Errorf("resource = %v", got)
	}
}

func TestSamplerFromTheEnvironmentWins(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	c := newCollector(t)
	tracing, stop := c.process(t, NewStanding("r1"))
	tracing.Record("x", "", time.Time{}, time.Time{})
	stop()
	if got := c.names(); len(got) != 0 {
		t.Errorf("spans %q were sent", got)
	}
}

// TestChainOfStepsAcrossAFailover is the life of an application whose first
// lead dies: what one process left in the record is what the next links to.
func TestChainOfStepsAcrossAFailover(t *testing.T) {
	c := newCollector(t)
	app := AppIDKey.String("app-1")
	begin := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

	firstStanding := NewStanding("r1")
	firstStanding.Set("lead", 1)
	first, stop := c.process(t, firstStanding)
	record := first.Record("submit", "", begin, begin.Add(time.Millisecond), app)
	record = first.Record("ask", record, begin.Add(time.Second), begin.Add(2*time.Second), app)
	stop()

	secondStanding := NewStanding("r2")
	secondStanding.Set("lead", 2)
	second, stop := c.process(t, secondStanding)
	ctx, bind := second.StartLinked(t.Context(), "bind", record, time.Time{}, app)
	bind.End()
	record = Traceparent(ctx)
	second.Lifecycle("app-1", record, begin, begin.Add(time.Hour), attribute.String("state", "Completed"))
	stop()

	chain := []string{"submit", "ask", "bind", "app.lifecycle"}
	traces := map[string]bool{}
	for i, name := range chain {
		s := c.span(t, name)
		traces[s.Trace] = true
		if s.Parent != (telemetrytest.ID{}) {
			t.Errorf("%s is not a trace of its own", name)
		}
		if i == 0 {
			if len(s.Links) != 0 {
				t.Errorf("the first step has a link")
			}
			continue
		}
		if before := c.span(t, chain[i-1]); !slices.Equal(s.Links, []telemetrytest.ID{before.ID}) {
			t.Errorf("%s is not linked to %s", name, chain[i-1])
		}
	}
	if len(traces) != len(chain) {
		t.Errorf("%d traces, want %d", len(traces), len(chain))
	}
	if e1, e2 := c.span(t, "ask").Attributes["epoch"], c.span(t, "bind").Attributes["epoch"]; e1 != "1" || e2 != "2" {
		t.Errorf("epochs %s and %s", e1, e2)
	}
	life := c.span(t, "app.lifecycle")
	if !life.Start.Equal(begin) || !life.End.Equal(begin.Add(time.Hour)) {
		t.Errorf("lifecycle from %v to %v", life.Start, life.End)
	}
	if got := life.Attributes; got["app.id"] != "app-1" || got["state"] != "Completed" {
		t.Errorf("lifecycle attributes %v", got)
	}
}

func TestAFailoverIsOneTraceAcrossProcesses(t *testing.T) {
	c := newCollector(t)
	first, stop := c.process(t, NewStanding("r1"))
	ctx, span := first.StartLinked(t.Context(), "failover", "", time.Time{})
	span.End()
	handed := Traceparent(ctx)
	stop()
	second, stop := c.process(t, NewStanding("r2"))
	_, span = second.Span(Continue(t.Context(), handed), "catch up")
	span.End()
	begin := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	second.SpanAt(Continue(t.Context(), handed), "claim", begin, begin.Add(time.Second))
	// What goes on elsewhere in this process is another trace.
	within, elsewhere := second.Span(t.Context(), "elsewhere")
	elsewhere.End()
	_, span = second.StartContinued(within, "goes on", handed, Traceparent(within), begin)
	span.End()
	_, span = second.StartContinued(within, "begins anew", "", Traceparent(within), begin)
	span.End()
	stop()
	a, b := c.span(t, "failover"), c.span(t, "catch up")
	if b.Parent != a.ID {
		t.Errorf("catch up is below %v, want %v", b.Parent, a.ID)
	}
	claim := c.span(t, "claim")
	if claim.Parent != a.ID || !claim.Start.Equal(begin) || !claim.End.Equal(begin.Add(time.Second)) {
		t.Errorf("claim = %v", claim)
	}
	elsewhereID := c.span(t, "elsewhere").ID
	goesOn := c.span(t, "goes on")
	if goesOn.Parent != a.ID || !slices.Equal(goesOn.Links, []telemetrytest.ID{elsewhereID}) || !goesOn.Start.Equal(begin) {
		t.Errorf("goes on = %v", goesOn)
	}
	if anew := c.span(t, "begins anew"); anew.Parent != (telemetrytest.ID{}) || !slices.Equal(anew.Links, []telemetrytest.ID{elsewhereID}) {
		t.Errorf("begins anew = %v", anew)
	}
	if want := "00-" + a.Trace + "-" + a.Span + "-01"; handed != want {
		t.Errorf("traceparent %s, want %s", handed, want)
	}
}

func TestMalformedTraceparents(t *testing.T) {
	for _, bad := range []string{"", "00-", "garbage", "00-00000000000000000000000000000000-0000000000000000-01",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		if _, ok := Link(bad); ok {
			t.Errorf("link to %q", bad)
		}
		if ctx := Continue(t.Context(), bad); ctx != t.Context() {
			t.Errorf("continued %q", bad)
		}
	}
	good := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	link, ok := Link(good)
	if !ok || link.SpanContext.SpanID().String() != "00f067aa0ba902b7" {
		t.Errorf("link = %v, %t", link, ok)
	}
	if got := Traceparent(Continue(context.Background(), good)); got != good {
		t.Errorf("round trip gives %s", got)
	}
}

func TestShutdownGivesUpAtItsDeadline(t *testing.T) {
	// A collector that accepts connections and never answers.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
	tracing, err := StartTracing(t.Context(), NewStanding("r1"), "v9")
	if err != nil {
		t.Fatal(err)
	}
	tracing.Record("x", "", time.Time{}, time.Time{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := tracing.Shutdown(ctx); err == nil {
		t.Error("no error, though nothing was delivered")
	}
	if took := time.Since(start); took > 8*time.Second { // an export that is not given up takes 10 s
		t.Errorf("took %s", took)
	}
}

func TestKeysAreThoseOfTheDocumentation(t *testing.T) {
	got := []attribute.Key{AppIDKey, EpochKey, RevisionKey, RoleKey}
	if want := []attribute.Key{"app.id", "epoch", "etcd.revision", "replica.role"}; !slices.Equal(got, want) {
		t.Errorf("keys %v", got)
	}
}

// The clocks of two leads may differ: a step never ends before it begins.
func TestClocksThatDiffer(t *testing.T) {
	c := newCollector(t)
	tracing, stop := c.process(t, NewStanding("r1"))
	at := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	ctx, span := tracing.Span(t.Context(), "above")
	tracing.Record("step", "", at.Add(time.Second), at)
	tracing.Record("no start", "", time.Time{}, at)
	tracing.SpanAt(ctx, "below", at.Add(time.Second), at)
	span.End()
	stop()
	for _, name := range []string{"step", "no start", "below"} {
		if s := c.span(t, name); !s.Start.Equal(at) || !s.End.Equal(at) {
			t.Errorf("%s from %v to %v", name, s.Start, s.End)
		}
	}
}

// A replica that is killed has sent all but its last second.
func TestSpansAreSentSoon(t *testing.T) {
	c := newCollector(t)
	tracing, stop := c.process(t, NewStanding("r1"))
	defer stop()
	tracing.Record("x", "", time.Time{}, time.Time{})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if _, err := c.Wait(ctx, func(s []telemetrytest.Span) bool { return len(s) > 0 }); err != nil {
		t.Error("not sent within 4s, though sent every second")
	}
}
