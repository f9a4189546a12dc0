package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

// fenceTester answers as the API server would, and is the log.
type fenceTester struct {
	mu       sync.Mutex
	enforced bool
	err      error
	asked    int
	log      string
}

func (f *fenceTester) test(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.enforced, f.err
}

func (f *fenceTester) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log += string(line)
	return len(line), nil
}

func (f *fenceTester) answer(enforced bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enforced, f.err = enforced, err
}

// since returns how often it was asked, and what was told, since it was called
// last.
func (f *fenceTester) since() (asked int, told string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked, told = f.asked, f.log
	f.asked, f.log = 0, ""
	return asked, told
}

func TestFenceIsTestedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fenceTester{err: errors.New("no API server")}
		metrics := prometheus.NewRegistry()
		f := newFence(api.test, metrics, slog.New(slog.NewTextHandler(api, nil)))
		if got := *f.state.Load(); got != serve.FenceUnknown {
			t.Errorf("%s before the first test", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.run(ctx) }()
		// expect waits, and looks at what has been asked, is known and was told since.
		expect := func(wait time.Duration, asked int, state serve.Fence, gauge float64, told string) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			shown, err := metrics.Gather()
			if err != nil || len(shown) != 1 || shown[0].GetName() != "understudy_fence_enforced" {
				t.Fatalf("metrics: %v, %v", shown, err)
			}
			value := shown[0].GetMetric()[0].GetGauge().GetValue()
			gotAsked, gotTold := api.since()
			if gotAsked != asked || *f.state.Load() != state || value != gauge {
				t.Errorf("asked %d times, fence=%s, gauge %v; want %d, %s, %v", gotAsked, *f.state.Load(), value, asked, state, gauge)
			}
			if lines := strings.Count(gotTold, "\n"); told == "" && lines != 0 ||
				told != "" && (lines != 1 || !strings.Contains(gotTold, told)) {
				t.Errorf("told %q, want %q", gotTold, told)
			}
		}
		expect(0, 1, serve.FenceUnknown, 0, "level=WARN")
		expect(2*fenceRetry+time.Second, 2, serve.FenceUnknown, 0, "")
		api.answer(false, nil)
		expect(fenceRetry, 1, serve.FenceAbsent, 0, "fence=absent")
		api.answer(true, nil)
		expect(fenceRetry, 1, serve.FenceEnforced, 1, "level=INFO")
		expect(2*fencePeriod, 2, serve.FenceEnforced, 1, "")

		api.answer(false, nil)
		expect(fenceRetry, 0, serve.FenceEnforced, 1, "")
		f.again()
		expect(0, 1, serve.FenceAbsent, 0, "level=WARN")

		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
