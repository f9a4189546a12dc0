package verify

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/e2e/verify/history"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// mirror builds a history of the prefix transaction by transaction.
type mirror struct {
	gen    int
	rev    int64
	events []history.EtcdEvent
}

func newMirror() *mirror { return &mirror{rev: 10} }

type op struct {
	key   string
	value []byte // nil deletes
}

func (m *mirror) txn(ops ...op) {
	m.rev++
	for _, o := range ops {
		m.events = append(m.events, history.EtcdEvent{
			Generation: m.gen, Revision: m.rev, Key: o.key, Value: o.value, Deleted: o.value == nil,
		})
	}
}

func (m *mirror) claim(epoch uint64) { m.txn(claimOp(epoch)) }

func claimOp(epoch uint64) op {
	return op{key: "leader", value: encode(&recordpb.Leader{Schema: 1, Epoch: epoch, Incarnation: fmt.Sprint("replica-", epoch)})}
}

func appOp(id string, state string, epoch uint64) op {
	m := &recordpb.App{Schema: 1, Id: id, State: state, Epoch: epoch}
	return op{key: "apps/" + url.PathEscape(id), value: encode(m)}
}

func taskOp(appID, uid, state, node string, epoch uint64) op {
	return namedTaskOp(appID, uid, "ns/pod-"+uid, state, node, epoch)
}

func namedTaskOp(appID, uid, pod, state, node string, epoch uint64) op {
	namespace, name, _ := strings.Cut(pod, "/")
	m := &recordpb.Task{Schema: 1, AppId: appID, Id: uid, Namespace: namespace, Name: name, State: state, Node: node, Epoch: epoch}
	return op{key: "tasks/" + url.PathEscape(appID) + "/" + url.PathEscape(uid), value: encode(m)}
}

func termOp(term, epoch uint64) op {
	m := &recordpb.Term{Schema: 1, Epoch: term, Reason: "lease expired", WriterEpoch: epoch}
	return op{key: fmt.Sprintf("terms/%020d", term), value: encode(m)}
}

// noteOp is a run of events, which is not read as far as that.
func noteOp(epoch uint64) op {
	return op{key: "~chronicle/events/0-1", value: encode(&recordpb.Events{Schema: 1, Columns: []byte("x"), Epoch: epoch})}
}

func configurationOp(epoch uint64) op {
	return op{key: "configuration", value: encode(&recordpb.Configuration{Schema: 1, Epoch: epoch})}
}

func schemaOp() op {
	return op{key: "schema", value: encode(&recordpb.Schema{Schema: 1, Version: 1, History: "x"})}
}

