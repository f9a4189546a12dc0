package ledger

import (
	"math"
	"testing"
)

// What a record says a task takes is added up without wrapping around, and is
// right again once the task has gone.
func TestUsageIsBounded(t *testing.T) {
	l := New()
	l.Apply(Change{Key: Key{AppID: "a"}, App: &App{ID: "a", State: AppStateRunning}})
	placed := func(id string, memory int64) {
		l.Apply(Change{Key: Key{AppID: "a", TaskID: id}, Task: &Task{
			AppID: "a", ID: id, State: TaskStateBound, Node: "n", Resources: map[string]int64{"memory": memory},
		}})
	}
	placed("one", math.MaxInt64)
	placed("two", math.MaxInt64)
	placed("three", 5)
	if got := l.Usage("a")["memory"]; got != 2*Most+5 {
		t.Errorf("uses %d", got)
	}
	for _, id := range []string{"one", "two"} {
		l.Apply(Change{Key: Key{AppID: "a", TaskID: id}})
	}
	if got := l.Usage("a")["memory"]; got != 5 {
		t.Errorf("uses %d once the others have gone", got)
	}
}
