package mirror_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

func TestWritesAreRejectedAfterANewerClaim(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	old := run(t, cli, claim(t, cli, 1), config())
	old.appendWait(t, task(1, 1))

	successor := claim(t, server.Client(), 2)
	old.Append([]ledger.Change{task(1, 2), task(2, 1)}, func() { t.Error("done was called after the fence was lost") })
	err := old.ended(t)
	if !errors.Is(err, mirror.ErrFenced) || !strings.Contains(err.Error(), "replica-2") {
		t.Errorf("got %v, want ErrFenced that says who leads", err)
	}
	if v1, v2 := version(t, cli, 1), version(t, cli, 2); v1 != 1 || v2 != -1 {
		t.Errorf("epoch 1 wrote after the claim of epoch 2: versions %d and %d", v1, v2)
	}
	if err := old.Flush(etcdtest.Within(t)); !errors.Is(err, mirror.ErrFenced) {
		t.Errorf("flush says %v", err)
	}
	m := run(t, cli, successor, config())
	m.appendWait(t, task(1, 3))
}

func TestAnIdleLeadLearnsThatItIsNone(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	cfg := config()
	cfg.CheckInterval = 20 * time.Millisecond
	old := run(t, cli, claim(t, cli, 1), cfg)
	claim(t, cli, 2)
	if err := old.ended(t); !errors.Is(err, mirror.ErrFenced) {
		t.Errorf("got %v", err)
	}
}

func TestDoneMeansDurableAndComesInOrder(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 1), config())
	const appends = 120
	order := make(chan int, appends+1)
	for i := range appends {
		// Keys overlap, so that many changes are coalesced; every tenth Append has
		// no change at all, and still waits for its turn.
		var changes []ledger.Change
		if i%10 != 0 {
			changes = []ledger.Change{task(i%7, i), task(i%11+100, i)}
		}
		m.Append(changes, func() {
			for _, ch := range changes {
				var id int
				if id = i % 7; ch.Key == task(i%11+100, 0).Key {
					id = i%11 + 100
				}
				if v := version(t, cli, id); v < i {
					t.Errorf("append %d is done, and etcd has version %d of %v", i, v, ch.Key)
				}
			}
			order <- i
		})
	}
	m.flush(t)
	close(order)
	want := 0
	for got := range order {
		if got != want {
			t.Fatalf("append %d was done when it was the turn of %d", got, want)
		}
		want++
	}
	if want != appends {
		t.Fatalf("%d of %d were done", want, appends)
	}
}

func TestAppendNeverWaitsAndTheBacklogIsBounded(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	var transactions, operations atomic.Int64
	started, held := make(chan struct{}, 1), make(chan struct{})
	claimed := claim(t, cli, 1)
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		transactions.Add(1)
		operations.Add(int64(len(ops)))
		select {
		case started <- struct{}{}:
		default:
		}
		<-held
		return send()
	})
	cfg := config()
	cfg.Policy = mirror.Strict
	m := run(t, cli, claimed, cfg)
	m.Append([]ledger.Change{task(0, 0)}, nil)
	<-started // a batch is in flight from here on
	done := 0
	const records, rounds = 200, 100
	for n := range rounds {
		for i := range records {
			m.Append([]ledger.Change{task(i, n)}, func() { done++ })
		}
	}
	if p := m.Status().Pending; p > records+1 {
		t.Errorf("%d pending for %d records", p, records)
	}
	close(held)
	m.flush(t)
	if done != records*rounds {
		t.Errorf("%d callbacks for %d appends", done, records*rounds)
	}
	if n := operations.Load(); n != 1+records {
		t.Errorf("%d operations for %d records", n, records)
	}
	for _, i := range []int{0, records - 1} {
		if v := version(t, cli, i); v != rounds-1 {
			t.Errorf("task %d is at version %d", i, v)
		}
	}
}

func TestTransactionsStayWithinTheirLimits(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	cfg := config()
	var most, largest atomic.Int64
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		size := 0
		for _, op := range ops {
			size += len(op.KeyBytes()) + len(op.ValueBytes())
		}
		most.Store(max(most.Load(), int64(len(ops))))
		largest.Store(max(largest.Load(), int64(size)))
		return send()
	})
	m := run(t, cli, claimed, cfg)
	var changes []ledger.Change
	for i := range 1000 {
		changes = append(changes, task(i, 1))
	}
	for i := range 40 {
		changes = append(changes, app(string(rune('A'+i)), 100_000))
	}
	m.appendWait(t, changes...)
	if n := most.Load(); n != 128 {
		t.Errorf("the largest transaction has %d operations, want 128", n)
	}
	if n := largest.Load(); n > int64(cfg.MaxBytes) || n < int64(cfg.MaxBytes)/2 {
		t.Errorf("the largest transaction has %d bytes", n)
	}
	n := get(t, cli, keys.Root(), clientv3.WithPrefix(), clientv3.WithCountOnly()).Count
	if n != 1040+3 {
		t.Errorf("%d keys, want 1040, leader, term and schema", n)
	}
}

