package ledger

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// A task has one identity: the ID, which is the UID of its pod, belongs to the
// application under which it was first added, until its record goes. Events find
// a task by its ID, whatever application they name.
//
// Records may say otherwise: older versions wrote one task under two applications
// when the labels of its pod had been edited. A ledger that applies such records
// holds them all, but one is the task's and the others, its doubles, count for
// nothing. Which one depends on what the records say and not on when they came, so
// that all who hold the same records agree. A ledger that steps deletes doubles.

// ownerOf returns the application of a task, nil if the task is not known.
func (l *Ledger) ownerOf(taskID string) *entry {
	if owner, ok := l.owners[taskID]; ok {
		return l.apps[owner]
	}
	return nil
}

// TaskByID returns the record of a task whatever its application, nil if it is
// not known.
func (l *Ledger) TaskByID(id string) *Task {
	if n := l.ownerOf(id); n != nil {
		return n.tasks[id]
	}
	return nil
}

// Doubles returns the records of tasks that belong to other applications, in no
// order.
func (l *Ledger) Doubles() iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		for id, apps := range l.doubled {
			for _, app := range apps {
				if !yield(l.apps[app].doubles[id]) {
					return
				}
			}
		}
	}
}

// applyTask applies a change of the record of a task.
func (l *Ledger) applyTask(key Key, task *Task) {
	if owner, known := l.owners[key.TaskID]; known && owner != key.AppID {
		l.putDouble(key, task)
	} else {
		l.putTask(key, task)
	}
	if len(l.doubled) > 0 {
		l.elect(key.TaskID)
	}
}

// applyApp applies a change of an application, whose age may decide about tasks.
func (l *Ledger) applyApp(id string, app *App) {
	l.putApp(id, app)
	for _, task := range slices.Collect(maps.Keys(l.doubled)) {
		l.elect(task)
	}
}

// elect makes the record that comes first the task's.
func (l *Ledger) elect(id string) {
	best := l.TaskByID(id)
	owned := best
	for _, app := range l.doubled[id] {
		if double := l.apps[app].doubles[id]; best == nil || l.compare(double, best) < 0 {
			best = double
		}
	}
	if best == owned {
		return
	}
	l.putDouble(Key{best.AppID, id}, nil)
	if owned != nil {
		l.putTask(Key{owned.AppID, id}, nil)
	}
	l.putTask(Key{best.AppID, id}, best)
	if owned != nil {
		l.putDouble(Key{owned.AppID, id}, owned)
	}
}

// compare orders the records of one task: one that lives comes before one that has
// ended, one with a node before one without, that of the older application first.
func (l *Ledger) compare(a, b *Task) int {
	return cmp.Or(
		first(!a.State.Terminal(), !b.State.Terminal()),
		first(a.Node != "", b.Node != ""),
		l.compareAge(a.AppID, b.AppID),
		cmp.Compare(a.AppID, b.AppID),
	)
}

func (l *Ledger) compareAge(a, b string) int {
	x, y := l.App(a), l.App(b)
	if x == nil || y == nil {
		return first(x != nil, y != nil)
	}
	return cmp.Compare(x.Submitted, y.Submitted)
}

// first orders what is before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// putDouble puts the record of a task beside that which counts.
func (l *Ledger) putDouble(key Key, task *Task) {
	e := l.apps[key.AppID]
	if e == nil {
		if task == nil {
			return
		}
		e = l.newEntry(key.AppID)
	}
	apps := slices.DeleteFunc(slices.Clone(l.doubled[key.TaskID]), func(app string) bool { return app == key.AppID })
	if task != nil {
		if e.doubles == nil {
			e.doubles = make(map[string]*Task)
		}
		e.doubles[key.TaskID] = task
		l.doubled[key.TaskID] = append(apps, key.AppID)
		return
	}
	delete(e.doubles, key.TaskID)
	l.drop(key.AppID, e)
	if l.doubled[key.TaskID] = apps; len(apps) == 0 {
		delete(l.doubled, key.TaskID)
	}
}

// dropDoubles deletes the records that count for nothing.
func (s *step) dropDoubles() {
	keys := make([]Key, 0, len(s.l.doubled))
	for task := range s.l.Doubles() {
		keys = append(keys, Key{task.AppID, task.ID})
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.AppID, b.AppID), cmp.Compare(a.TaskID, b.TaskID))
	})
	for _, key := range keys {
		s.l.putDouble(key, nil)
		s.record(Change{Key: key})
	}
}
