package telemetry

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/coordinator/telemetry/telemetrytest"
)

func TestMain(m *testing.M) {
	// Tests say themselves where traces go.
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			_ = os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

type collector struct{ *telemetrytest.Collector }

func newCollector(t *testing.T) collector {
	t.Helper()
	c := collector{telemetrytest.New()}
	t.Cleanup(c.Close)
	return c
}

// span returns the one span of that name.
func (c collector) span(t *testing.T, name string) telemetrytest.Span {
	t.Helper()
	var found []telemetrytest.Span
	for _, s := range c.Spans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans are called %q, want one; there are %q", len(found), name, c.names())
	}
	return found[0]
}

func (c collector) names() []string {
	var names []string
	for _, s := range c.Spans() {
		names = append(names, s.Name)
	}
	return names
}

// process is the tracing of one replica that sends to c. Its spans have been
// received when stop returns.
func (c collector) process(t *testing.T, s *Standing) (tracing *Tracing, stop func()) {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL())
	tracing, err := StartTracing(t.Context(), s, "v9")
	if err != nil {
		t.Fatal(err)
	}
	if !tracing.Enabled() {
		t.Fatal("not enabled by an endpoint")
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	}
	return tracing, stop
}
