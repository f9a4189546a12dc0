package ledger

import "testing"

// stepped returns a ledger that has stepped events, none of which may be refused.
func stepped(t *testing.T, events ...Event) *Ledger {
	t.Helper()
	l := New()
	for _, event := range events {
		if d := l.Step(event); d.Refused != "" {
			t.Fatalf("%s: %s", event.Kind(), d.Refused)
		}
	}
	return l
}

// TestALateBindFailureOfACrew: the attempt was made for a crew that was whole, and its
// PodGroup has been replaced. The task has a node again and awaits the others: nothing is
// tried again, and the node is not given back.
func TestALateBindFailureOfACrew(t *testing.T) {
	for _, refused := range []bool{false, true} {
		l := stepped(t,
			AddApp{ID: "a"}, AppAccepted{AppID: "a"},
			SetCrew{AppID: "a", Name: "g", UID: "old", Wanted: 1},
			AddTask{AppID: "a", ID: "t1", TaskGroup: "g"},
			Allocated{AppID: "a", TaskID: "t1", Node: "n1"}, // whole: it is being bound
			SetCrew{AppID: "a", Name: "g", UID: "new", Wanted: 2},
			AddTask{AppID: "a", ID: "t2", TaskGroup: "g"},
			Allocated{AppID: "a", TaskID: "t1", Node: "n2"},
		)
		task := l.TaskByID("t1")
		if !l.App("a").awaits(task) {
			t.Fatalf("the task does not await the others: %+v", *task)
		}
		d := l.Step(BindFailed{AppID: "a", TaskID: "t1", Message: "too late", Refused: refused})
		if now := l.TaskByID("t1"); now != task || d.Refused == "" || len(d.Effects) > 0 {
			t.Errorf("refused %t: the task is %+v, effects %v, %q", refused, *now, d.Effects, d.Refused)
		}
	}
}

// TestTheRankOfACrewStays, when it becomes whole, and when its PodGroup has gone.
func TestTheRankOfACrewStays(t *testing.T) {
	rank := Rank{Priority: 7, Ranked: true, Yields: true, Together: true}
	l := stepped(t,
		AddApp{ID: "a"}, AppAccepted{AppID: "a"},
		SetCrew{AppID: "a", Name: "g", UID: "u", Wanted: 1, Rank: rank},
		AddTask{AppID: "a", ID: "t", TaskGroup: "g"}, AddTask{AppID: "a", ID: "other"},
	)
	for _, event := range []Event{
		Allocated{AppID: "a", TaskID: "t", Node: "n"}, BindDone{AppID: "a", TaskID: "t", Node: "n"}, SetCrew{AppID: "a", Name: "g"},
	} {
		l.Step(event)
		if got := l.App("a").RankOf(l.TaskByID("t")); got != rank {
			t.Errorf("after %s the rank is %+v", event.Kind(), got)
		}
	}
	if got := l.App("a").RankOf(l.TaskByID("other")); got != (Rank{}) {
		t.Errorf("a task of no crew has the rank %+v", got)
	}
}
