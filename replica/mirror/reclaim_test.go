package mirror_test

import (
	"context"
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// TestReclaimGoesOnInANewerEpoch: what a lead has goes on under the new epoch, and who
// follows from the revision of the claim misses nothing.
func TestReclaimGoesOnInANewerEpoch(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 3), config())
	m.appendWait(t, task(1, 1))
	revision, err := m.Reclaim(etcdtest.Within(t), leader(4))
	if err != nil {
		t.Fatal(err)
	}
	if kv := get(t, cli, keys.Leader()).Kvs[0]; kv.ModRevision != revision {
		t.Errorf("claimed at revision %d, the leader key says %d", revision, kv.ModRevision)
	}
	known(t, cli, 4)
	m.appendWait(t, task(2, 1))
	for i, epoch := range map[int]uint64{1: 3, 2: 4} {
		wrote := task(i, 1)
		kv := get(t, cli, keys.Record(wrote.Key)).Kvs[0]
		want := record.Sign(record.KindTask, record.EncodeTask(wrote.Task), epoch)
		if string(kv.Value) != string(want) {
			t.Errorf("task %d is not signed by epoch %d", i, epoch)
		}
	}
	if _, err := m.Reclaim(etcdtest.Within(t), leader(4)); err == nil {
		t.Error("an epoch was claimed twice")
	}
}

// TestNobodyReclaimsWhatAnotherHasHad: a lead that lapsed knows nothing of what another
// wrote meanwhile, even if that one has gone again.
func TestNobodyReclaimsWhatAnotherHasHad(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 3), config())
	m.appendWait(t, task(1, 1))
	claim(t, cli, 4)
	if _, err := m.Reclaim(etcdtest.Within(t), leader(5)); !errors.Is(err, mirror.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	if err := m.ended(t); !errors.Is(err, mirror.ErrFenced) {
		t.Errorf("the mirror went on: %v", err)
	}
	known(t, cli, 4)
	if _, err := m.Reclaim(etcdtest.Within(t), leader(6)); !errors.Is(err, mirror.ErrStopped) {
		t.Errorf("a mirror that has ended: %v", err)
	}
}

// TestReclaimWhoseAnswerWasLost is repeated, and finds that it was made.
func TestReclaimWhoseAnswerWasLost(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 3), config())
	m.appendWait(t, task(1, 1))
	lost := 0
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		resp, err := send()
		if len(ops) > 0 && string(ops[0].KeyBytes()) == keys.Leader() && lost == 0 {
			lost++
			return nil, context.DeadlineExceeded
		}
		return resp, err
	})
	if _, err := m.Reclaim(etcdtest.Within(t), leader(4)); err != nil || lost != 1 {
		t.Fatalf("%v, %d answers lost", err, lost)
	}
	m.appendWait(t, task(2, 1))
	known(t, cli, 4)
}
