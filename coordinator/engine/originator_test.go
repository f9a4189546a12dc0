package engine_test

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// lowAndHigh are two queues of which one takes back from the other what is guaranteed to it.
const lowAndHigh = `
partitions:
  - name: default
    queues:
      - name: root
        submitacl: '*'
        queues:
          - name: low
          - name: high
            properties: {preemption.delay: 1s}
            resources:
              guaranteed: {vcore: 2}
`

// The driver of an application is preempted last, by the engine of a new lead as well:
// though it is the youngest of the pods, the engine takes another one.
func TestOriginatorIsPreemptedLast(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(lowAndHigh))
	f.node("n1")
	state := ledger.New()
	// An application is as old as its first pod, in whole seconds; pods are stamped
	// when they are seen.
	second := time.Now().Add(-time.Hour).Truncate(time.Second)
	stamp := ledger.Stamp{At: ledger.At(second.Add(400 * time.Millisecond))}
	state.Step(ledger.AddApp{Stamp: stamp, ID: "low", Queue: "root.low", User: "u", Submitted: ledger.At(second)})
	state.Step(ledger.AppAccepted{Stamp: stamp, AppID: "low", PlacedQueue: "root.low"})
	for i, id := range []string{"driver", "e1", "e2", "e3"} {
		f.pod(id, "1", on("n1"))
		age := stamp.At.Add(-time.Duration(i) * time.Minute)
		state.Step(ledger.AddTask{
			Stamp: stamp, AppID: "low", ID: id, Namespace: "default", Name: id, Node: "n1", Submitted: age,
			Resources: map[string]int64{"vcore": 1000, "memory": 1 << 20, "pods": 1},
		})
	}
	f.do(state.Feed()...)
	f.engage()
	high := newApp("high", "root.high")
	f.submit(high)
	f.do(ledger.Ask{App: high, Task: newTask(high, f.pod("vip", "1"))})
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
	if rel.TaskID == "driver" {
		t.Error("the driver was preempted while executors were there")
	}
}
