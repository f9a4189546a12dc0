package ledger

import (
	"cmp"
	"container/heap"
	"slices"
)

// timed is a key and the time at which it wants a look.
type timed struct {
	at  Time
	key Key
}

func (t timed) compare(o timed) int {
	return cmp.Or(cmp.Compare(t.at, o.at), cmp.Compare(t.key.AppID, o.key.AppID), cmp.Compare(t.key.TaskID, o.key.TaskID))
}

// timeQueue has the earliest first. Nothing is removed when a record changes:
// whoever takes an entry asks the record whether it still means it. What no
// record means any more is swept out now and then, so that the queue of an
// understudy, which takes nothing, does not grow for ever.
type timeQueue struct {
	heap timeHeap
	full int // length at which to sweep
}

// sweepAt is the length from which on a sweep is worth its while.
const sweepAt = 128

// push adds an entry; means says which ones some record still has.
func (q *timeQueue) push(entry timed, means func(timed) bool) {
	heap.Push(&q.heap, entry)
	if len(q.heap) < max(q.full, sweepAt) {
		return
	}
	q.heap = slices.DeleteFunc(q.heap, func(t timed) bool { return !means(t) })
	slices.SortFunc(q.heap, timed.compare) // A sorted slice is a heap.
	q.heap = slices.Compact(q.heap)
	q.full = 2 * len(q.heap)
}

// first returns the earliest entry, false if there is none.
func (q *timeQueue) first() (timed, bool) {
	if len(q.heap) == 0 {
		return timed{}, false
	}
	return q.heap[0], true
}

func (q *timeQueue) pop() timed { return heap.Pop(&q.heap).(timed) }

func (q *timeQueue) clone() timeQueue {
	return timeQueue{heap: slices.Clone(q.heap), full: q.full}
}

type timeHeap []timed

func (h timeHeap) Len() int           { return len(h) }
func (h timeHeap) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h timeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timeHeap) Push(x any)        { *h = append(*h, x.(timed)) }
func (h *timeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// NextDeadline returns when the next Tick has something to do; false if no
// deadline is set.
func (l *Ledger) NextDeadline() (Time, bool) {
	for {
		next, ok := l.deadlines.first()
		if !ok {
			return 0, false
		}
		if l.means(next) {
			return next.at, true
		}
		l.deadlines.pop()
	}
}

// watchGang has the deadline of an application's placeholders looked at. It is
// to be called whenever the deadline, or a part of what makes it matter,
// changes: see means.
func (l *Ledger) watchGang(e *entry) {
	if e.app != nil && e.app.PlaceholderDeadline != 0 {
		l.deadlines.push(timed{e.app.PlaceholderDeadline, Key{AppID: e.app.ID}}, l.has)
	}
}

// watchTask has the next attempt at a task looked at.
func (l *Ledger) watchTask(t *Task) {
	if t.NextAttempt != 0 {
		l.deadlines.push(timed{t.NextAttempt, Key{AppID: t.AppID, TaskID: t.ID}}, l.has)
	}
}

// noteEnd puts an application that is over in line to be forgotten.
func (l *Ledger) noteEnd(e *entry) {
	if e.app.State.Terminal() {
		l.ended.push(timed{e.app.Finished, Key{AppID: e.app.ID}}, l.isOver)
	}
}

// has reports whether a deadline is still that of its record.
func (l *Ledger) has(t timed) bool {
	if t.key.TaskID != "" {
		task := l.Task(t.key.AppID, t.key.TaskID)
		return task != nil && task.NextAttempt == t.at
	}
	app := l.App(t.key.AppID)
	return app != nil && (app.PlaceholderDeadline == t.at || app.crewDue(t.at))
}

// means reports whether a Tick has something to do at a deadline: one of an
// application matters while it waits for placeholders, or runs and still has
// some that nobody deletes, or for a crew, until it ends; one of a task, once its
// application is known.
func (l *Ledger) means(t timed) bool {
	e := l.apps[t.key.AppID]
	if !l.has(t) || t.key.TaskID != "" {
		return l.has(t) && e.app != nil
	}
	if e.app.crewDue(t.at) && !e.app.isEnding() {
		return true
	}
	return e.gangDue(t.at)
}

// gangDue reports whether the deadline of an application's placeholders is at that time,
// and matters.
func (e *entry) gangDue(at Time) bool {
	waits := e.app.State == AppStateReserving || e.app.State == AppStateRunning && e.kept > 0
	return e.app.PlaceholderDeadline == at && waits
}

// isOver reports whether an application still is one that ended then.
func (l *Ledger) isOver(t timed) bool {
	app := l.App(t.key.AppID)
	return app != nil && app.State.Terminal() && app.Finished == t.at
}
