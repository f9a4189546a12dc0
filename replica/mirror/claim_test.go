package mirror_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

func known(t *testing.T, cli *clientv3.Client, want uint64) {
	t.Helper()
	got, err := mirror.KnownEpoch(etcdtest.Within(t), cli, prefix)
	if err != nil || got != want {
		t.Errorf("known epoch %d, %v; want %d", got, err, want)
	}
}

func TestClaimSucceedsOnlyOverAnOlderEpoch(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	known(t, cli, 0)
	first := claim(t, cli, 3)
	known(t, cli, 3)
	for _, epoch := range []uint64{1, 3} {
		other := record.Leader{Epoch: epoch, Incarnation: "someone else"}
		_, err := claimAs(etcdtest.Within(t), cli, other)
		if !errors.Is(err, mirror.ErrFenced) || !strings.Contains(err.Error(), "replica-3") {
			t.Errorf("epoch %d: got %v, want ErrFenced that says who leads", epoch, err)
		}
	}
	if again := claim(t, cli, 3); again.Revision != first.Revision {
		t.Errorf("repeating the claim gave revision %d, not %d", again.Revision, first.Revision)
	}
	second := claim(t, cli, 4)
	if second.Epoch != 4 || second.Revision <= first.Revision {
		t.Errorf("got %+v after %+v", second, first)
	}
	if rev := get(t, cli, keys.Leader()).Kvs[0].ModRevision; rev != second.Revision {
		t.Errorf("the claim says revision %d, the leader key %d", second.Revision, rev)
	}
}

func TestClaimReadsAgainWhenTheAnswerWasLost(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	lost := 0
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		resp, err := send()
		if len(ops) > 0 && ops[0].IsPut() && lost == 0 {
			lost++
			return nil, context.DeadlineExceeded
		}
		return resp, err
	})
	claimed := claim(t, cli, 1)
	if rev := get(t, cli, keys.Leader()).Kvs[0]; rev.ModRevision != claimed.Revision || rev.Version != 1 {
		t.Errorf("claimed %+v, leader key %+v", claimed, rev)
	}
}

func TestTwoClaimsOfOneEpochAtOnce(t *testing.T) {
	server := etcdtest.Start(t)
	claim(t, server.Client(), 1)
	results := make(chan error, 8)
	var ready sync.WaitGroup // all have looked before any of them writes
	ready.Add(cap(results))
	ctx := etcdtest.Within(t)
	for i := range cap(results) {
		cli := server.Client()
		var once sync.Once
		intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
			if ops[0].IsPut() {
				once.Do(func() { ready.Done(); ready.Wait() })
			}
			return send()
		})
		go func() {
			_, err := claimAs(ctx, cli, record.Leader{Epoch: 2, Incarnation: string(rune('a' + i))})
			results <- err
		}()
	}
	won := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, mirror.ErrFenced):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d claims of the same epoch succeeded", won)
	}
}

// With the leader key lost or unreadable, epochs still rise: the terms tell.
func TestEpochsRiseWithoutTheLeaderKey(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 7), config())
	m.PutTerm(record.Term{Epoch: 7})
	m.flush(t)
	m.stop()
	for _, damage := range []func() error{
		func() error { _, err := cli.Put(etcdtest.Within(t), keys.Leader(), "garbage"); return err },
		func() error { _, err := cli.Delete(etcdtest.Within(t), keys.Leader()); return err },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		known(t, cli, 7)
		if _, err := claimAs(etcdtest.Within(t), cli, leader(7)); !errors.Is(err, mirror.ErrFenced) {
			t.Errorf("epoch 7 could be claimed twice: %v", err)
		}
	}
	claim(t, cli, 8)
	known(t, cli, 8)
}

