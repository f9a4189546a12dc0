package view_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

const prefix = "/understudy"

var keys = record.Keys{Prefix: prefix}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() view.Config {
	cfg := view.Default()
	cfg.Prefix = prefix
	cfg.RequestTimeout, cfg.ProbeInterval = 200*time.Millisecond, 50*time.Millisecond
	return cfg
}

// following is a view with its Run under way.
type following struct {
	*view.View
	reg  *prometheus.Registry
	stop context.CancelFunc
	end  chan error
}

func follow(t *testing.T, cli *clientv3.Client, cfg view.Config) *following {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	v, err := view.New(cli, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &following{v, reg, stop, make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { f.end <- v.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return f
}

func (f *following) wait(t *testing.T, revision int64) {
	t.Helper()
	if err := f.WaitRevision(etcdtest.Within(t), revision); err != nil {
		t.Fatalf("%v; status %+v", err, f.Status())
	}
}

func (f *following) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range families {
		if mf.GetName() == name {
			m := mf.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// lead is a mirror and the ledger that it mirrors.
type lead struct {
	*mirror.Mirror
	claimed mirror.Claimed
	ledger  *ledger.Ledger
}

func leading(t *testing.T, cli *clientv3.Client, epoch uint64) *lead {
	t.Helper()
	claimed := claim(t, cli, epoch)
	cfg := mirror.Default()
	cfg.Prefix = prefix
	cfg.RequestTimeout, cfg.Patience = 200*time.Millisecond, 200*time.Millisecond
	m, err := mirror.New(cli, claimed, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return &lead{m, claimed, ledger.New()}
}

func claim(t *testing.T, cli *clientv3.Client, epoch uint64) mirror.Claimed {
	t.Helper()
	c, err := mirror.Claim(etcdtest.Within(t), cli, prefix, record.Leader{Epoch: epoch, Incarnation: fmt.Sprintf("replica-%d", epoch)},
		record.Term{Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// change applies changes to the lead's ledger and hands them to its mirror.
func (l *lead) change(changes ...ledger.Change) {
	for _, ch := range changes {
		l.ledger.Apply(ch)
	}
	l.Append(changes, nil)
}

// flush returns the revision at which everything is durable.
func (l *lead) flush(t *testing.T) int64 {
	t.Helper()
	if err := l.Flush(etcdtest.Within(t)); err != nil {
		t.Fatalf("%v; status %+v", err, l.Status())
	}
	return l.Status().Revision
}

func app(i, n int) ledger.Change {
	id := fmt.Sprintf("app/%d", i)
	return ledger.Change{Key: ledger.Key{AppID: id}, App: &ledger.App{ID: id, State: ledger.AppStateRunning, Message: fmt.Sprint(n)}}
}

func task(i, n int) ledger.Change {
	key := ledger.Key{AppID: fmt.Sprintf("app/%d", i%7), TaskID: fmt.Sprintf("task %d", i)}
	return ledger.Change{Key: key, Task: &ledger.Task{AppID: key.AppID, ID: key.TaskID, State: ledger.TaskStatePending, Message: fmt.Sprint(n)}}
}

func gone(ch ledger.Change) ledger.Change { return ledger.Change{Key: ch.Key} }

func put(t *testing.T, cli *clientv3.Client, key, value string) int64 {
	t.Helper()
	resp, err := cli.Put(etcdtest.Within(t), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// digestOf adds up the digest of a ledger from all that it holds.
func digestOf(l *ledger.Ledger) (d record.Digest) {
	add := func(ch ledger.Change) { d.Replace(ch.Key, record.Hash{}, record.HashOf(ch)) }
	for app := range l.Apps() {
		add(ledger.Change{Key: ledger.Key{AppID: app.ID}, App: app})
		for task := range l.Tasks(app.ID) {
			add(ledger.Change{Key: ledger.Key{AppID: app.ID, TaskID: task.ID}, Task: task})
		}
	}
	for task := range l.Orphans() {
		add(ledger.Change{Key: ledger.Key{AppID: task.AppID, TaskID: task.ID}, Task: task})
	}
	return d
}

// stateOf is a copy of what a view holds, nil if its ledger has been taken.
func stateOf(v interface {
	Read(read func(*ledger.Ledger)) bool
}) (state *ledger.Ledger) {
	v.Read(func(l *ledger.Ledger) { state = l.Clone() })
	return state
}
