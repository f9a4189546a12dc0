package ledger

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestRelabelledPods: whatever application the pod of a task names later, and
// whenever, there is one task for it, and what it takes is counted once.
func TestRelabelledPods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, replica := New(), New()
		g := &generator{t: t, now: genStart, l: l}
		first := make(map[string]string) // the application of each task that is known
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			event := g.relabelled()
			d := l.Step(event)
			for _, c := range d.Changes {
				replica.Apply(c)
				if c.Key.TaskID == "" {
					continue
				}
				if c.Task == nil {
					delete(first, c.Key.TaskID)
				} else if first[c.Key.TaskID] == "" {
					first[c.Key.TaskID] = c.Key.AppID
				}
			}
			checkOnce(t, l, first)
			checkOnce(t, replica, first)
			if !l.Equal(replica) {
				t.Fatalf("%T: lead:\n%s\nreplica:\n%s", event, dump(l), dump(replica))
			}
		}
	})
}

// relabelled draws an event about one of a few pods that names any application.
func (g *generator) relabelled() Event {
	app, task := g.pick("app", "a", "b", "c"), g.pick("task", "1", "2", "3", "4")
	switch rapid.IntRange(0, 10).Draw(g.t, "event") {
	case 0, 1:
		return AddApp{Stamp: g.stamp(), ID: app, Submitted: g.now}
	case 2:
		return AppAccepted{g.stamp(), app, "root.default"}
	case 3, 4, 5:
		node := ""
		if g.chance("assigned", 30) {
			node = "n1"
		}
		return AddTask{Stamp: g.stamp(), AppID: app, ID: task, Name: task, Node: node, Resources: map[string]int64{"vcore": 1}}
	case 6, 7:
		return allocated(g.stamp(), app, task, "n1", false)
	case 8:
		return BindDone{g.stamp(), app, task, "n1"}
	case 9:
		return CompleteTask{g.stamp(), app, task}
	}
	return RemoveTask{g.stamp(), app, task}
}

// checkOnce: every task has one record, in the application where it was first, and
// the usages sum up to what the tasks take.
func checkOnce(t *rapid.T, l *Ledger, first map[string]string) {
	seen, placed, used := make(map[string]string), int64(0), int64(0)
	for app := range l.Apps() {
		used += l.Usage(app.ID)["vcore"]
		for task := range l.Tasks(app.ID) {
			if other, twice := seen[task.ID]; twice {
				t.Fatalf("task %s is in applications %s and %s", task.ID, other, app.ID)
			}
			seen[task.ID] = app.ID
			if task.Placed() {
				placed += task.Resources["vcore"]
			}
			if l.TaskByID(task.ID) != task {
				t.Fatalf("task %s is not found by its ID", task.ID)
			}
		}
	}
	if !maps.Equal(seen, first) {
		t.Fatalf("tasks are in %v, were first in %v", seen, first)
	}
	if used != placed {
		t.Fatalf("the applications use %d, the tasks take %d", used, placed)
	}
}

// TestAChangedApplicationIsTold: once the user has been told, nothing has changed.
func TestAChangedApplicationIsTold(t *testing.T) {
	l := New()
	l.Step(AddApp{Stamp: at(1), ID: "a"})
	l.Step(AppAccepted{Stamp: at(2), AppID: "a"})
	l.Step(AddTask{Stamp: at(3), AppID: "a", ID: "t"})
	d := l.Step(AddTask{Stamp: at(4), AppID: "b", ID: "t"})
	if len(d.Changes) != 0 || len(d.Effects) != 1 {
		t.Fatalf("a label that was edited did %s", show(d))
	}
	if told, ok := d.Effects[0].(ReportTask); !ok || told.Reason != ReasonApplicationChanged || told.Task.AppID != "a" {
		t.Errorf("told was %+v", d.Effects[0])
	}
	if d := l.Step(AddTask{Stamp: at(5), AppID: "b", ID: "t", Node: "n"}); len(d.Changes) != 1 || l.Task("a", "t").State != TaskStateBound {
		t.Errorf("the task was not found by its ID: %s", show(d))
	}
	l.Step(RemoveTask{Stamp: at(6), AppID: "b", TaskID: "t"})
	if l.TaskByID("t") != nil {
		t.Error("the task was not forgotten")
	}
	l.Step(AddApp{Stamp: at(7), ID: "b"})
	if l.Step(AddTask{Stamp: at(8), AppID: "b", ID: "t"}); l.Task("b", "t") == nil {
		t.Error("what is forgotten belongs to nobody")
	}
}

