package ledger

import (
	"slices"
	"testing"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// TestWhatWasWrittenInPart: the changes of a step may be more than one transaction takes. A
// lead that finds some of them goes on where its predecessor was.
func TestWhatWasWrittenInPart(t *testing.T) {
	of := func(wanted int32) []Event {
		return []Event{
			AddApp{ID: "a"},
			SetCrew{AppID: "a", Name: "g", Wanted: wanted},
			AddTask{AppID: "a", ID: "t1", TaskGroup: "g"},
			AddTask{AppID: "a", ID: "t2", TaskGroup: "g"},
			AddTask{AppID: "a", ID: "t3", TaskGroup: "g"},
			AppAccepted{AppID: "a"},
		}
	}
	first := Allocated{AppID: "a", TaskID: "t1", Node: "n"}
	for _, tt := range []struct {
		name   string
		before []Event
		event  Event
	}{
		{"an application that runs", slices.Delete(of(0), 1, 2)[:4], of(0)[5]},
		{"a crew that gathers", slices.Delete(of(3), 4, 5), of(3)[4]},
		{"a crew that is smaller", of(4), of(3)[1]},
		{"a crew that is whole", append(of(2), first), Allocated{AppID: "a", TaskID: "t2", Node: "n"}},
		{"a crew that lacks one", append(of(3), first), RemoveTask{AppID: "a", TaskID: "t2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New()
			for _, event := range tt.before {
				if d := l.Step(event); d.Refused != "" {
					t.Fatal(d.Refused)
				}
			}
			old := l.Clone()
			changes := l.Step(tt.event).Changes
			for n := range len(changes) + 1 {
				found := old.Clone()
				for _, c := range changes[:n] {
					found.Apply(c)
				}
				for _, id := range found.Halfway() {
					found.Step(Continue{Stamp{At: 1}, id})
				}
				e := found.apps["a"]
				if e.app.State != AppStateRunning {
					continue // it waits for the engine
				}
				for task := range found.Tasks("a") {
					c := e.app.incomplete(task)
					waits := c != nil && !e.musters(c)
					if asked := task.State != TaskStateNew; asked == waits && task.State != TaskStateBound {
						t.Errorf("after %d of %d changes: %+v of %+v", n, len(changes), *task, e.app.Crews)
					}
				}
				for i := range e.app.Crews {
					if c := &e.app.Crews[i]; !c.Whole && e.musters(c) && e.crews[c.Name].aboard() >= c.Wanted {
						t.Errorf("after %d of %d changes: it is whole and does not know: %+v", n, len(changes), *c)
					}
				}
			}
		})
	}
}

// TestASwapThatWasWrittenInPart: whichever of the records of a swap a lead finds, nobody waits
// for ever, and no placeholder is given up in vain.
func TestASwapThatWasWrittenInPart(t *testing.T) {
	task := func(id, node string) AddTask {
		return AddTask{AppID: "a", ID: id, Name: id, TaskGroup: "g", Placeholder: node != "", Node: node}
	}
	l := New()
	l.Step(AddApp{ID: "a", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}})
	l.Step(AppAccepted{AppID: "a"})
	l.Step(task("real", ""))
	l.Step(task("hold", "n"))
	for _, event := range []Event{
		Released{AppID: "a", TaskID: "hold", Termination: PlaceholderReplaced, For: "real", Node: "n"},
		CompleteTask{AppID: "a", TaskID: "hold"},
	} {
		old := l.Clone()
		changes := slices.DeleteFunc(l.Step(event).Changes, func(c Change) bool { return c.Task == nil })
		for range changes {
			changes = append(changes[1:], changes[0])
			for n := range len(changes) + 1 {
				found := old.Clone()
				for _, c := range changes[:n] {
					found.Apply(c)
				}
				for _, id := range found.Halfway() {
					found.Step(Continue{Stamp{At: 1}, id})
				}
				real, hold := found.TaskByID("real"), found.TaskByID("hold")
				going, gone := hold.State == TaskStateKilling, hold.State.Terminal()
				switch {
				case real.State == TaskStateScheduling && !going && !gone:
				case real.Node == "n" && going && real.Holder == "hold" && hold.GivenUpFor == "real":
				case real.Node == "n" && gone && real.Holder == "" && found.apps["a"].app.binds(real):
				case real.Node == "n" && going && real.Holder == "" && n == 1: // seen to go
				default:
					t.Errorf("%s, %d of %d changes from %s on: %+v, %+v", event.Kind(), n, len(changes), changes[0].Key.TaskID, *real, *hold)
				}
			}
		}
	}
}
