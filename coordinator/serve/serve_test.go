package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed is a Source that always says the same.
type fixed struct {
	status Status
	checks []Check
}

func (f fixed) Status() Status  { return f.status }
func (f fixed) Checks() []Check { return f.checks }

func get(t *testing.T, source Source, cfg Config, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(cfg, source, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestProbes(t *testing.T) {
	behind := errors.New("1,204 revisions\nbehind")
	stuck := errors.New("the loop has not moved for 30s")
	for name, c := range map[string]struct {
		checks []Check
		path   string
		status int
		body   string
	}{
		"ready": {[]Check{{Name: "view"}, {Name: "informers"}}, "/readyz", 200, "ok"},
		"ready, at length": {[]Check{{Name: "view"}, {Name: "informers"}}, "/readyz?verbose", 200,
			"[+]view ok\n[+]informers ok\nreadyz check passed\n"},
		"not ready says why unasked": {[]Check{{Name: "view", Err: behind}, {Name: "informers"}}, "/readyz", 503,
			"[-]view failed: 1,204 revisions behind\n[+]informers ok\nreadyz check failed\n"},
		"not ready is no reason to restart": {[]Check{{Name: "view", Err: behind}}, "/livez", 200, "ok"},
		"stuck is": {[]Check{{Name: "view"}, {Name: "loop", Err: stuck, Fatal: true}}, "/livez", 503,
			"[-]loop failed: the loop has not moved for 30s\nlivez check failed\n"},
		"stuck is not ready either": {[]Check{{Name: "loop", Err: stuck, Fatal: true}}, "/readyz", 503,
			"[-]loop failed: the loop has not moved for 30s\nreadyz check failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, fixed{checks: c.checks}, Config{}, c.path)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
		})
	}
}

func TestStatusComesBackAsItWas(t *testing.T) {
	at := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	want := Status{
		Replica: "r1", Incarnation: "r1_a", Role: Lead, Epoch: 3, Leader: Leader{"r1_a", 3, 9, true},
		Mirror: Mirror{Revision: 9, Pending: 2, Suspended: true, Since: at, Policy: "available", LastError: "away"},
		View: View{Synced: true, Revision: 8, Lag: 1, Connected: true,
			Refused: []Refused{{Key: "/understudy/apps/a", Error: "corrupt"}}, LastError: "compacted"},
		Counts:    Counts{Apps: map[string]int{"Running": 1}, Tasks: map[string]int{"Bound": 4}},
		Fence:     FenceEnforced,
		Suspended: []string{"durability"},
		Terms: []Term{{Epoch: 3, Incarnation: "r1_a", Started: at, Ended: at.Add(time.Hour), Reason: "expired", EndReason: "asked to stop",
			Timings: []Timing{{Step: "claim", At: at.Add(time.Millisecond), Millis: 1}}}},
		Version: "v1", Started: at, UptimeSeconds: 60,
	}
	w := get(t, fixed{status: want}, Config{}, "/statusz")
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d, %s", w.Code, w.Header().Get("Content-Type"))
	}
	var got Status
	decoder := json.NewDecoder(w.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestStatusOfAFreshReplicaHasNoNulls(t *testing.T) {
	body := get(t, fixed{}, Config{}, "/statusz").Body.String()
	for _, want := range []string{`"suspended": []`, `"terms": []`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	if strings.Contains(body, `"since"`) {
		t.Error("the zero time is shown")
	}
}

func TestProfilingIsOffUnlessAskedFor(t *testing.T) {
	for on, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap?debug=1"} {
			if got := get(t, fixed{}, Config{Profiling: on}, path).Code; got != want {
				t.Errorf("profiling %t: GET %s = %d, want %d", on, path, got, want)
			}
		}
	}
}

func TestOnlyReading(t *testing.T) {
	w := httptest.NewRecorder()
	Handler(Config{}, fixed{}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)).
		ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/statusz", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST = %d", w.Code)
	}
	if got := get(t, fixed{}, Config{}, "/nothing").Code; got != http.StatusNotFound {
		t.Errorf("unknown path = %d", got)
	}
}

// failing is a collector that cannot be read.
type failing struct{ desc *prometheus.Desc }

func (f failing) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }
func (f failing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(f.desc, errors.New("broken"))
}

func TestMetricsOfTheGivenRegistryEvenIfOneFails(t *testing.T) {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "understudy_epoch"})
	gauge.Set(7)
	registry.MustRegister(gauge, failing{prometheus.NewDesc("understudy_broken", "", nil, nil)})
	w := httptest.NewRecorder()
	Handler(Config{}, fixed{}, registry, slog.New(slog.DiscardHandler)).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "understudy_epoch 7") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
}

// start runs a server until the test ends, and returns its address and a
// function that stops it and returns what Serve returned.
func start(t *testing.T, source Source) (string, func() error) {
	t.Helper()
	s, err := New(Config{Address: "127.0.0.1:0"}, source, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return s.Addr(), func() error {
		cancel()
		return <-done
	}
}

func TestServeUntilTheContextEnds(t *testing.T) {
	addr, stop := start(t, fixed{})
	resp, err := http.Get("http://" + addr + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if string(body) != "ok" {
		t.Errorf("body = %q", body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("the port is not free after Serve: %v", err)
	}
	listener.Close()
}

// slow answers when it is allowed to.
type slow struct {
	fixed
	asked, answer chan struct{}
}

func (s slow) Status() Status {
	s.asked <- struct{}{}
	<-s.answer
	return s.fixed.Status()
}

func TestARequestUnderWayIsAnswered(t *testing.T) {
	source := slow{fixed: fixed{status: Status{Replica: "r1"}}, asked: make(chan struct{}), answer: make(chan struct{})}
	addr, stop := start(t, source)
	got := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr + "/statusz")
		if err != nil {
			got <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		got <- string(body)
	}()
	<-source.asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned while a handler was running: %v", err)
	case <-time.After(50 * time.Millisecond): // Nothing can be waited for that must not happen.
	}
	close(source.answer)
	if body := <-got; !strings.Contains(body, `"r1"`) {
		t.Errorf("answer = %q", body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestATakenPortIsAnErrorOfTheStart(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = New(Config{Address: listener.Addr().String()}, fixed{}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("error = %v", err)
	}
}