// TestWhoseTaskADoubleIs goes through the rule by which one record is the task's.
func TestWhoseTaskADoubleIs(t *testing.T) {
	apps := []App{{ID: "old", Submitted: 1}, {ID: "x", Submitted: 2}, {ID: "y", Submitted: 2}}
	for name, c := range map[string]struct {
		records []Task
		want    string
	}{
		"one lives":            {[]Task{{AppID: "old", State: TaskStateCompleted, Node: "n"}, {AppID: "y", State: TaskStateScheduling}}, "y"},
		"one has a node":       {[]Task{{AppID: "old", State: TaskStateScheduling}, {AppID: "y", State: TaskStateBound, Node: "n"}}, "y"},
		"the older":            {[]Task{{AppID: "x", State: TaskStateBound, Node: "n"}, {AppID: "old", State: TaskStateBound, Node: "n"}}, "old"},
		"of the same age":      {[]Task{{AppID: "y", State: TaskStateBound, Node: "n"}, {AppID: "x", State: TaskStateBound, Node: "n"}}, "x"},
		"one is of nobody":     {[]Task{{AppID: "gone", State: TaskStateBound, Node: "n"}, {AppID: "y", State: TaskStateBound, Node: "n"}}, "y"},
		"all are of nobody":    {[]Task{{AppID: "z", State: TaskStateNew}, {AppID: "gone", State: TaskStateNew}}, "gone"},
		"the best of the rest": {[]Task{{AppID: "y", State: TaskStateNew}, {AppID: "x", State: TaskStateNew}, {AppID: "old", State: TaskStateNew}}, "old"},
	} {
		var changes []Change
		for _, app := range apps {
			changes = append(changes, Change{Key: Key{AppID: app.ID}, App: &app})
		}
		for _, record := range c.records {
			record.ID = "t"
			changes = append(changes, Change{Key: Key{record.AppID, "t"}, Task: &record})
		}
		for range 2 {
			l := New()
			for _, change := range changes {
				l.Apply(change)
			}
			if task := l.TaskByID("t"); task == nil || task.AppID != c.want {
				t.Errorf("%s: the task is %+v, want that of %s", name, task, c.want)
			}
			slices.Reverse(changes)
		}
	}
}

// TestDoubledRecords: in whatever order records come and go, ledgers that hold the
// same agree on whose each task is, and count it once. The first step deletes the others.
func TestDoubledRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{t: t, now: genStart}
		l, held := New(), make(map[Key]Change)
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			c := g.change()
			if c.Deleted() {
				delete(held, c.Key)
			} else {
				held[c.Key] = c
			}
			l.Apply(c)
			checkCounts(t, l)
		}
		keys := slices.SortedFunc(maps.Keys(held), func(a, b Key) int {
			return slices.Compare([]string{a.AppID, a.TaskID}, []string{b.AppID, b.TaskID})
		})
		loaded := New()
		for _, key := range rapid.Permutation(keys).Draw(t, "order") {
			loaded.Apply(held[key])
		}
		if !l.Equal(loaded) || !l.Clone().Equal(loaded) || !maps.Equal(l.owners, loaded.owners) {
			t.Fatalf("loaded is\n%s %v\nnot\n%s %v", dump(loaded), loaded.owners, dump(l), l.owners)
		}
		for key, c := range held {
			if key.TaskID != "" && l.Task(key.AppID, key.TaskID) != c.Task {
				t.Fatalf("record %v is not held", key)
			}
		}
		aside, follower := l.Clone(), loaded.Clone()
		for _, c := range aside.SetAside(g.pick("aside", "a", "b", "c")) {
			follower.Apply(c)
		}
		if !aside.Equal(follower) || !maps.Equal(aside.owners, follower.owners) {
			t.Fatalf("set aside is\n%s\na successor holds\n%s", dump(aside), dump(follower))
		}
		checkCounts(t, aside)
		owners := maps.Clone(l.owners)
		d := l.Step(RemoveDoubles{Stamp{At: g.now}})
		if len(d.Effects) > 0 || len(l.doubled) > 0 || !maps.Equal(l.owners, owners) {
			t.Fatalf("removing doubles did %s", show(d))
		}
		for _, c := range d.Changes {
			loaded.Apply(c)
		}
		if !l.Equal(loaded) || len(loaded.doubled) > 0 {
			t.Fatalf("a successor holds\n%s\nnot\n%s", dump(loaded), dump(l))
		}
		checkCounts(t, loaded)
	})
}

// change draws a record, or its deletion, of a few tasks and applications.
func (g *generator) change() Change {
	key := Key{AppID: g.pick("app", "a", "b", "c")}
	if g.chance("of an application", 25) {
		if g.chance("deleted", 30) {
			return Change{Key: key}
		}
		return Change{Key: key, App: &App{ID: key.AppID, State: AppStateRunning, Submitted: Time(rapid.IntRange(1, 3).Draw(g.t, "age"))}}
	}
	key.TaskID = g.pick("task", "1", "2")
	if g.chance("deleted", 20) {
		return Change{Key: key}
	}
	task := &Task{AppID: key.AppID, ID: key.TaskID, Placeholder: g.chance("placeholder", 20), Resources: map[string]int64{"vcore": 1}}
	task.State = rapid.SampledFrom([]TaskState{TaskStateScheduling, TaskStateBound, TaskStateCompleted}).Draw(g.t, "state")
	if task.State != TaskStateScheduling {
		task.Node = "n1"
	}
	return Change{Key: key, Task: task}
}
