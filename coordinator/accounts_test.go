package coordinator

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/understudy-ha/understudy/coordinator/accounting"
)

// TestDriftIsToldInThreeWays: a spoiled account is seen in the status, in the metric and by one Event
// for each kind, until it is right again; what has passed at a second look is not.
func TestDriftIsToldInThreeWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		var mu sync.Mutex // is held here but while time passes
		mu.Lock()
		defer mu.Unlock()
		var found []accounting.Drift
		leads, looks := true, 0
		var told []string
		a := newAccounts(func(context.Context) ([]accounting.Drift, bool) {
			mu.Lock()
			defer mu.Unlock()
			looks++
			return found, leads
		}, func(kind, message string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, kind+": "+message)
		}, metrics)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = a.run(ctx)
		}()
		metric := func(kind, account string) float64 {
			var m dto.Metric
			if err := a.drift.WithLabelValues(kind, account).Write(&m); err != nil {
				t.Fatal(err)
			}
			return m.Gauge.GetValue()
		}
		pass := func(d time.Duration) {
			mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
		}
		minute := func() { pass(accountPeriod) } // from between two looks to between the next
		pass(accountPeriod / 2)

		minute()
		if s := a.state.Load(); looks != 1 || s == nil || s.Checked.IsZero() || len(s.Drift) > 0 || len(told) > 0 {
			t.Fatalf("accounts that agree: %d looks, %+v, %q", looks, s, told)
		}
		queue := accounting.Drift{Kind: "queue", Name: "root.a", Resource: "vcore", In: "core", Pods: 1, Says: 2}
		found = []accounting.Drift{queue, {Kind: "user", Name: "ann", Resource: "vcore", In: "ledger", Pods: 1, Says: 2}}
		minute()
		minute()
		const want = "queue root.a: pods take vcore 1, the core says 2"
		if s := a.state.Load(); s == nil || len(s.Drift) != 2 || s.Drift[0] != want {
			t.Errorf("status: %+v", s)
		}
		if metric("queue", "core") != 1 || metric("user", "ledger") != 1 || metric("node", "core") != 0 {
			t.Error("the metric does not say so")
		}
		if len(told) != 2 || told[0] != "queue: "+want || !strings.HasPrefix(told[1], "user: ") {
			t.Errorf("told: %q", told)
		}

		found = nil
		minute()
		if s := a.state.Load(); len(s.Drift) > 0 || metric("queue", "core") != 0 {
			t.Errorf("right again: %+v", s)
		}
		found = []accounting.Drift{queue}
		pass(accountPeriod/2 + accountAgain/2)
		found = nil // it was only under way
		pass(accountPeriod/2 - accountAgain/2)
		if s := a.state.Load(); len(s.Drift) > 0 || len(told) != 2 {
			t.Errorf("what has passed: %+v, %q", s, told)
		}
		leads = false
		minute()
		if a.state.Load() != nil {
			t.Error("a replica that does not lead tells of accounts")
		}
		cancel()
		<-done
	})
}
