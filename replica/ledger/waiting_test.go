package ledger

import (
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// TestPodsThatWaitForTheirStage: they are told from those that wait for the engine, and
// from those that have only just come.
func TestPodsThatWaitForTheirStage(t *testing.T) {
	l, start := New(), genStart
	at := func(seconds int) Stamp { return Stamp{At: start.Add(time.Duration(seconds) * time.Second)} }
	waits := func(seconds int) (list []string) {
		for _, w := range l.Waiting(at(seconds).At) {
			list = append(list, w.Task.ID+": "+w.Why)
		}
		return list
	}
	expect := func(when int, want ...string) {
		t.Helper()
		if got := waits(when); !slices.Equal(got, want) {
			t.Errorf("waiting since %d s are %q, want %q", when, got, want)
		}
	}
	add := func(app, id string, second int, more func(*AddTask)) {
		e := AddTask{Stamp: at(second), AppID: app, ID: id, Name: "pod-" + id, Submitted: at(second).At}
		if more != nil {
			more(&e)
		}
		l.Step(e)
	}
	l.Step(AddApp{Stamp: at(0), ID: "plain"})
	add("plain", "asked", 0, nil)
	l.Step(AppAccepted{Stamp: at(0), AppID: "plain"})
	l.Step(AddApp{Stamp: at(0), ID: "gang", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 2}, {Name: "none"}}})
	add("gang", "driver", 0, nil)
	expect(100)
	l.Step(AppAccepted{Stamp: at(10), AppID: "gang"})
	add("gang", "later", 20, nil)
	hold := func(index int32) func(*AddTask) {
		return func(e *AddTask) {
			e.Name, e.Placeholder, e.TaskGroup, e.Node = placeholderOf(l.App("gang"), "g", index), true, "g", "n"
		}
	}
	add("gang", "p0", 21, hold(0))
	gang := ": Application gang waits for its gang: bound are 1 of 2 of task group g"
	expect(9)
	expect(19, "driver"+gang)
	expect(20, "driver"+gang, "later"+gang)
	// The gang is given up, and its placeholder takes its time to go.
	l.Step(PlaceholderFailed{Stamp: at(30), AppID: "gang", Message: "no"})
	given := ": Application gang has given its gang up and waits until the placeholders are gone"
	expect(29)
	expect(30, "driver"+given, "later"+given)
	l.Step(RemoveTask{Stamp: at(40), AppID: "gang", TaskID: "p0"})
	if state := l.App("gang").State; state != AppStateRunning {
		t.Fatalf("the application is %s", state)
	}
	expect(100)
}
