package chronicle_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/chronicle"
	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// ofPod are the events with which the core accompanies a pod from its ask to its end: see
// TestWhatAPodSays in coordinator/engine.
func ofPod(app, pod, node string) []*si.EventRecord {
	takes := &si.Resource{Resources: map[string]*si.Quantity{"vcore": {Value: 100}, "memory": {Value: 1 << 28}, "pods": {Value: 1}}}
	event := func(kind si.EventRecord_Type, object, reference string, change si.EventRecord_ChangeType, detail si.EventRecord_ChangeDetail) *si.EventRecord {
		return &si.EventRecord{
			Type: kind, ObjectID: object, ReferenceID: reference, EventChangeType: change, EventChangeDetail: detail,
			TimestampNano: time.Now().UnixNano(), Resource: takes,
		}
	}
	const add, remove = si.EventRecord_ADD, si.EventRecord_REMOVE
	return []*si.EventRecord{
		event(si.EventRecord_APP, app, pod, add, si.EventRecord_APP_REQUEST),
		event(si.EventRecord_APP, app, pod, add, si.EventRecord_APP_ALLOC),
		event(si.EventRecord_USERGROUP, "nobody", "root.default", add, si.EventRecord_UG_USER_RESOURCE),
		event(si.EventRecord_NODE, node, pod, add, si.EventRecord_NODE_ALLOC),
		event(si.EventRecord_APP, app, pod, remove, si.EventRecord_ALLOC_CANCEL),
		event(si.EventRecord_USERGROUP, "nobody", "root.default", remove, si.EventRecord_UG_USER_RESOURCE),
		event(si.EventRecord_NODE, node, pod, remove, si.EventRecord_NODE_ALLOC),
	}
}

// cost is what etcd was given.
type cost struct {
	transactions int64
	bytes        int
}

// burst has pods come, be placed, bound, end and go, some at a time as in a loop, and returns what
// that costs.
func burst(t *testing.T, pods int, speaks bool) cost {
	cli := etcdtest.Start(t).Client()
	l := begin(t, cli, 1, config(), nil)
	etcdtest.Eventually(t, "a sample is taken", func() bool { return len(l.Samples()) == 1 })
	if err := l.mirror.Flush(etcdtest.Within(t)); err != nil {
		t.Fatal(err)
	}
	from := l.mirror.Status().Revision
	state, now := ledger.New(), ledger.At(time.Now())
	random := rand.New(rand.NewPCG(1, 1))
	// As with a binding, what follows waits until what it follows from is durable.
	step := func(events ...ledger.Event) {
		durable := make(chan struct{})
		for i, event := range events {
			var done func()
			if i == len(events)-1 {
				done = func() { close(durable) }
			}
			l.mirror.Append(state.Step(event).Changes, done)
		}
		<-durable
	}
	stamp := ledger.Stamp{At: now}
	step(ledger.AddApp{Stamp: stamp, ID: "app", Queue: "root.default", Manager: "general", User: "nobody"},
		ledger.AppAccepted{Stamp: stamp, AppID: "app", PlacedQueue: "root.default"})
	const together = 10
	for first := 0; first < pods; first += together {
		stages := make([][]ledger.Event, 5)
		for range together {
			id := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", random.Uint32(), random.Uint32()&0xffff, random.Uint32()&0xfff, random.Uint32()&0xfff, random.Uint64()&0xffffffffffff)
			node := fmt.Sprintf("node-%03d", random.IntN(200))
			for i, event := range []ledger.Event{
				ledger.AddTask{
					Stamp: stamp, AppID: "app", ID: id, Namespace: "default", Name: "job-" + id[:5],
					Resources: map[string]int64{"vcore": 100, "memory": 1 << 28, "pods": 1}, Submitted: now,
				},
				ledger.Allocated{Stamp: stamp, AppID: "app", TaskID: id, Node: node}, ledger.BindDone{Stamp: stamp, AppID: "app", TaskID: id, Node: node},
				ledger.CompleteTask{Stamp: stamp, AppID: "app", TaskID: id}, ledger.RemoveTask{Stamp: stamp, AppID: "app", TaskID: id},
			} {
				stages[i] = append(stages[i], event)
			}
			if speaks {
				l.core.mu.Lock()
				l.core.queue = append(l.core.queue, ofPod("app", id, node)...)
				l.core.mu.Unlock()
			}
		}
		for _, stage := range stages {
			step(stage...)
		}
	}
	if speaks {
		etcdtest.Eventually(t, "all is said", func() bool { return l.Batch(0, 1).Highest == uint64(7*pods-1) })
	}
	if err := l.mirror.Flush(etcdtest.Within(t)); err != nil {
		t.Fatal(err)
	}
	to := l.mirror.Status().Revision
	c := cost{transactions: to - from}
	ctx := etcdtest.Within(t)
	for at, changes := from, cli.Watch(ctx, keys.Root(), clientv3.WithPrefix(), clientv3.WithRev(from+1)); at < to; {
		answer := <-changes
		if answer.Err() != nil {
			t.Fatal(answer.Err())
		}
		for _, e := range answer.Events {
			c.bytes += len(e.Kv.Key) + len(e.Kv.Value)
			at = e.Kv.ModRevision
		}
	}
	return c
}

// TestWhatABurstCosts prints what the chronicle takes of etcd in a burst. It is meant to be a tenth
// at most; the fewer events a run has, on a machine with other things to do, the more that is.
func TestWhatABurstCosts(t *testing.T) {
	const pods = 1000
	without, with := burst(t, pods, false), burst(t, pods, true)
	t.Logf("a pod without the chronicle: %.3f transactions, %.0f bytes; with it: %.3f transactions, %.0f bytes",
		float64(without.transactions)/pods, float64(without.bytes)/pods, float64(with.transactions)/pods, float64(with.bytes)/pods)
	if chronicle.Default().Events < 7*pods {
		t.Fatal("too many events to see them all")
	}
	if with.bytes > without.bytes*115/100 {
		t.Errorf("%d bytes instead of %d", with.bytes, without.bytes)
	}
}
