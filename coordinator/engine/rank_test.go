package engine_test

import (
	"sync"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// crewed is an application of four pods on a node: those that begin with c are a crew.
func crewed(f *fixture, rank ledger.Rank, tasks ...string) *ledger.Ledger {
	state := ledger.New()
	began := ledger.At(time.Now().Add(-time.Hour))
	stamp := ledger.Stamp{At: began}
	state.Step(ledger.AddApp{Stamp: stamp, ID: "low", Queue: "root.low", User: "u", Submitted: began})
	state.Step(ledger.AppAccepted{Stamp: stamp, AppID: "low", PlacedQueue: "root.low"})
	state.Step(ledger.SetCrew{Stamp: stamp, AppID: "low", Name: "c", Wanted: 1, Rank: rank})
	for i, id := range tasks {
		f.pod(id, "1", on("n1"))
		group := ""
		if id[0] == 'c' {
			group = "c"
		}
		state.Step(ledger.AddTask{
			Stamp: stamp, AppID: "low", ID: id, Namespace: "default", Name: id, Node: "n1", TaskGroup: group,
			Submitted: began.Add(-time.Duration(i) * time.Minute),
			Resources: map[string]int64{"vcore": 1000, "memory": 1 << 20, "pods": 1},
		})
	}
	return state
}

// TestACrewThatIsDisruptedTogetherIsNotPreempted: its pods are the youngest, and the engine
// takes another, be it that of a new lead.
func TestACrewThatIsDisruptedTogetherIsNotPreempted(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(lowAndHigh))
	f.node("n1")
	f.do(crewed(f, ledger.Rank{Together: true}, "c1", "c2", "c3", "plain").Feed()...)
	f.engage()
	high := newApp("high", "root.high")
	f.submit(high)
	f.do(ledger.Ask{App: high, Task: newTask(high, f.pod("vip", "1"))})
	rel := waitFor(f, func(e ledger.Released) bool { return e.Termination == ledger.PreemptedByEngine })
	if rel.TaskID != "plain" {
		t.Errorf("%s of the crew was preempted", rel.TaskID)
	}
}

// overheard notes what the core is told of tasks.
type overheard struct {
	api.SchedulerAPI
	mu   sync.Mutex
	told map[string]*si.Allocation
}

func (o *overheard) UpdateAllocation(r *si.AllocationRequest) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range r.Allocations {
		o.told[a.AllocationKey] = a
	}
	return o.SchedulerAPI.UpdateAllocation(r)
}

// TestTheRankOfACrew counts in place of what its pods say, whether they are asked for or
// are there already.
func TestTheRankOfACrew(t *testing.T) {
	rank := ledger.Rank{Ranked: true, Priority: -7, Yields: true, Together: true}
	f := start(t, withQueues(lowAndHigh))
	heard := &overheard{told: make(map[string]*si.Allocation)}
	f.engine.BetweenCore(func(core api.SchedulerAPI) api.SchedulerAPI {
		heard.SchedulerAPI = core
		return heard
	})
	f.node("n1")
	state := crewed(f, rank, "c1", "plain")
	f.do(state.Feed()...)
	f.engage() // what it was fed has been told
	f.pod("c2", "1")
	for _, effect := range state.Step(ledger.AddTask{AppID: "low", ID: "c2", Namespace: "default", Name: "c2", TaskGroup: "c"}).Effects {
		if ask, is := effect.(ledger.Ask); is {
			f.do(ask)
		}
	}
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for id, ranked := range map[string]bool{"c1": true, "c2": true, "plain": false} {
		a := heard.told[id]
		priority := int32(0)
		if ranked {
			priority = rank.Priority
		}
		if a == nil || a.Priority != priority || a.PreemptionPolicy.AllowPreemptOther == ranked || a.PreemptionPolicy.AllowPreemptSelf == ranked {
			t.Errorf("the core is told of %s: %v", id, a)
		}
	}
}
