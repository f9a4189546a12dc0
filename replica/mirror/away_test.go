package mirror_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// quick has timeouts short enough for a test to sit them out, and longer than a
// busy machine takes to answer.
func quick(policy mirror.Policy) mirror.Config {
	cfg := config()
	cfg.Policy = policy
	cfg.RequestTimeout, cfg.Patience, cfg.FinalFlush = 500*time.Millisecond, time.Second, 100*time.Millisecond
	return cfg
}

func TestAvailableRunsAheadWhileEtcdIsAway(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	var logged syncWriter
	reg := prometheus.NewRegistry()
	mir, err := mirror.New(cli, claim(t, cli, 1), quick(mirror.Available), slog.New(slog.NewTextHandler(&logged, nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, mir)
	m.appendWait(t, task(1, 1))
	if s := m.Status(); s.Suspended || s.Stalled {
		t.Errorf("suspended with etcd there: %+v", s)
	}

	server.Kill()
	var order []int
	for n := range 300 {
		m.Append([]ledger.Change{task(n%10, n), task(1000+n, n)}, func() { order = append(order, n) })
	}
	m.appendWait(t, task(1, 300))
	for i, n := range order {
		if i != n {
			t.Fatalf("callback %d ran in place %d", n, i)
		}
	}
	etcdtest.Eventually(t, "a request fails", func() bool { return m.Status().LastError != "" })
	s := m.Status()
	if len(order) != 300 || !s.Suspended || !s.Stalled || s.Since.IsZero() || s.Pending < 300 {
		t.Errorf("%d callbacks, status %+v", len(order), s)
	}
	if v := gauge(t, reg, "understudy_mirror_suspended"); v != 1 {
		t.Errorf("the metric says %v", v)
	}
	// What comes later does not wait for Patience again, at least not each time.
	quickest := time.Hour
	for n := range 5 {
		before := time.Now()
		m.appendWait(t, task(1, 301+n))
		quickest = min(quickest, time.Since(before))
	}
	if quickest > quick(mirror.Available).Patience/2 {
		t.Errorf("%v until done while suspended", quickest)
	}

	server.Restart()
	m.flush(t)
	etcdtest.Eventually(t, "the suspension ends", func() bool { return !m.Status().Suspended })
	if s := m.Status(); s.Stalled || s.Pending != 0 || s.LastError != "" || gauge(t, reg, "understudy_mirror_suspended") != 0 {
		t.Errorf("after the debt was flushed: %+v", s)
	}
	if v := version(t, cli, 1); v != 305 {
		t.Errorf("version %d", v)
	}
	if n := get(t, cli, keys.Root()+"tasks/", clientv3.WithPrefix(), clientv3.WithCountOnly()).Count; n != 310 {
		t.Errorf("%d tasks", n)
	}
	for _, line := range []string{"etcd does not answer", "mirror caught up"} {
		if n := strings.Count(logged.String(), line); n != 1 {
			t.Errorf("%q was logged %d times:\n%s", line, n, &logged)
		}
	}
}

// From the first answer on effects wait again, though the debt is not paid yet.
func TestEffectsWaitAgainAsSoonAsEtcdAnswers(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	claimed := claim(t, cli, 1)
	gate := make(chan struct{})
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		if !touches(ops) {
			return send()
		}
		<-gate
		return send()
	})
	cfg := quick(mirror.Available)
	cfg.MaxOps = 1
	m := run(t, cli, claimed, cfg)
	m.appendWait(t, task(1, 1), task(2, 1), task(3, 1))
	gate <- struct{}{}
	etcdtest.Eventually(t, "the stall ends", func() bool { return !m.Status().Stalled })
	if s := m.Status(); !s.Suspended {
		t.Errorf("two changes of an effect that ran ahead are not durable: %+v", s)
	}
	done := make(chan struct{})
	m.Append([]ledger.Change{task(4, 1)}, func() { close(done) })
	for i := 2; i <= 4; i++ {
		select {
		case <-done:
			t.Fatalf("done before its change was sent, at transaction %d", i)
		case gate <- struct{}{}:
		}
	}
	<-done
	etcdtest.Eventually(t, "the suspension ends", func() bool { return !m.Status().Suspended })
	if v := version(t, cli, 4); v != 1 {
		t.Errorf("version %d", v)
	}
}

