package ledger

import (
	"testing"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// TestALatePlaceholderIsNotCounted: the gang was complete, and its placeholder has been
// replaced and is gone. What a new lead hears of it late is no more than was wanted.
func TestALatePlaceholderIsNotCounted(t *testing.T) {
	hold := AddTask{AppID: "a", ID: "hold", Placeholder: true, TaskGroup: "g", Node: "n"}
	l := stepped(t,
		AddApp{ID: "a", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}},
		AddTask{AppID: "a", ID: "real", TaskGroup: "g"},
		AppAccepted{AppID: "a"},
		hold,
		Released{AppID: "a", TaskID: "hold", Termination: PlaceholderReplaced},
		RemoveTask{AppID: "a", TaskID: "hold"},
	)
	for _, event := range []Event{hold, RemoveTask{AppID: "a", TaskID: "hold"}} {
		l.Step(event)
		if app := l.App("a"); app.State != AppStateRunning || app.Gang[0].Bound != 1 {
			t.Errorf("after %s the application is %s, the gang %+v", event.Kind(), app.State, app.Gang)
		}
	}
}
