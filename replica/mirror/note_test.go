package mirror_test

import (
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// TestNotesAreDurableBeforeTheyAreTold: where effects run ahead of an etcd that is away, what
// is told of the chronicle does not.
func TestNotesAreDurableBeforeTheyAreTold(t *testing.T) {
	etcd := etcdtest.Start(t)
	cli := etcd.Client()
	cfg := config()
	cfg.Policy, cfg.Patience, cfg.RequestTimeout = mirror.Available, 50*time.Millisecond, 200*time.Millisecond
	m := run(t, cli, claim(t, cli, 1), cfg)
	etcd.Pause()
	landed, ahead := make(chan struct{}), make(chan struct{})
	m.PutNotes([]mirror.Note{{Key: keys.EventRun(0, 1), Value: []byte("one")}, {Key: keys.EventRun(2, 3), Value: []byte("two")}}, func() { close(landed) })
	m.Append([]ledger.Change{task(1, 1)}, func() { close(ahead) })
	<-ahead
	select {
	case <-landed:
		t.Error("told of what is not durable")
	default:
	}
	etcd.Resume()
	<-landed
	resp, err := cli.Get(etcdtest.Within(t), keys.EventRun(2, 3))
	if err != nil || len(resp.Kvs) != 1 || !strings.HasPrefix(string(resp.Kvs[0].Value), "two") {
		t.Errorf("%v, %v", resp, err)
	}
	m.PutNotes([]mirror.Note{{Key: keys.EventRun(0, 1)}}, nil)
	m.flush(t)
	if resp, err := cli.Get(etcdtest.Within(t), keys.EventRun(0, 1)); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("not removed: %v, %v", resp, err)
	}
}

// TestNotesGoWithWhatGoesAnyway: they wait for a transaction with something for which pods do.
// How often that comes in time depends on the machine.
func TestNotesGoWithWhatGoesAnyway(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 1), config())
	for i := range uint64(20) {
		key := keys.EventRun(i, i)
		m.PutNotes([]mirror.Note{{Key: key, Value: []byte("x")}}, nil)
		if _, err := cli.Get(etcdtest.Within(t), key); err != nil { // which gives the mirror time
			t.Fatal(err)
		}
		m.appendWait(t, task(1, int(i)+1))
		note, err := cli.Get(etcdtest.Within(t), key)
		if err != nil {
			t.Fatal(err)
		}
		record, err := cli.Get(etcdtest.Within(t), keys.Record(task(1, 1).Key))
		if err != nil || len(record.Kvs) != 1 {
			t.Fatalf("%v, %v", record, err)
		}
		if len(note.Kvs) == 1 && note.Kvs[0].ModRevision == record.Kvs[0].ModRevision {
			return
		}
	}
	t.Error("each note had a transaction of its own")
}

// TestNotesAreFenced: an older lead adds nothing.
func TestNotesAreFenced(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	old := run(t, cli, claim(t, cli, 1), config())
	claim(t, cli, 2)
	old.PutNotes([]mirror.Note{{Key: keys.EventRun(0, 0), Value: []byte("x")}}, func() { t.Error("told that it is durable") })
	if err := old.ended(t); err == nil {
		t.Error("the old lead goes on")
	}
	if resp, err := cli.Get(etcdtest.Within(t), keys.EventRun(0, 0)); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}