func TestServerWithNarrowerLimits(t *testing.T) {
	cli := etcdtest.Start(t, "--unsafe-no-fsync", "--max-txn-ops=16", "--max-request-bytes=200000").Client()
	m := run(t, cli, claim(t, cli, 1), config())
	var changes []ledger.Change
	for i := range 100 {
		changes = append(changes, task(i, 1))
	}
	for i := range 10 {
		changes = append(changes, app(string(rune('A'+i)), 50_000))
	}
	m.appendWait(t, changes...)
	if s := m.Status(); len(s.Refused) > 0 {
		t.Errorf("refused: %v", s.Refused)
	}
	if n := get(t, cli, keys.Root(), clientv3.WithPrefix(), clientv3.WithCountOnly()).Count; n != 110+3 {
		t.Errorf("%d keys", n)
	}
}

func TestARecordTooLargeForEtcdDoesNotStopTheOthers(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 1), config())
	m.appendWait(t, app("big", 10))
	for _, size := range []int{1_600_000, 3_000_000} { // refused by etcd; refused by its client
		m.appendWait(t, task(1, size), app("big", size), task(2, size))
		if s := m.Status(); !slices.Equal(s.Refused, []string{keys.App("big")}) {
			t.Errorf("refused: %v", s.Refused)
		}
		if v1, v2 := version(t, cli, 1), version(t, cli, 2); v1 != size || v2 != size {
			t.Errorf("its neighbours are at version %d and %d", v1, v2)
		}
		if n := get(t, cli, keys.App("big")).Count; n != 0 {
			t.Error("the outdated version is still there for a successor to believe")
		}
	}
	m.appendWait(t, app("big", 20))
	if s := m.Status(); len(s.Refused) > 0 || get(t, cli, keys.App("big")).Count != 1 {
		t.Errorf("still refused: %v", s.Refused)
	}
}

func TestDeletesAreMirrored(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 1), config())
	m.appendWait(t, task(1, 1), task(2, 1))
	m.appendWait(t, ledger.Change{Key: task(1, 0).Key})
	if v1, v2 := version(t, cli, 1), version(t, cli, 2); v1 != -1 || v2 != 1 {
		t.Errorf("versions %d and %d", v1, v2)
	}
}

func TestTermsAreKeptAndPruned(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	for e := range uint64(120) {
		if _, err := cli.Put(etcdtest.Within(t), keys.Term(e+1), string(record.EncodeTerm(record.Term{Epoch: e + 1}))); err != nil {
			t.Fatal(err)
		}
	}
	m := run(t, cli, claim(t, cli, 121), config())
	m.PutTerm(record.Term{Epoch: 121, Reason: "first"})
	m.PutTerm(record.Term{Epoch: 121, Reason: "crash of the lead"})
	m.flush(t)
	resp := get(t, cli, keys.Terms(), clientv3.WithPrefix())
	if len(resp.Kvs) != 100 || string(resp.Kvs[0].Key) != keys.Term(22) {
		t.Fatalf("%d terms, from %s", len(resp.Kvs), resp.Kvs[0].Key)
	}
	if got, err := record.DecodeTerm(resp.Kvs[99].Value); err != nil || got.Reason != "crash of the lead" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Between the batch with a term and the removal of old terms the mirror is not settled.
func TestFlushWaitsForOldTerms(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m, err := mirror.New(cli, claim(t, cli, 1), config(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	early := make(chan error, 1)
	m.PutTerm(record.Term{Epoch: 1})
	m.PutNotes([]mirror.Note{{Key: keys.EventRun(0, 1), Value: []byte("one")}}, func() { // in the batch of the term, and ahead of the removal
		ended, end := context.WithCancel(context.Background())
		end()
		early <- m.Flush(ended)
	})
	r := start(t, m)
	if err := <-early; !errors.Is(err, context.Canceled) {
		t.Errorf("a flush ahead of the removal: %v", err)
	}
	r.flush(t)
}

func TestTheEndOfTheContextFlushesWithoutCallbacks(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	started, held := make(chan struct{}, 9), make(chan struct{})
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		started <- struct{}{}
		<-held
		return send()
	})
	m := run(t, cli, claimed, config())
	late := func() { t.Error("a callback after the end of the context") }
	m.Append([]ledger.Change{task(1, 1)}, late)
	<-started
	m.Append([]ledger.Change{task(2, 1)}, late)
	m.stop()
	close(held)
	if err := m.ended(t); err != nil {
		t.Errorf("got %v", err)
	}
	if v1, v2 := version(t, cli, 1), version(t, cli, 2); v1 != 1 || v2 != 1 {
		t.Errorf("versions %d and %d after the final flush", v1, v2)
	}
	m.Append([]ledger.Change{task(3, 1)}, late)
	if err := m.Flush(etcdtest.Within(t)); err != nil && !errors.Is(err, mirror.ErrStopped) {
		t.Errorf("flush says %v", err)
	}
}

func TestFlushWaitsForTheLastCallback(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 1), config())
	during := make(chan error, 1)
	m.Append([]ledger.Change{task(1, 1)}, func() {
		// Everything is durable, and this callback is still running.
		once, cancel := context.WithCancel(context.Background())
		cancel()
		during <- m.Flush(once)
	})
	m.flush(t)
	select {
	case err := <-during:
		if err == nil {
			t.Error("everything was flushed while a callback was running")
		}
	default:
		t.Error("flushed before the callback has run")
	}
}

