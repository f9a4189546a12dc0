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

// TestWhatIsRefusedForGoodIsTriedRarely: a pod that may not be deleted, or not be failed,
// is tried for as long as it is there, as soon as every half a minute while that may
// pass, and every few minutes where it is refused. Its user is told once.
func TestWhatIsRefusedForGoodIsTriedRarely(t *testing.T) {
	events := map[string]func(Stamp, bool) Event{
		"delete": func(at Stamp, refused bool) Event {
			return DeleteFailed{Stamp: at, AppID: "a", TaskID: "t", Message: "no", Refused: refused}
		},
		"fail": func(at Stamp, refused bool) Event {
			return PodNotFailed{Stamp: at, AppID: "a", TaskID: "t", Message: "no", Refused: refused}
		},
	}
	for kind, failed := range events {
		for _, refused := range []bool{false, true} {
			limit := backoffLimit
			if refused {
				limit = refusedLimit
			}
			l, now := New(), genStart
			l.Step(AddApp{Stamp: Stamp{At: now}, ID: "a"})
			l.Step(AddTask{Stamp: Stamp{At: now}, AppID: "a", ID: "t"})
			if kind == "delete" {
				l.Step(AppAccepted{Stamp: Stamp{At: now}, AppID: "a"})
				l.Step(KillApp{Stamp: Stamp{At: now}, AppID: "a"})
			} else {
				l.Step(AppRejected{Stamp: Stamp{At: now}, AppID: "a", Message: "no queue"})
			}
			told := 0
			var pause time.Duration
			for range 40 {
				for _, effect := range l.Step(failed(Stamp{At: now}, refused)).Effects {
					if _, ok := effect.(ReportTask); ok {
						told++
					}
				}
				next, ok := l.NextDeadline()
				if !ok {
					t.Fatalf("%s: not tried again", kind)
				}
				pause, now = next.Time().Sub(now.Time()), next
				if pause > limit {
					t.Errorf("%s, refused %v: pauses for %v", kind, refused, pause)
				}
				if d := l.Step(Tick{Stamp{At: now}}); len(d.Effects) != 1 {
					t.Fatalf("%s: at its time it asks for %s", kind, show(d))
				}
			}
			if pause < limit/2 {
				t.Errorf("%s, refused %v: pauses for %v in the end", kind, refused, pause)
			}
			if told != 1 {
				t.Errorf("%s, refused %v: told %d times", kind, refused, told)
			}
		}
	}
}

// TestALostNodeIsLostOnce: engine and binder may both tell of a node that is gone, and of an
// attempt to bind a pod there. The task has another node by then, and may run there.
func TestALostNodeIsLostOnce(t *testing.T) {
	for name, late := range map[string]Event{
		"lost":    NodeLost{Stamp: at(6), AppID: "a", TaskID: "t", Node: "gone"},
		"refused": BindFailed{Stamp: at(6), AppID: "a", TaskID: "t", Refused: true, Node: "gone"},
		"failed":  BindFailed{Stamp: at(6), AppID: "a", TaskID: "t", Message: "away", Node: "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			l.Step(AddApp{Stamp: at(1), ID: "a"})
			l.Step(AppAccepted{Stamp: at(2), AppID: "a"})
			l.Step(AddTask{Stamp: at(3), AppID: "a", ID: "t"})
			l.Step(Allocated{Stamp: at(4), AppID: "a", TaskID: "t", Node: "gone"})
			l.Step(NodeLost{Stamp: at(5), AppID: "a", TaskID: "t", Node: "gone"})
			l.Step(Allocated{Stamp: at(5), AppID: "a", TaskID: "t", Node: "n"})
			if d := l.Step(late); d.Refused == "" || len(d.Effects) > 0 {
				t.Errorf("%s", show(d))
			}
			if task := l.TaskByID("t"); task.Node != "n" || task.State != TaskStateAllocated || len(task.Avoid) > 0 {
				t.Errorf("the task is %+v", task)
			}
		})
	}
}
