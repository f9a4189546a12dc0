package fenced

import (
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/record"
)

// ErrFenced says that the prefix belongs to somebody else now, or that etcd no
// longer holds the history in which the fence was claimed.
var ErrFenced = errors.New("fenced")

// Fence is the right to write below a prefix for one epoch. It is a value; the
// zero Fence is refused. Its revision changes when it is renewed.
type Fence struct {
	leader   string // the leader key
	value    string // what the claim wrote there
	epoch    uint64
	revision int64 // ModRevision of the leader key that every write compares
	cluster  uint64
}

// Valid reports whether the fence came out of a claim.
func (f Fence) Valid() bool { return f.revision > 0 }

// Epoch is the epoch that was claimed.
func (f Fence) Epoch() uint64 { return f.epoch }

// Revision is the ModRevision of the leader key.
func (f Fence) Revision() int64 { return f.revision }

// LeaderKey is the key that was claimed.
func (f Fence) LeaderKey() string { return f.leader }

func (f Fence) holds() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(f.leader), "=", f.revision)
}

// sameHistory checks that the answer comes from the history in which the fence
// was claimed and in which the revision `newest` has been seen. An etcd that was
// wiped or restored from a backup fails this even where the leader key matches.
func (f Fence) sameHistory(h *pb.ResponseHeader, newest int64) error {
	switch {
	case h.ClusterId != f.cluster:
		return fmt.Errorf("%w: epoch %d was claimed in etcd cluster %x, this is %x", ErrFenced, f.epoch, f.cluster, h.ClusterId)
	case h.Revision < newest:
		return fmt.Errorf("%w: epoch %d: etcd went back from revision %d to %d", ErrFenced, f.epoch, newest, h.Revision)
	}
	return nil
}

// stillMine checks that the leader key holds what the claim wrote.
func (f Fence) stillMine(kvs []*mvccpb.KeyValue) error {
	if len(kvs) == 0 {
		return fmt.Errorf("%w: epoch %d: the leader key is gone", ErrFenced, f.epoch)
	}
	if string(kvs[0].Value) == f.value || failpoint.Off(failpoint.EtcdFence) {
		return nil
	}
	return fmt.Errorf("%w: epoch %d: %s", ErrFenced, f.epoch, owner(kvs[0].Value))
}

// owner says who wrote the value of a leader key.
func owner(value []byte) string {
	if len(value) == 0 {
		return "known from its term, the leader key is gone"
	}
	l, err := record.DecodeLeader(value)
	if err != nil {
		return "the leader key was overwritten: " + err.Error()
	}
	return fmt.Sprintf("%q leads in epoch %d", l.Incarnation, l.Epoch)
}
