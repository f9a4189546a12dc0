package ledger

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// TestAnEndIsSaidOnce: whatever state an application is in when its manager, or the
// engine, says that it has ended, and though another lead takes over right afterwards, it ends so once
// what it waits for has happened, and has no pod wait for ever.
func TestAnEndIsSaidOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{t: t, now: genStart}
		l := New()
		var changes []Change
		step := func(l *Ledger, event Event) { changes = append(changes, l.Step(event).Changes...) }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step(l, g.event(l))
		}
		var apps []string
		for app := range l.Apps() {
			if !app.isEnding() && app.Asked == "" {
				apps = append(apps, app.ID)
			}
		}
		if len(apps) == 0 {
			t.Skip("no application lives")
		}
		id := g.pick("app", apps...)
		before, states := *l.App(id), make(map[string]TaskState)
		for task := range l.Tasks(id) {
			states[task.ID] = task.State
		}
		want := []AppState{AppStateCompleted}
		switch rapid.IntRange(0, 3).Draw(t, "end") {
		case 0:
			step(l, CompleteApp{g.stamp(), id})
		case 1:
			step(l, FailApp{g.stamp(), id, "out of luck"})
			want = []AppState{AppStateFailing, AppStateFailed}
		case 2:
			step(l, KillApp{g.stamp(), id})
			want = []AppState{AppStateKilling, AppStateKilled}
		case 3: // the engine does not say it again either
			step(l, AppEnded{g.stamp(), id, AppStateFailing, "out of luck"})
			want = []AppState{AppStateFailing, AppStateFailed}
		}
		successor := New()
		for _, c := range changes {
			successor.Apply(c)
		}
		for _, effect := range successor.Due(math.MaxInt64) {
			switch e := effect.(type) {
			case SubmitApp:
				successor.Step(AppAccepted{g.stamp(), e.App.ID, "root.default"})
			case DeletePod:
				successor.Step(RemoveTask{g.stamp(), e.Task.AppID, e.Task.ID})
			}
		}
		app := successor.App(id)
		if app.State != want[0] && app.State != want[len(want)-1] {
			t.Fatalf("%+v\nis to be %v and is\n%+v", before, want, *app)
		}
		for task := range successor.Tasks(id) {
			if was := states[task.ID]; task.State == TaskStateFailed && was != TaskStateFailed {
				t.Fatalf("the pod of a task that was %s waits for ever: %+v", was, *task)
			}
		}
		if want[0] == AppStateFailing && app.Message != "out of luck" {
			t.Fatalf("does not say why it failed: %+v", *app)
		}
	})
}

// reached are the events that bring an application "a" with one pod into each state that
// lasts.
func reached() map[AppState][]Event {
	gang := []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}
	pod := AddTask{Stamp: at(2), AppID: "a", ID: "t", Name: "t"}
	submitted := []Event{AddApp{Stamp: at(1), ID: "a"}, pod}
	running := append(slices.Clone(submitted), AppAccepted{Stamp: at(3), AppID: "a"})
	bound := append(slices.Clone(running), AddTask{Stamp: at(4), AppID: "a", ID: "t", Node: "n"})
	reserving := []Event{AddApp{Stamp: at(1), ID: "a", TaskGroups: gang}, pod, AppAccepted{Stamp: at(3), AppID: "a"}}
	then := func(events []Event, more ...Event) []Event { return append(slices.Clone(events), more...) }
	return map[AppState][]Event{
		AppStateSubmitted:  submitted,
		AppStateRecovering: {AddApp{Stamp: at(1), ID: "a", Recovery: true}, pod},
		AppStateReserving:  reserving,
		AppStateResuming: then(reserving,
			AddTask{Stamp: at(5), AppID: "a", ID: "p", Name: "p", Placeholder: true, TaskGroup: "g"},
			PlaceholderFailed{Stamp: at(6), AppID: "a", Message: "no"}),
		AppStateRunning:   running,
		AppStateFailing:   then(bound, FailApp{Stamp: at(7), AppID: "a", Message: "before"}),
		AppStateKilling:   then(bound, KillApp{Stamp: at(7), AppID: "a"}),
		AppStateRejected:  then(submitted, AppRejected{Stamp: at(7), AppID: "a", Message: "before"}),
		AppStateCompleted: then(bound, CompleteApp{Stamp: at(7), AppID: "a"}),
		AppStateFailed:    then(running, FailApp{Stamp: at(7), AppID: "a", Message: "before"}, PodFailed{at(8), "a", "t"}),
		AppStateKilled:    then(bound, KillApp{Stamp: at(7), AppID: "a"}, RemoveTask{at(8), "a", "t"}),
	}
}

// TestEveryEndInEveryState: an application that lives ends as is said last, one that ends
// already ends as it was going to, and one that has ended stays so, but for a rejected
// one that fails. Another lead takes over right after the word.
func TestEveryEndInEveryState(t *testing.T) {
	ends := []struct {
		event Event
		want  AppState
	}{
		{CompleteApp{at(10), "a"}, AppStateCompleted},
		{FailApp{at(10), "a", "out of luck"}, AppStateFailed},
		{KillApp{at(10), "a"}, AppStateKilled},
		{AppEnded{at(10), "a", AppStateFailing, "out of luck"}, AppStateFailed},
		{AppEnded{at(10), "a", AppStateFailed, "out of luck"}, AppStateFailed},
	}
	going := map[AppState]AppState{AppStateFailing: AppStateFailed, AppStateKilling: AppStateKilled}
	for state, events := range reached() {
		for _, end := range ends {
			name := fmt.Sprintf("%s of one that is %s", end.event.Kind(), state)
			l := New()
			var changes []Change
			for _, e := range events {
				changes = append(changes, l.Step(e).Changes...)
			}
			if got := l.App("a").State; got != state {
				t.Fatalf("%s: it is %s", name, got)
			}
			changes = append(changes, l.Step(end.event).Changes...)
			want := cmp.Or(going[state], end.want)
			if state.Terminal() {
				want = state
			}
			if _, fails := end.event.(FailApp); fails && state == AppStateRejected {
				want = AppStateFailed
			}
			app := seenThrough(changes).App("a")
			if app.State != want || app.Asked != "" {
				t.Errorf("%s: it is %s in the end, want %s", name, app.State, want)
			}
			if want == AppStateFailed && state != AppStateFailed && state != AppStateFailing && app.Message != "out of luck" {
				t.Errorf("%s: it says %q", name, app.Message)
			}
		}
	}
}

// seenThrough is the ledger of a lead that takes over, when all that it asks for has
// been done and all pods have ended.
func seenThrough(changes []Change) *Ledger {
	l := New()
	for _, c := range changes {
		l.Apply(c)
	}
	for second := int64(20); second < 30; second++ {
		for _, effect := range l.Due(math.MaxInt64) {
			switch e := effect.(type) {
			case SubmitApp:
				l.Step(AppAccepted{at(second), e.App.ID, "root.default"})
			case DeletePod:
				l.Step(RemoveTask{at(second), e.Task.AppID, e.Task.ID})
			case FailPod:
				l.Step(PodFailed{at(second), e.Task.AppID, e.Task.ID})
			}
		}
	}
	for task := range l.Tasks("a") {
		if task.Node != "" {
			l.Step(CompleteTask{at(30), "a", task.ID})
		}
	}
	return l
}
