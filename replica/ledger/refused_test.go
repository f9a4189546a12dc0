package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestMoreNodesRefuseThanAreRemembered: a pod that every node of a large cluster
// refuses is asked for ever more rarely, also by a successor, and its record stays
// small.
func TestMoreNodesRefuseThanAreRemembered(t *testing.T) {
	l, now := New(), genStart
	step := func(event Event) Delta { return l.Step(event) }
	stamp := func() Stamp { return Stamp{At: now} }
	step(AddApp{Stamp: stamp(), ID: "a"})
	step(AppAccepted{Stamp: stamp(), AppID: "a"})
	step(AddTask{Stamp: stamp(), AppID: "a", ID: "t"})
	var pauses []time.Duration
	for node := range 60 {
		step(Allocated{Stamp: stamp(), AppID: "a", TaskID: "t", Node: fmt.Sprint("n", node)})
		var d Delta
		for range refusalsPerNode {
			if at, ok := l.NextDeadline(); ok {
				now = max(now, at)
				step(Tick{stamp()})
			}
			d = step(BindFailed{Stamp: stamp(), AppID: "a", TaskID: "t", Message: "no", Refused: true})
		}
		task := l.TaskByID("t")
		if task.State != TaskStateScheduling || len(task.Avoid) != min(node+1, AvoidLimit) {
			t.Fatalf("after %d nodes the task is %+v", node+1, task)
		}
		asks := func(e Effect) bool { _, ok := e.(Ask); return ok }
		asked, due := slices.ContainsFunc(d.Effects, asks), slices.ContainsFunc(l.Due(now), asks)
		if full := node+1 >= AvoidLimit; asked == full || due == full {
			t.Fatalf("after %d nodes it is asked for: %v, by a successor: %v", node+1, asked, due)
		} else if full {
			next, _ := l.NextDeadline()
			pauses = append(pauses, next.Time().Sub(now.Time()))
			now = next
			if d := step(Tick{stamp()}); !slices.ContainsFunc(d.Effects, asks) {
				t.Fatalf("not asked for again: %s", show(d))
			}
		}
	}
	if !slices.IsSorted(pauses) || pauses[0] != forgiveFirst || pauses[len(pauses)-1] != forgiveLimit {
		t.Errorf("pauses %v", pauses)
	}
}

// TestARefusedPodThatIsBoundIsNotAvoiding: what was refused counts no more.
func TestARefusedPodThatIsBoundIsNotAvoiding(t *testing.T) {
	l := New()
	l.Step(AddApp{Stamp: at(1), ID: "a"})
	l.Step(AppAccepted{Stamp: at(2), AppID: "a"})
	l.Step(AddTask{Stamp: at(3), AppID: "a", ID: "t"})
	l.Step(Allocated{Stamp: at(4), AppID: "a", TaskID: "t", Node: "n"})
	for range refusalsPerNode {
		l.Step(BindFailed{Stamp: at(5), AppID: "a", TaskID: "t", Refused: true})
	}
	if got := l.TaskByID("t").Avoids(); !slices.Equal(got, []string{"n"}) {
		t.Fatalf("avoids %v", got)
	}
	// Somebody else binds it, where it had been refused.
	l.Step(AddTask{Stamp: at(6), AppID: "a", ID: "t", Node: "n"})
	task := l.TaskByID("t")
	if task.State != TaskStateBound || len(task.Avoid) > 0 || task.NextAttempt != 0 || task.Retries != 0 {
		t.Errorf("bound is %+v", task)
	}
}