// An etcd that works off a long backlog is slow, not away.
func TestABacklogIsNoReasonToRunAhead(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	claimed := claim(t, cli, 1)
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		<-time.After(75 * time.Millisecond)
		return send()
	})
	cfg := quick(mirror.Available)
	cfg.MaxBytes = 1 // one record in each transaction, all in one batch
	m := run(t, cli, claimed, cfg)
	suspended := false
	var changes []ledger.Change
	for i := range 40 { // takes three times as long as patience lasts
		changes = append(changes, task(i, 1))
	}
	m.Append(changes, func() { suspended = m.Status().Suspended })
	m.flush(t)
	if suspended {
		t.Error("suspended while etcd was answering")
	}
}

func TestStrictWaitsWhileEtcdIsAway(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	m := run(t, cli, claim(t, cli, 1), quick(mirror.Strict))
	m.appendWait(t, task(1, 1))
	server.Kill()
	done := make(chan struct{})
	m.Append([]ledger.Change{task(1, 2)}, func() { close(done) })
	etcdtest.Eventually(t, "the stall is noticed", func() bool { return m.Status().Stalled })
	<-time.After(500 * time.Millisecond) // the time in which it must not happen
	select {
	case <-done:
		t.Fatal("done without etcd")
	default:
	}
	if s := m.Status(); s.Suspended || s.Since.IsZero() {
		t.Errorf("got %+v", s)
	}
	server.Restart()
	<-done
	if v := version(t, cli, 1); v != 2 {
		t.Errorf("version %d", v)
	}
	if s := m.Status(); s.Stalled {
		t.Errorf("got %+v", s)
	}
}

func TestTheFinalFlushIsBounded(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	m := run(t, cli, claim(t, cli, 1), quick(mirror.Strict))
	server.Kill()
	m.Append([]ledger.Change{task(1, 1)}, nil)
	m.stop()
	if err := m.ended(t); err != nil {
		t.Errorf("got %v", err)
	}
	if s := m.Status(); s.Pending != 1 {
		t.Errorf("got %+v", s)
	}
}

// The same flags give an etcd that lost its data the same cluster ID.
func TestAnEtcdThatLostItsDataFences(t *testing.T) {
	for name, flags := range map[string][]string{"same cluster": nil, "another": {"--initial-cluster-token=another"}} {
		t.Run(name, func(t *testing.T) {
			server := etcdtest.Start(t)
			cli := server.Client()
			m := run(t, cli, claim(t, cli, 1), quick(mirror.Available))
			m.appendWait(t, task(1, 1))
			server.Wipe(flags...)
			m.Append([]ledger.Change{task(2, 1)}, nil)
			if err := m.ended(t); !errors.Is(err, mirror.ErrFenced) {
				t.Errorf("got %v", err)
			}
			known(t, cli, 0)
			claim(t, cli, 2)
		})
	}
}

// A restored backup holds the leader key as it was: only the revision tells.
func TestAnEtcdThatWentBackFences(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	claimed := claim(t, cli, 1)
	backup := server.Backup()
	m := run(t, cli, claimed, quick(mirror.Strict))
	m.appendWait(t, task(1, 1))
	m.appendWait(t, task(1, 2))
	m.appendWait(t, task(1, 3))
	server.RestoreBackup(backup)
	done := make(chan struct{})
	m.Append([]ledger.Change{task(2, 1)}, func() { close(done) })
	err := m.ended(t)
	if !errors.Is(err, mirror.ErrFenced) || !strings.Contains(err.Error(), "went back") {
		t.Errorf("got %v", err)
	}
	select {
	case <-done:
		t.Error("done on top of a history that lost changes")
	default:
	}
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

type syncWriter struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *syncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *syncWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
