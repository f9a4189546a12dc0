package ledger

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// The rows of YuniKorn's shim, written down a second time from its
// documentation and not from machine.go: trigger, states it leads from, state
// it leads to ("same" for the state itself). A cell that is not here is refused.
const documentedAppRows = `
SubmitApplication        New                                 Submitted
RecoverApplication       New                                 Recovering
AcceptApplication        Submitted,Recovering                Accepted
TryReserve               Accepted                            Reserving
UpdateReservation        Reserving                           same
ResumingApplication      Reserving                           Resuming
RunApplication           Accepted,Reserving,Resuming,Running Running
CompleteApplication      Running                             Completed
RejectApplication        Submitted                           Rejected
FailApplication          Submitted,Accepted,Running,Reserving Failing
FailApplication          Failing,Rejected                    Failed
KillApplication          Accepted,Running,Reserving          Killing
KilledApplication        Killing                             Killed
RejectApplication        Recovering                          Rejected
` // The last row is ours: the shim crashes there.

const documentedTaskRows = `
InitTask       New                                       Pending
SubmitTask     Pending                                   Scheduling
TaskAllocated  Scheduling                                TaskAllocated
TaskAllocated  Completed                                 same
TaskBound      TaskAllocated                             Bound
CompleteTask   any                                       Completed
KillTask       Pending,Scheduling,TaskAllocated,Bound    Killing
TaskKilled     Killing                                   Killed
TaskRejected   New,Pending,Scheduling                    Rejected
TaskFail       Rejected,TaskAllocated                    Failed
`

const (
	documentedAppStates = "New Submitted Recovering Accepted Reserving Resuming Running " +
		"Completed Rejected Failing Failed Killing Killed"
	documentedTaskStates = "New Pending Scheduling TaskAllocated Bound Killing Killed Rejected Failed Completed"
)

// cells expands documented rows to trigger → state → state.
func cells(t *testing.T, rows, states string) map[string]map[string]string {
	t.Helper()
	table := make(map[string]map[string]string)
	for row := range strings.Lines(strings.TrimSpace(rows)) {
		f := strings.Fields(row)
		if len(f) != 3 {
			t.Fatalf("row %q", row)
		}
		if table[f[0]] == nil {
			table[f[0]] = make(map[string]string)
		}
		from := strings.Split(f[1], ",")
		if f[1] == "any" {
			from = strings.Fields(states)
		}
		for _, state := range from {
			to := f[2]
			if to == "same" {
				to = state
			}
			if _, twice := table[f[0]][state]; twice {
				t.Fatalf("row %q: cell %s is documented twice", row, state)
			}
			table[f[0]][state] = to
		}
	}
	return table
}

// TestAppTable compares every cell, refused ones too, by moving an application.
func TestAppTable(t *testing.T) {
	documented := cells(t, documentedAppRows, documentedAppStates)
	if got, want := len(appTable), len(documented); got != want {
		t.Errorf("%d triggers, documented are %d", got, want)
	}
	for trigger := range documented {
		for state := range strings.FieldsSeq(documentedAppStates) {
			want, allowed := documented[trigger][state]
			l := New()
			before := &App{ID: "a", State: AppState(state)}
			l.Apply(Change{Key: Key{AppID: "a"}, App: before})
			s := &step{l: l, at: 7}
			ok := s.moveApp(l.apps["a"], appTrigger(trigger))
			got := string(l.App("a").State)
			if !allowed {
				want = state
			}
			if ok != allowed || got != want {
				t.Errorf("%s in %s: moved %v to %s, want %v, %s", trigger, state, ok, got, allowed, want)
			}
			checkMove(t, trigger+" in "+state, s.delta, allowed, want != state)
			if before.State != AppState(state) {
				t.Errorf("%s in %s changed the record that was there before", trigger, state)
			}
		}
	}
}

// TestTaskTable compares every cell, refused ones too, by moving a task.
func TestTaskTable(t *testing.T) {
	documented := cells(t, documentedTaskRows, documentedTaskStates)
	if got, want := len(taskTable), len(documented); got != want {
		t.Errorf("%d triggers, documented are %d", got, want)
	}
	for trigger := range documented {
		for state := range strings.FieldsSeq(documentedTaskStates) {
			want, allowed := documented[trigger][state]
			l := New()
			before := &Task{AppID: "a", ID: "t", State: TaskState(state)}
			l.Apply(Change{Key: Key{AppID: "a"}, App: &App{ID: "a", State: AppStateRunning}})
			l.Apply(Change{Key: Key{AppID: "a", TaskID: "t"}, Task: before})
			s := &step{l: l, at: 7}
			moved := s.moveTask(l.apps["a"], l.Task("a", "t"), taskTrigger(trigger))
			got := string(l.Task("a", "t").State)
			if !allowed {
				want = state
			}
			if (moved != nil) != allowed || got != want {
				t.Errorf("%s in %s: moved %v to %s, want %v, %s", trigger, state, moved != nil, got, allowed, want)
			}
			if allowed && moved != l.Task("a", "t") {
				t.Errorf("%s in %s: the record returned is not the ledger's", trigger, state)
			}
			checkMove(t, trigger+" in "+state, s.delta, allowed, want != state)
			if before.State != TaskState(state) {
				t.Errorf("%s in %s changed the record that was there before", trigger, state)
			}
		}
	}
}

func checkMove(t *testing.T, what string, d Delta, allowed, changes bool) {
	t.Helper()
	switch {
	case !allowed && (d.Refused == "" || len(d.Changes) > 0 || len(d.Effects) > 0):
		t.Errorf("%s is to be refused and to change nothing: %+v", what, d)
	case allowed && d.Refused != "":
		t.Errorf("%s was refused: %s", what, d.Refused)
	case changes && len(d.Changes) != 1:
		t.Errorf("%s: %d changes", what, len(d.Changes))
	}
}

// TestTerminalStates: the states that Terminal names are those that an
// application does not leave but by failing after a rejection, and a task only
// by completing.
func TestTerminalStates(t *testing.T) {
	leave := func(table map[string]map[string]string, state string) []string {
		to := make(map[string]bool)
		for _, row := range table {
			if next, ok := row[state]; ok && next != state {
				to[next] = true
			}
		}
		return slices.Sorted(maps.Keys(to))
	}
	apps := cells(t, documentedAppRows, documentedAppStates)
	for state := range strings.FieldsSeq(documentedAppStates) {
		next := leave(apps, state)
		want := len(next) == 0 || state == "Rejected"
		if got := AppState(state).Terminal(); got != want {
			t.Errorf("application %s: terminal %v, leads to %v", state, got, next)
		}
	}
	tasks := cells(t, documentedTaskRows, documentedTaskStates)
	for state := range strings.FieldsSeq(documentedTaskStates) {
		next := slices.DeleteFunc(leave(tasks, state), func(s string) bool { return s == "Completed" })
		if got, want := TaskState(state).Terminal(), len(next) == 0 && state != "Killing"; got != want {
			t.Errorf("task %s: terminal %v, leads to %v", state, got, next)
		}
	}
}
