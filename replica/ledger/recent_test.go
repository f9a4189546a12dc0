package ledger

import (
	"fmt"
	"slices"
	"testing"
)

// TestRecent: of what was told, that is told again which is recent, or goes on. What was not
// told is not told by it.
func TestRecent(t *testing.T) {
	at := func(at Time) Stamp { return Stamp{At: at} }
	l := New()
	told := make(map[string]bool)
	step := func(events ...Event) {
		for _, event := range events {
			d := l.Step(event)
			if d.Refused != "" {
				t.Fatalf("%s: %s", event.Kind(), d.Refused)
			}
			for _, effect := range d.Effects {
				if r, ok := effect.(ReportTask); ok {
					told[fmt.Sprint(r.Task.ID, r.Warning, r.Reason, r.Action, r.Message, r.Condition)] = true
				}
			}
		}
	}
	step(AddApp{Stamp: at(1), ID: "a"}, AppAccepted{Stamp: at(1), AppID: "a"})
	for _, id := range []string{"asked", "allocated", "bound", "refused", "stuck", "rejected", "elsewhere"} {
		for _, when := range []struct {
			name string
			at   Time
		}{{"old", 10}, {"new", 100}} {
			id, stamp := when.name+"-"+id, at(when.at)
			task := AddTask{Stamp: stamp, AppID: "a", ID: id, Namespace: "ns", Name: id, Submitted: when.at}
			if id == when.name+"-elsewhere" { // somebody else has bound it: that is not told
				task.Node = "n"
				step(task)
				continue
			}
			step(task)
			switch id[len("old-"):] {
			case "rejected":
				step(AskRejected{Stamp: stamp, AppID: "a", TaskID: id, Message: "too large"})
			case "asked":
			default:
				stamp.At++
				step(Allocated{Stamp: stamp, AppID: "a", TaskID: id, Node: "n"})
			}
			stamp.At++
			switch id[len("old-"):] {
			case "bound":
				step(BindDone{Stamp: stamp, AppID: "a", TaskID: id, Node: "n"})
			case "refused":
				step(BindFailed{Stamp: stamp, AppID: "a", TaskID: id, Message: "not now"})
			case "stuck":
				step(BindFailed{Stamp: stamp, AppID: "a", TaskID: id, Message: "not now"},
					Released{Stamp: stamp, AppID: "a", TaskID: id, Termination: PreemptedByEngine},
					DeleteFailed{Stamp: stamp, AppID: "a", TaskID: id, Message: "may not be deleted"})
			}
		}
	}
	var again []string
	for _, effect := range l.Recent(50) {
		r := effect.(ReportTask)
		if !told[fmt.Sprint(r.Task.ID, r.Warning, r.Reason, r.Action, r.Message, r.Condition)] {
			t.Errorf("what was not told before is told again: %+v", r)
		}
		again = append(again, r.Task.ID+" "+r.Reason)
	}
	slices.Sort(again)
	want := []string{
		"new-allocated Scheduled", "new-asked Scheduling", "new-bound PodBindSuccessful", "new-bound Scheduled",
		"new-refused FailedBinding", "new-refused Scheduled", "new-rejected TaskRejected", "new-stuck FailedDelete",
		"old-refused FailedBinding", "old-rejected TaskRejected", "old-stuck FailedDelete",
	}
	if !slices.Equal(again, want) {
		t.Errorf("told again is\n%q, want\n%q", again, want)
	}
}