func TestClaimRefusesTheStateOfANewerVersion(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claim(t, cli, 1)
	e, err := keys.Decode(keys.Schema(), get(t, cli, keys.Schema()).Kvs[0].Value)
	if err != nil || e.Schema.History == "" || e.Schema.Version != record.SchemaVersion {
		t.Fatalf("schema %+v, %v", e.Schema, err)
	}
	put := func(s record.Schema) {
		if _, err := cli.Put(etcdtest.Within(t), keys.Schema(), string(record.EncodeSchema(s))); err != nil {
			t.Fatal(err)
		}
	}

	// Newer, but this version may go on with it.
	put(record.Schema{MinReader: record.SchemaVersion, Version: 9, History: "h"})
	claim(t, cli, 2)
	e, err = keys.Decode(keys.Schema(), get(t, cli, keys.Schema()).Kvs[0].Value)
	if err != nil || e.Schema.History != "h" || e.Schema.Version != 9 {
		t.Errorf("the claim changed the schema to %+v, %v", e.Schema, err)
	}

	put(record.Schema{MinReader: record.SchemaVersion + 1, Version: 9, History: "h"})
	_, err = claimAs(etcdtest.Within(t), cli, leader(3))
	if !errors.Is(err, record.ErrNewerSchema) || !strings.Contains(err.Error(), keys.Schema()) {
		t.Errorf("got %v", err)
	}
	known := get(t, cli, keys.Leader()).Kvs[0]
	if l, _ := record.DecodeLeader(known.Value); l.Epoch != 2 {
		t.Errorf("the refused claim left %+v", l)
	}
}

func TestClaimWaitsForEtcd(t *testing.T) {
	server := etcdtest.Start(t)
	cli := server.Client()
	server.Kill()
	got := make(chan error, 1)
	ctx := etcdtest.Within(t)
	go func() {
		_, err := claimAs(ctx, cli, leader(1))
		got <- err
	}()
	server.Restart()
	if err := <-got; err != nil {
		t.Error(err)
	}

	server.Kill()
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := claimAs(short, cli, leader(2)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnusableArguments(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	for _, p := range []string{"", "/"} {
		if _, err := mirror.Claim(etcdtest.Within(t), cli, p, leader(1), record.Term{Epoch: 1}); err == nil {
			t.Errorf("prefix %q was claimed", p)
		}
	}
	if _, err := claimAs(etcdtest.Within(t), cli, record.Leader{}); err == nil {
		t.Error("epoch 0 was claimed")
	}
	if _, err := mirror.New(cli, mirror.Claimed{Epoch: 1, Revision: 1}, config(), nil, nil); err == nil {
		t.Error("a mirror without a claim")
	}
	cfg := config()
	cfg.Prefix = "/elsewhere"
	if _, err := mirror.New(cli, claim(t, cli, 1), cfg, nil, nil); err == nil {
		t.Error("a mirror of a prefix that was not claimed")
	}
	bad := mirror.Config{Policy: "lenient"}.Validate()
	for _, field := range []string{"prefix", "policy", "requestTimeout", "patience", "finalFlush", "checkInterval", "maxOps", "maxBytes"} {
		if bad == nil || !strings.Contains(bad.Error(), field) {
			t.Errorf("%v does not name %s", bad, field)
		}
	}
}

// TestAClaimLeavesARecordOfItsTerm, whatever becomes of the promotion, and in the same
// transaction: nobody sees the one without the other.
func TestAClaimLeavesARecordOfItsTerm(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	begun := record.Term{
		Epoch: 3, Incarnation: "replica-3", Reason: "lease expired", Started: 5, Timings: []record.Timing{{Step: "taken", At: 5}},
	}
	claimed, err := mirror.Claim(etcdtest.Within(t), cli, prefix, leader(3), begun)
	if err != nil {
		t.Fatal(err)
	}
	kv := get(t, cli, keys.Term(3)).Kvs
	if len(kv) != 1 || kv[0].ModRevision != claimed.Revision {
		t.Fatalf("claimed at revision %d, the record of the term is %v", claimed.Revision, kv)
	}
	if want := record.Sign(record.KindTerm, record.EncodeTerm(begun), 3); string(kv[0].Value) != string(want) {
		t.Errorf("the record is %q, want %q", kv[0].Value, want)
	}

	// Whoever is refused writes nothing, a claim that is repeated nothing more.
	if _, err := claimAs(etcdtest.Within(t), cli, record.Leader{Epoch: 2, Incarnation: "late"}); !errors.Is(err, mirror.ErrFenced) {
		t.Errorf("epoch 2: %v", err)
	}
	if _, err := mirror.Claim(etcdtest.Within(t), cli, prefix, leader(3), record.Term{Epoch: 3, Reason: "again"}); err != nil {
		t.Error(err)
	}
	if _, err := mirror.Claim(etcdtest.Within(t), cli, prefix, leader(4), begun); err == nil {
		t.Error("epoch 4 was claimed with the record of term 3")
	}
	terms := get(t, cli, keys.Terms(), clientv3.WithPrefix()).Kvs
	if len(terms) != 1 || terms[0].ModRevision != claimed.Revision {
		t.Errorf("the terms are %v", terms)
	}
}