func TestMetricsAreRegistered(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	reg := prometheus.NewPedanticRegistry()
	if _, err := mirror.New(cli, claimed, config(), nil, reg); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) < 8 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
	if _, err := mirror.New(cli, claimed, config(), nil, reg); err == nil {
		t.Error("two mirrors share their metrics")
	}
}

// TestHoweverManyTermsThereAreOldOnesAreRemoved: more than one transaction holds, and
// by a lead that has had many terms itself.
func TestHoweverManyTermsThereAreOldOnesAreRemoved(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	for e := range uint64(400) {
		if _, err := cli.Put(etcdtest.Within(t), keys.Term(e+1), string(record.EncodeTerm(record.Term{Epoch: e + 1}))); err != nil {
			t.Fatal(err)
		}
	}
	m := run(t, cli, claim(t, cli, 401), config())
	kept := func(oldest uint64) {
		t.Helper()
		m.flush(t)
		terms := get(t, cli, keys.Terms(), clientv3.WithPrefix()).Kvs
		if len(terms) != 100 || string(terms[0].Key) != keys.Term(oldest) {
			t.Errorf("%d terms, from %s, want 100 from %d", len(terms), terms[0].Key, oldest)
		}
	}
	m.PutTerm(record.Term{Epoch: 401})
	kept(302)
	for epoch := uint64(402); epoch < 410; epoch++ {
		if _, err := m.Reclaim(etcdtest.Within(t), leader(epoch)); err != nil {
			t.Fatal(err)
		}
		m.PutTerm(record.Term{Epoch: epoch})
	}
	kept(310)
}

// What no pod waits for goes with what pods wait for, in one batch, and alone if there is none.
func TestRecordsOfTheTermGoWithThePods(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	var mu sync.Mutex
	var batches []string
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		var written []string
		for _, op := range ops {
			if op.IsPut() {
				written = append(written, string(op.KeyBytes()))
			}
		}
		slices.Sort(written)
		batches = append(batches, strings.Join(written, " "))
		return send()
	})
	m := run(t, cli, claimed, config())
	m.PutConfiguration(record.Configuration{Data: map[string]string{"queues.yaml": "q"}})
	m.PutTerm(record.Term{Epoch: 1, Reason: "leading"})
	found := make(chan struct{})
	m.AppendLater([]ledger.Change{task(1, 1)}, func() { close(found) })
	if _, err := cli.Get(etcdtest.Within(t), "/"); err != nil { // long enough for a batch that is not to be
		t.Fatal(err)
	}
	m.appendWait(t, task(2, 1))
	select {
	case <-found:
	default:
		t.Error("what was appended earlier is not durable with it")
	}
	all := strings.Join([]string{keys.Configuration(), keys.Record(task(1, 1).Key), keys.Record(task(2, 1).Key), keys.Term(1)}, " ")
	m.PutTerm(record.Term{Epoch: 1, Reason: "alone"})
	want := []string{all, keys.Term(1)}
	etcdtest.Eventually(t, "one batch, and the rest, though nobody flushes", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(batches, want)
	})
}

// A lead whose context ends writes that too.
func TestTheEndOfTheContextFlushesRecordsOfTheTerm(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 1), config())
	m.PutTerm(record.Term{Epoch: 1, Reason: "the last word"})
	m.stop()
	if err := m.ended(t); err != nil {
		t.Fatal(err)
	}
	if got, err := record.DecodeTerm(get(t, cli, keys.Term(1)).Kvs[0].Value); err != nil || got.Reason != "the last word" {
		t.Errorf("got %+v, %v", got, err)
	}
}
