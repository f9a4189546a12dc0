package ledger

import (
	"math"
	"testing"

	"pgregory.net/rapid"
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
