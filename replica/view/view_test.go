package view_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

func TestLoadsInPagesAndFollows(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	for i := range 50 {
		l.change(app(i%7, i), task(i, i))
	}
	l.PutTerm(record.Term{Epoch: 1, Reason: "first"})
	l.flush(t)

	cfg := config()
	cfg.PageSize = 3
	f := follow(t, cli, cfg)
	etcdtest.Eventually(t, "the view is synced", f.Synced)
	if !stateOf(f).Equal(l.ledger) {
		t.Error("what was loaded differs from the lead's ledger")
	}
	l.change(app(1, 100), task(3, 100), gone(task(4, 0)), task(60, 1))
	f.wait(t, l.flush(t))
	if !stateOf(f).Equal(l.ledger) {
		t.Error("what was followed differs from the lead's ledger")
	}
	s := f.Status()
	if s.Leader.Epoch != 1 || s.Leader.Incarnation != "replica-1" || len(s.Terms) != 1 || s.Terms[0].Reason != "first" {
		t.Errorf("status %+v", s)
	}
	if !s.Connected || s.LastError != "" || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	if v := f.metric(t, "understudy_view_applied_revision"); int64(v) != f.Status().Revision {
		t.Errorf("the metric says revision %v", v)
	}
}

// The barrier of a promotion: once the view has applied the claim, it holds all
// that the older epoch wrote, and OnChange has seen it.
func TestTheBarrierHoldsUntilEverythingOlderIsApplied(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	cfg := config()
	gate := make(chan struct{})
	var seen atomic.Int64
	cfg.OnChange = func(*ledger.Ledger, ledger.Change) {
		<-gate
		seen.Add(1)
	}
	f := follow(t, cli, cfg)
	etcdtest.Eventually(t, "the view is synced", f.Synced)
	const tasks = 500
	l.change(task(0, 1))
	first := l.flush(t)
	for i := range tasks - 1 {
		l.change(task(i+1, 1))
	}
	l.flush(t)
	successor := claim(t, cli, 2)

	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := f.WaitRevision(short, first); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the barrier let through what OnChange has not been told: %v", err)
	}
	if s := f.Status(); s.Lag == 0 {
		t.Errorf("no lag: %+v", s)
	}
	close(gate)
	f.wait(t, successor.Revision)
	if n := seen.Load(); n != tasks {
		t.Errorf("OnChange has seen %d of %d changes", n, tasks)
	}
	if !stateOf(f).Equal(l.ledger) || f.Status().Leader.Epoch != 2 {
		t.Errorf("behind the barrier: %+v", f.Status())
	}
}

// Both a claim that is loaded and one that is watched are told of, once, with the
// revision that the view has reached by then.
func TestClaimsAreToldOf(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	loaded := claim(t, cli, 1)
	type told struct {
		epoch    uint64
		revision int64
	}
	claims := make(chan told, 8)
	cfg := config()
	cfg.OnLeader = func(leader record.Leader, revision int64) { claims <- told{leader.Epoch, revision} }
	f := follow(t, cli, cfg)
	etcdtest.Eventually(t, "the view is synced", f.Synced)
	put(t, cli, "/somebody/else", "x")
	watched := claim(t, cli, 2)
	f.wait(t, watched.Revision) // of two claims that come together only the newer is told of
	l := leading(t, cli, 3)
	l.change(task(0, 1)) // an epoch is told of once, however much follows
	f.wait(t, l.flush(t))
	close(claims)
	var got []told
	for c := range claims {
		got = append(got, c)
	}
	if len(got) != 3 || got[0] != (told{1, loaded.Revision}) || got[1] != (told{2, watched.Revision}) || got[2].epoch != 3 {
		t.Errorf("told of %v, want epoch 1 at revision %d, 2 at %d, and 3", got, loaded.Revision, watched.Revision)
	}
}

func TestARevisionWithoutEventsIsReached(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claim(t, cli, 1)
	f := follow(t, cli, config())
	for range 3 {
		f.wait(t, put(t, cli, "/somebody/else", "x"))
	}
	etcdtest.Eventually(t, "there is no lag", func() bool { return f.Status().Lag == 0 })
}

func TestAnEmptyPrefixIsSynced(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	f := follow(t, cli, config())
	etcdtest.Eventually(t, "the view is synced", f.Synced)
	claimed := claim(t, cli, 1)
	f.wait(t, claimed.Revision)
	if s := f.Status(); s.Leader.Epoch != 1 {
		t.Errorf("status %+v", s)
	}
	if n := f.metric(t, "understudy_view_reloads_total"); n != 0 {
		t.Errorf("%v reloads", n)
	}
}

