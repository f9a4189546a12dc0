package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// willing is an etcd that takes each transaction in no time, and has nothing to tell.
type willing struct {
	clientv3.KV
	revision int64
}

func (w *willing) Txn(context.Context) clientv3.Txn { return &willingTxn{etcd: w} }

type willingTxn struct {
	etcd *willing
	then []clientv3.Op
}

func (t *willingTxn) If(...clientv3.Cmp) clientv3.Txn    { return t }
func (t *willingTxn) Else(...clientv3.Op) clientv3.Txn   { return t }
func (t *willingTxn) Then(o ...clientv3.Op) clientv3.Txn { t.then = o; return t }

func (t *willingTxn) Commit() (*clientv3.TxnResponse, error) {
	t.etcd.revision++
	resp := &clientv3.TxnResponse{Header: &pb.ResponseHeader{ClusterId: 1, Revision: t.etcd.revision}, Succeeded: true}
	for range t.then {
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}})
	}
	return resp, nil
}

// TestABatchThatHasRestedIsWritten although nobody says anything more: Run wakes by itself.
func TestABatchThatHasRestedIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cli := clientv3.NewCtxClient(ctx)
		cli.KV = &willing{}
		cfg := Default()
		cfg.Prefix = "/understudy"
		claimed, err := Claim(ctx, cli, cfg.Prefix, record.Leader{Epoch: 1, Incarnation: "replica-1", Since: 1}, record.Term{Epoch: 1, Incarnation: "replica-1"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(cli, claimed, cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()

		apps := 0
		// written hands records over, and returns how long they took to be durable.
		written := func(records int) time.Duration {
			var changes []ledger.Change
			for range records {
				apps++
				id := fmt.Sprint(apps)
				changes = append(changes, ledger.Change{Key: ledger.Key{AppID: id}, App: &ledger.App{ID: id}})
			}
			begun, durable := time.Now(), make(chan struct{})
			m.Append(changes, func() { close(durable) })
			<-durable
			return time.Since(begun)
		}
		for batch := range 2 {
			if took := written(6); took != 0 {
				t.Fatalf("batch %d rested for %s", batch, took)
			}
		}
		if took := written(1); took != 5*restPerEntry {
			t.Errorf("a record rested for %s, want %s", took, 5*restPerEntry)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
