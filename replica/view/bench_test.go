package view

import (
	"fmt"
	"log/slog"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// What one change costs an understudy, from the answer of the watch to a ledger
// and a digest that have it; "hash" is the digest's part.
func BenchmarkFollow(b *testing.B) {
	const tasks = 1000
	cfg := Default()
	cfg.Prefix = "/understudy"
	v, err := New(nil, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	changes := make([]ledger.Change, tasks)
	values := make([]*mvccpb.KeyValue, tasks)
	for i := range changes {
		task := &ledger.Task{
			AppID: "application-0001", ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Namespace: "default", Name: fmt.Sprintf("load-%d", i),
			State: ledger.TaskStateBound, Resources: map[string]int64{"vcore": 100, "memory": 128 << 20, "pods": 1},
			Submitted: 1 << 60, Node: "node-0001", Allocated: 1 << 60, Bound: 1 << 60,
		}
		key := ledger.Key{AppID: task.AppID, TaskID: task.ID}
		changes[i] = ledger.Change{Key: key, Task: task}
		values[i] = &mvccpb.KeyValue{Key: []byte(v.keys.Record(key)), Value: record.Sign(record.KindTask, record.EncodeTask(task), 1)}
	}
	header := new(pb.ResponseHeader)
	b.Run("all", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			values[i%tasks].ModRevision = v.revision + 1
			err := v.absorb(clientv3.WatchResponse{Header: header, Events: []*clientv3.Event{{Type: clientv3.EventTypePut, Kv: values[i%tasks]}}})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hash", func(b *testing.B) {
		b.ReportAllocs()
		var d record.Digest
		for i := range b.N {
			ch := changes[i%tasks]
			d.Replace(ch.Key, record.Hash{}, record.HashOf(ch))
		}
	})
}
