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

// TestPodsThatWaitForAPlace: members that are to take the places of placeholders that
// can not be deleted, and no more of them than there are such placeholders.
func TestPodsThatWaitForAPlace(t *testing.T) {
	l := New()
	l.Step(AddApp{Stamp: at(1), ID: "a", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 2}}})
	l.Step(AddTask{Stamp: at(1), AppID: "a", ID: "driver", Name: "driver", Submitted: 1})
	l.Step(AppAccepted{Stamp: at(2), AppID: "a"})
	for i, id := range []string{"p0", "p1"} {
		l.Step(AddTask{
			Stamp: at(3), AppID: "a", ID: id, Name: placeholderOf(l.App("a"), "g", int32(i)), Placeholder: true,
			TaskGroup: "g", Node: "n",
		})
	}
	for i, id := range []string{"m0", "m1"} {
		l.Step(AddTask{Stamp: at(4), AppID: "a", ID: id, Name: id, TaskGroup: "g", Submitted: Time(4 + i)})
	}
	waits := func() (ids []string) {
		for _, w := range l.Waiting(5) {
			ids = append(ids, w.Task.ID)
		}
		return ids
	}
	expect := func(when string, want ...string) {
		t.Helper()
		if got := waits(); !slices.Equal(got, want) {
			t.Errorf("%s %q wait for a place, want %q", when, got, want)
		}
	}
	l.Step(Released{Stamp: at(5), AppID: "a", TaskID: "p0", Termination: PlaceholderReplaced, For: "m0", Node: "n"})
	expect("while a placeholder is being deleted")
	l.Step(DeleteFailed{Stamp: at(6), AppID: "a", TaskID: "p0", Message: "no", Refused: true})
	expect("while one can not be deleted", "m0")
	l.Step(Released{Stamp: at(7), AppID: "a", TaskID: "p1", Termination: PlaceholderReplaced, For: "m1", Node: "n"})
	l.Step(DeleteFailed{Stamp: at(8), AppID: "a", TaskID: "p1", Message: "no", Refused: true})
	expect("while two can not be deleted", "m0", "m1")
	l.Step(RemoveTask{Stamp: at(9), AppID: "a", TaskID: "p0"})
	l.Step(Allocated{Stamp: at(9), AppID: "a", TaskID: "m0", Node: "n"})
	expect("while one can still not be deleted", "m1")
	l.Step(RemoveTask{Stamp: at(10), AppID: "a", TaskID: "p1"})
	expect("in the end")
}