func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func TestFence(t *testing.T) {
	good := func() *mirror {
		m := newMirror()
		m.txn(claimOp(3), schemaOp())
		m.txn(appOp("a/b", "Running", 3), taskOp("a/b", "u1", "Bound", "n1", 3))
		m.txn(claimOp(4), termOp(3, 4)) // closes its predecessor's term with the claim
		m.txn(termOp(4, 4))
		m.txn(taskOp("a/b", "u1", "Completed", "n1", 4), op{key: "tasks/a%2Fb/u0"})
		m.txn(op{key: "tasks/a%2Fb/u1"})
		return m
	}
	check := func(m *mirror, resets int) Check { return Fence(m.events, nil, FenceOptions{Resets: resets}) }
	c := check(good(), 0)
	holds(t, c)
	if want := "2 claims up to epoch 4, 6 transactions, 8 puts, 2 deletes (1 unsigned)"; c.Detail != want {
		t.Errorf("detail: %s, want %s", c.Detail, want)
	}

	t.Run("an older epoch writes after the newer claim", func(t *testing.T) {
		m := good()
		m.txn(taskOp("a/b", "u1", "Bound", "n1", 3))
		fails(t, check(m, 0), "tasks/a%2Fb/u1 written by epoch 3 while epoch 4 was in force")
	})
	t.Run("an older epoch closes its own term after the newer claim", func(t *testing.T) {
		m := good()
		m.txn(termOp(3, 3))
		fails(t, check(m, 0), "written by epoch 3 while epoch 4")
	})
	t.Run("written before it was claimed", func(t *testing.T) {
		m := good()
		m.txn(appOp("c", "New", 5))
		m.claim(5)
		fails(t, check(m, 0), "written by epoch 5 while epoch 4")
	})
	t.Run("an epoch claimed twice", func(t *testing.T) {
		m := good()
		m.txn(op{key: "leader", value: encode(&recordpb.Leader{Epoch: 4, Incarnation: "another"})})
		fails(t, check(m, 0), "epoch 4 claimed after epoch 4")
	})
	t.Run("a lead renews its fence", func(t *testing.T) {
		m := good()
		m.claim(4) // the same value
		m.txn(appOp("c", "New", 4))
		holds(t, check(m, 0))
		m.claim(5)
		m.claim(4)
		fails(t, check(m, 0), "epoch 4 claimed after epoch 5")
	})
	t.Run("an older epoch claims", func(t *testing.T) {
		m := newMirror()
		m.claim(4)
		m.claim(3)
		fails(t, check(m, 0), "epoch 3 claimed after epoch 4")
	})
	t.Run("the chronicle", func(t *testing.T) {
		m := good()
		m.txn(noteOp(4))
		holds(t, check(m, 0))
		m.txn(noteOp(3))
		fails(t, check(m, 0), "written by epoch 3 while epoch 4 was in force")
	})
	t.Run("the queue configuration", func(t *testing.T) {
		m := good()
		m.txn(configurationOp(4))
		holds(t, check(m, 0))
		m.txn(configurationOp(3))
		fails(t, check(m, 0), "configuration written by epoch 3 while epoch 4 was in force")
		m = good()
		m.txn(configurationOp(0))
		fails(t, check(m, 0), "configuration does not say which epoch wrote it")
	})
	t.Run("nobody signed", func(t *testing.T) {
		m := good()
		m.txn(appOp("c", "New", 0))
		fails(t, check(m, 0), "apps/c does not say which epoch wrote it")
	})
	t.Run("unreadable", func(t *testing.T) {
		m := good()
		m.txn(op{key: "apps/c", value: []byte{0xff}})
		fails(t, check(m, 0), "apps/c")
	})
	t.Run("forged by the drill", func(t *testing.T) {
		m := good()
		m.txn(op{key: "apps/c", value: []byte{0xff}})
		holds(t, Fence(m.events, nil, FenceOptions{Forged: map[int64]bool{m.rev: true}}))
		m.txn(op{key: "apps/c", value: []byte{0xff}})
		fails(t, Fence(m.events, nil, FenceOptions{Forged: map[int64]bool{m.rev - 1: true}}), "apps/c")
	})
	t.Run("a key nobody knows", func(t *testing.T) {
		m := good()
		m.txn(op{key: "whatever", value: []byte("x")})
		fails(t, check(m, 0), `"whatever"`)
	})
	t.Run("leader key removed", func(t *testing.T) {
		m := good()
		m.txn(op{key: "leader"})
		fails(t, check(m, 0), "removed 1 times, 0 expected")
		m.claim(5)
		holds(t, check(m, 1))
	})
	t.Run("a write while nobody is in force", func(t *testing.T) {
		m := good()
		m.txn(op{key: "leader"})
		m.txn(appOp("c", "New", 4))
		fails(t, check(m, 1), "while no epoch was in force")
	})
	t.Run("epochs rise across a wipe", func(t *testing.T) {
		m := good()
		m.gen, m.rev = 1, 2
		m.claim(4)
		fails(t, check(m, 1), "epoch 4 claimed after epoch 4")
		m = good()
		m.gen, m.rev = 1, 2
		m.claim(5)
		holds(t, check(m, 1))
	})
	t.Run("who led when the recording began", func(t *testing.T) {
		m := newMirror()
		m.claim(3)
		m.events[0].Base = true
		m.txn(appOp("c", "New", 2))
		fails(t, check(m, 0), "written by epoch 2 while epoch 3")
	})
	t.Run("no claim seen", func(t *testing.T) {
		fails(t, check(newMirror(), 0), "no claim was observed")
	})
}

