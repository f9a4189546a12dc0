package mirror_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

const prefix = "/understudy"

var keys = record.Keys{Prefix: prefix}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() mirror.Config {
	cfg := mirror.Default()
	cfg.Prefix = prefix
	return cfg
}

func claim(t *testing.T, cli *clientv3.Client, epoch uint64) mirror.Claimed {
	t.Helper()
	c, err := claimAs(etcdtest.Within(t), cli, leader(epoch))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// claimAs claims the prefix, with a record of the term that says as little as it can.
func claimAs(ctx context.Context, cli *clientv3.Client, l record.Leader) (mirror.Claimed, error) {
	return mirror.Claim(ctx, cli, prefix, l, record.Term{Epoch: l.Epoch, Incarnation: l.Incarnation})
}

func leader(epoch uint64) record.Leader {
	return record.Leader{Epoch: epoch, Incarnation: fmt.Sprintf("replica-%d", epoch), Since: 1}
}

// running is a mirror with its Run under way.
type running struct {
	*mirror.Mirror
	stop context.CancelFunc
	end  chan error
}

func run(t *testing.T, cli *clientv3.Client, claimed mirror.Claimed, cfg mirror.Config) *running {
	t.Helper()
	m, err := mirror.New(cli, claimed, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, m)
}

func start(t *testing.T, m *mirror.Mirror) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{m, stop, make(chan error, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { r.end <- m.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return r
}

// ended returns what Run returned.
func (r *running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.end:
		return err
	case <-time.After(etcdtest.Patience):
		t.Fatal("Run did not return")
		return nil
	}
}

func (r *running) flush(t *testing.T) {
	t.Helper()
	if err := r.Flush(etcdtest.Within(t)); err != nil {
		t.Fatal(err)
	}
}

// appendWait appends changes and waits for them to be done.
func (r *running) appendWait(t *testing.T, changes ...ledger.Change) {
	t.Helper()
	done := make(chan struct{})
	r.Append(changes, func() { close(done) })
	select {
	case <-done:
	case <-time.After(etcdtest.Patience):
		t.Fatalf("not done; status %+v", r.Status())
	}
}

// task is the change that gives task i of application "a" its n-th version.
func task(i, n int) ledger.Change {
	id := fmt.Sprintf("t%04d", i)
	return ledger.Change{
		Key:  ledger.Key{AppID: "a", TaskID: id},
		Task: &ledger.Task{AppID: "a", ID: id, State: "New", Retries: uint32(n)},
	}
}

func app(id string, messageBytes int) ledger.Change {
	message := make([]byte, messageBytes)
	for i := range message {
		message[i] = 'x'
	}
	return ledger.Change{Key: ledger.Key{AppID: id}, App: &ledger.App{ID: id, State: "New", Message: string(message)}}
}

// version returns which version of task i etcd has, -1 if none.
func version(t *testing.T, cli *clientv3.Client, i int) int {
	t.Helper()
	resp, err := cli.Get(etcdtest.Within(t), keys.Record(task(i, 0).Key))
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return -1
	}
	got, err := record.DecodeTask(resp.Kvs[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return int(got.Retries)
}

func get(t *testing.T, cli *clientv3.Client, key string, opts ...clientv3.OpOption) *clientv3.GetResponse {
	t.Helper()
	resp, err := cli.Get(etcdtest.Within(t), key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// commit sends a transaction to etcd.
type commit func() (*clientv3.TxnResponse, error)

// intercept lets a test stand between the mirror and etcd: hook gets every
// transaction, with its operations, and decides what becomes of it.
func intercept(cli *clientv3.Client, hook func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error)) {
	cli.KV = &hookedKV{KV: cli.KV, hook: hook}
}

type hookedKV struct {
	clientv3.KV
	hook func([]clientv3.Op, commit) (*clientv3.TxnResponse, error)
}

func (h *hookedKV) Txn(ctx context.Context) clientv3.Txn { return &hookedTxn{ctx: ctx, kv: h} }

type hookedTxn struct {
	ctx             context.Context
	kv              *hookedKV
	cmps            []clientv3.Cmp
	then, otherwise []clientv3.Op
}

func (h *hookedTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { h.cmps = cs; return h }
func (h *hookedTxn) Then(ops ...clientv3.Op) clientv3.Txn { h.then = ops; return h }
func (h *hookedTxn) Else(ops ...clientv3.Op) clientv3.Txn { h.otherwise = ops; return h }

func (h *hookedTxn) Commit() (*clientv3.TxnResponse, error) {
	if err := h.ctx.Err(); err != nil {
		return nil, err
	}
	return h.kv.hook(h.then, func() (*clientv3.TxnResponse, error) {
		// Not with the request's own context: a test may send it much later.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), etcdtest.Patience)
		defer cancel()
		return h.kv.KV.Txn(ctx).If(h.cmps...).Then(h.then...).Else(h.otherwise...).Commit()
	})
}

// touches reports whether the operations include a record of application "a".
func touches(ops []clientv3.Op) bool {
	for _, op := range ops {
		if p, err := keys.Parse(string(op.KeyBytes())); err == nil && p.Kind == record.KindTask && op.IsPut() {
			return true
		}
	}
	return false
}