func TestRecordsThatCannotBeReadAreSkippedByName(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	l.change(app(1, 1), task(1, 1), task(2, 1))
	l.flush(t)
	newer := string(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), record.SchemaVersion+1))
	corrupt, unreadable := keys.Record(task(8, 0).Key), keys.Record(app(9, 0).Key)
	put(t, cli, corrupt, "garbage")
	put(t, cli, keys.Root()+"from/a/newer/version", "x")
	rev := put(t, cli, unreadable, newer)

	cold := follow(t, cli, config())
	cold.wait(t, rev)
	check := func(f *following, held record.Digest, want map[string]error) {
		t.Helper()
		if got := f.Status().Digest; got != held {
			t.Errorf("the digest is %+v, want %+v", got, held)
		}
		refused := f.Status().Refused
		if len(refused) != len(want) {
			t.Errorf("refused %+v, want %d", refused, len(want))
		}
		for _, r := range refused {
			if !errors.Is(r.Err, want[r.Key]) || !strings.Contains(r.Err.Error(), r.Key) {
				t.Errorf("refused %+v", r)
			}
		}
		if !stateOf(f).Equal(l.ledger) {
			t.Error("the ledger is not what can be read")
		}
	}
	check(cold, digestOf(l.ledger), map[string]error{corrupt: record.ErrCorrupt, unreadable: record.ErrNewerSchema})

	// Watched instead of loaded; what was known before stays.
	spoilt := keys.Record(task(1, 0).Key)
	cold.wait(t, put(t, cli, spoilt, "garbage"))
	readable := l.ledger.Clone()
	readable.Apply(gone(task(1, 0)))
	check(cold, digestOf(readable), map[string]error{corrupt: record.ErrCorrupt, unreadable: record.ErrNewerSchema, spoilt: record.ErrCorrupt})
	if n := cold.metric(t, "understudy_view_refused_records"); n != 3 {
		t.Errorf("the metric says %v", n)
	}

	// Good versions, and a deletion, clear them.
	l.change(task(1, 2), task(8, 1), gone(app(9, 0)))
	cold.wait(t, l.flush(t))
	check(cold, digestOf(l.ledger), nil)
}

func TestTakeHandsOverAndEndsTheView(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	cfg := config()
	changes := 0
	cfg.OnChange = func(*ledger.Ledger, ledger.Change) { changes++ } // Take orders this with what follows
	f := follow(t, cli, cfg)
	for i := range 20 {
		l.change(task(i, 1))
	}
	f.wait(t, l.flush(t))
	taken, held := f.Take()
	if taken == nil || !taken.Equal(l.ledger) || changes != 20 || held != digestOf(l.ledger) {
		t.Errorf("taken %v after %d changes", taken, changes)
	}
	if err := <-f.end; err != nil {
		t.Errorf("Run returned %v", err)
	}
	l.change(task(1, 2))
	rev := l.flush(t)
	if err := f.WaitRevision(etcdtest.Within(t), rev); !errors.Is(err, view.ErrTaken) {
		t.Errorf("got %v", err)
	}
	if got, was := f.Counts(), l.ledger.Counts(); !reflect.DeepEqual(got, was) {
		t.Errorf("counts %v, were %v", got, was)
	}
	if again, _ := f.Take(); again != nil || stateOf(f) != nil || changes != 20 {
		t.Error("the view went on after it was taken")
	}
	if got := taken.Task(task(1, 0).Key.AppID, task(1, 0).Key.TaskID); got.Message != "1" {
		t.Errorf("the taken ledger has changed: %+v", got)
	}
}

func TestATakenLedgerEndsALoadToo(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	l := leading(t, cli, 1)
	l.change(task(1, 1))
	l.flush(t)
	server.Kill()
	f := follow(t, cli, config())
	if taken, held := f.Take(); taken == nil || held != (record.Digest{}) {
		t.Error("nothing to take")
	}
	server.Restart()
	if err := <-f.end; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// A watch that delivers nothing, on a connection that works.
func TestAStalledWatchIsStartedAgain(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	silent := &silentWatcher{Watcher: cli.Watcher}
	cli.Watcher = silent
	cfg := config()
	cfg.StallTimeout = cfg.ProbeInterval
	f := follow(t, cli, cfg)
	etcdtest.Eventually(t, "the view is synced", f.Synced)
	l.change(task(1, 1))
	f.wait(t, l.flush(t))
	if n := silent.watches.Load(); n < 2 {
		t.Errorf("%d watches", n)
	}
}

type silentWatcher struct {
	clientv3.Watcher
	watches atomic.Int64
}

// Watch is deaf the first time.
func (s *silentWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	if s.watches.Add(1) > 1 {
		return s.Watcher.Watch(ctx, key, opts...)
	}
	deaf := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(deaf) })
	return deaf
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	err := view.Config{Prefix: "/"}.Validate()
	for _, field := range []string{"prefix", "pageSize", "requestTimeout", "probeInterval", "stallTimeout"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if _, err := view.New(nil, view.Config{}, nil, nil); err == nil {
		t.Error("a view without a prefix")
	}
}