func TestRecordsAgree(t *testing.T) {
	pods := func() []*history.Pod {
		s := newStory()
		s.create("u1", 1)
		s.bind("u1", "n1", 3)
		s.create("u2", 1)
		var out []*history.Pod
		for _, uid := range []string{"u1", "u2"} {
			p := s.last[uid]
			out = append(out, &p)
		}
		return out
	}
	records := func(ops ...op) []KV {
		var out []KV
		for _, o := range ops {
			out = append(out, KV{Key: o.key, Value: o.value})
		}
		return out
	}
	app := appOp("app", "Running", 3)
	bound := taskOp("app", "u1", "Bound", "n1", 3)
	waits := taskOp("app", "u2", "Scheduling", "", 3)
	agree := func(ops ...op) Check { return RecordsAgree(pods(), records(ops...), AgreeOptions{}) }

	holds(t, agree(app, bound, waits, schemaOp(), claimOp(3), termOp(3, 3)))
	holds(t, agree(app, bound, waits, taskOp("app", "u9", "Completed", "n1", 3), appOp("old", "Completed", 2)))

	fails(t, agree(app, waits), "pod ns/pod-u1 (u1) of \"app\" has no task record")
	fails(t, agree(app, taskOp("app", "u1", "Bound", "n2", 3), waits), `is on n1, its record says "n2"`)
	fails(t, agree(app, taskOp("app", "u1", "TaskAllocated", "n1", 3), waits), "is on n1, its record says TaskAllocated")
	fails(t, agree(app, taskOp("app", "u1", "Completed", "n1", 3), waits), "its record says Completed")
	fails(t, agree(app, bound, taskOp("app", "u2", "TaskAllocated", "n1", 3)), `has no node, its record says TaskAllocated on "n1"`)
	fails(t, agree(app, bound, taskOp("app", "u2", "Bound", "n1", 3)), "has no node, its record says Bound")
	fails(t, agree(app, bound, waits, taskOp("app", "u3", "Bound", "n1", 3)), "its pod ns/pod-u3 does not live")
	fails(t, agree(bound, waits), `application "app" has 2 live pods and no record`)
	fails(t, agree(appOp("app", "Accepted", 3), bound, waits), "its record says Accepted")
	fails(t, agree(appOp("app", "Reserving", 3), bound, waits), "its record says Reserving")
	fails(t, agree(app, bound, waits, op{key: "apps/x", value: []byte{0xff}}), "unreadable: apps/x")
	fails(t, agree(app, bound, waits, op{key: "apps/x", value: app.value}), `the record is of application "app"`)
	newer := encode(&recordpb.App{Schema: 2, Id: "x", State: "Completed", Epoch: 3})
	fails(t, agree(app, bound, waits, op{key: "apps/x", value: newer}), "unreadable: apps/x: schema 2: for a newer reader")
	fails(t, agree(app, bound, waits, appOp("idle", "Running", 3)), `application "idle" is Running and has no pod`)
	holds(t, RecordsAgree(pods(), records(app, bound, waits, appOp("idle", "Running", 3)), AgreeOptions{IdleApps: true}))

	t.Run("a pod stays of the application that it was first seen with", func(t *testing.T) {
		edited := pods()
		uid := edited[0].UID
		edited[0].AppID = "edited"
		if c := RecordsAgree(edited, records(app, bound, waits), AgreeOptions{}); c.OK {
			t.Error("by its labels it is of an application without a record")
		}
		holds(t, RecordsAgree(edited, records(app, bound, waits), AgreeOptions{Apps: map[string]string{uid: "app"}}))
	})
	t.Run("a gang may still be reserving", func(t *testing.T) {
		m := &recordpb.App{Id: "app", State: "Reserving", TaskGroups: [][]byte{[]byte("{}")}, Epoch: 3}
		gang := op{key: "apps/app", value: encode(m)}
		holds(t, agree(gang, bound, waits))
	})
	t.Run("pods of others need no record", func(t *testing.T) {
		all := append(pods(),
			&history.Pod{UID: "f", Scheduler: "default-scheduler", AppID: "app", Node: "n1"},
			&history.Pod{UID: "g", Scheduler: Scheduler, Node: "n1"})
		holds(t, RecordsAgree(all, records(app, bound, waits), AgreeOptions{}))
	})
	t.Run("a finished pod must not have a live record", func(t *testing.T) {
		all := pods()
		all[0].Phase = "Succeeded"
		fails(t, RecordsAgree(all, records(app, bound, waits), AgreeOptions{}), "does not live")
	})
}
