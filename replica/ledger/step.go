package ledger

import (
	"fmt"
	"hash/fnv"
	"maps"
	"time"
)

// Step takes an event in and returns what it changed and what it asks for. An
// event that does not fit the state changes nothing and is refused.
func (l *Ledger) Step(event Event) Delta {
	s := &step{l: l, at: event.When()}
	if len(l.doubled) > 0 {
		s.dropDoubles()
	}
	switch e := event.(type) {
	case AddApp:
		s.trace = e.Trace
		s.addApp(e)
	case AddTask:
		s.trace = e.Trace
		s.addTask(e)
	case SetCrew:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.setCrew(n, e) })
	case CompleteTask:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, s.complete)
	case RemoveTask:
		s.trace = e.Trace
		if !s.removeOrphan(e.TaskID) {
			s.withTask(e.AppID, e.TaskID, s.removeTask)
		}
	case CompleteApp:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.endAsAsked(n, AppStateCompleted, "") })
	case FailApp:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.endAsAsked(n, AppStateFailed, e.Message) })
	case KillApp:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.endAsAsked(n, AppStateKilled, "") })
	case RemoveApp:
		s.trace = e.Trace
		s.withApp(e.AppID, s.removeApp)
	case RemoveDoubles: // has been done above
	case Continue:
		s.withApp(e.AppID, s.goOn)
	case Tick:
		s.tick()
	default:
		s.stepEngine(event)
	}
	if len(s.delta.Changes) > 0 {
		s.settleCrews()
		s.forgetOldest()
		for _, c := range s.delta.Changes {
			if n := l.apps[c.Key.AppID]; n != nil && c.Key.TaskID != "" {
				s.account(n, c.Key.TaskID, c.Task)
				s.noteIdle(n)
			}
		}
		for _, c := range s.delta.Changes {
			if n := l.apps[c.Key.AppID]; n != nil && c.Key.TaskID != "" {
				n.index(c.Key.TaskID)
			}
		}
	}
	return s.delta
}

// stepEngine steps the events of the engine and of the executors.
func (s *step) stepEngine(event Event) {
	switch e := event.(type) {
	case AppAccepted:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.accepted(n, e.PlacedQueue) })
	case AppRejected:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.rejected(n, e.Message) })
	case AppEnded:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.appEnded(n, e) })
	case Allocated:
		s.trace = e.Trace
		s.allocated(e)
	case Released:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.released(n, t, e) })
	case AskReleased:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.askReleased(n, t, e.Termination, e.Message) })
	case AskRejected:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.askRejected(n, t, e.Message) })
	case BindDone:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.bindDone(n, t, e.Node) })
	case BindFailed:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.bindFailed(n, t, e) })
	case NodeLost:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.nodeLost(n, t, e.Node, e.Message) })
	case PlaceholderFailed:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.failGang(n, "PlaceholderCreateFailed", e.Message) })
	case PlaceholderDelayed:
		s.trace = e.Trace
		s.withApp(e.AppID, func(n *entry) { s.delayGang(n, e.Message) })
	case DeleteFailed:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.deleteFailed(n, t, e.Message, e.Refused) })
	case PodNotFailed:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, func(n *entry, t *Task) { s.podNotFailed(n, t, e.Message, e.Refused) })
	case PodFailed:
		s.trace = e.Trace
		s.withTask(e.AppID, e.TaskID, s.podFailed)
	default:
		s.refuse("unknown event %s", event.Kind())
	}
}

// step is the work on one event.
type step struct {
	l     *Ledger
	at    Time
	trace string
	task  string  // that the event is about; empty for one about an application
	lost  []*Task // placeholders that are gone or going
	delta Delta
	index map[Key]int // of delta.Changes, once there are many
}

func (s *step) refuse(format string, args ...any) {
	if s.delta.Refused == "" {
		s.delta.Refused = fmt.Sprintf(format, args...)
	}
}

func (s *step) effect(e Effect) { s.delta.Effects = append(s.delta.Effects, e) }

func (s *step) withApp(id string, do func(*entry)) {
	n := s.l.apps[id]
	if n == nil || n.app == nil {
		s.refuse("application %s is not known", id)
		return
	}
	s.settling(n, func() { do(n) })
}

// withTask does something with a task; appID is only what an event says of it.
func (s *step) withTask(appID, taskID string, do func(*entry, *Task)) {
	n := s.l.ownerOf(taskID)
	if n == nil || n.app == nil {
		s.refuse("task %s of application %s is not known", taskID, appID)
		return
	}
	s.task = taskID
	s.settling(n, func() { do(n, n.tasks[taskID]) })
}

// settling does something with an application, and moves it on if it waited for
// that.
func (s *step) settling(n *entry, do func()) {
	live, holds, kept, state, gang := n.live, n.holds, n.kept, n.app.State, n.gang()
	do()
	if n.app == nil || n.live == live && n.holds == holds && n.kept == kept && n.app.State == state && len(s.lost) == 0 {
		return
	}
	s.originate(n)
	s.settleGang(n, gang)
	s.settle(n)
}

// manyChanges is from where on an index beats looking through the changes.
const manyChanges = 16

// changed returns the place of key in the delta, -1 if it is not there.
func (s *step) changed(key Key) int {
	if s.index != nil {
		if i, ok := s.index[key]; ok {
			return i
		}
		return -1
	}
	for i := range s.delta.Changes {
		if s.delta.Changes[i].Key == key {
			return i
		}
	}
	return -1
}

// record puts a change into the delta, in place of an older one of its key.
func (s *step) record(c Change) {
	if i := s.changed(c.Key); i >= 0 {
		s.delta.Changes[i] = c
		return
	}
	s.delta.Changes = append(s.delta.Changes, c)
	switch n := len(s.delta.Changes); {
	case s.index != nil:
		s.index[c.Key] = n - 1
	case n == manyChanges:
		s.index = make(map[Key]int, 4*n)
		for i := range s.delta.Changes {
			s.index[s.delta.Changes[i].Key] = i
		}
	}
}

// editApp returns the application's record for this step to change: a copy, for
// the one it replaces may be in other hands.
func (s *step) editApp(n *entry) *App {
	key := Key{AppID: n.app.ID}
	if i := s.changed(key); i >= 0 && s.delta.Changes[i].App == n.app {
		return n.app
	}
	app := *n.app
	app.StateLog = append([]Transition(nil), app.StateLog...)
	app.Gang = append([]GroupCount(nil), app.Gang...)
	app.Replacements = maps.Clone(app.Replacements)
	app.Crews = append([]Crew(nil), app.Crews...)
	// What a task does to its application is the task's story.
	if s.trace != "" && s.task == "" {
		app.Trace = s.trace
	}
	n.app = &app
	s.record(Change{Key: key, App: n.app})
	return n.app
}

// editTask is to tasks what editApp is to applications.
func (s *step) editTask(n *entry, t *Task) *Task {
	key := Key{AppID: t.AppID, TaskID: t.ID}
	if i := s.changed(key); i >= 0 && s.delta.Changes[i].Task == n.tasks[t.ID] {
		return n.tasks[t.ID]
	}
	task := *n.tasks[t.ID]
	// Tasks that move with the one that the event is about have another story.
	if s.trace != "" && t.ID == s.task {
		task.Trace = s.trace
	}
	n.tasks[t.ID] = &task
	s.record(Change{Key: key, Task: &task})
	return &task
}

// moveApp moves an application along its table. It reports whether the table
// allows that.
func (s *step) moveApp(n *entry, by appTrigger) bool {
	to, ok := appTable[by][n.app.State]
	if !ok {
		s.refuse("%s does not apply to application %s, which is %s", by, n.app.ID, n.app.State)
		return false
	}
	if to == n.app.State {
		return true
	}
	if n.app.State == AppStateReserving && to != AppStateRunning {
		s.effect(CancelPlaceholders{AppID: n.app.ID})
	}
	app := s.editApp(n)
	if app.State != AppStateNew { // New was never counted: it does not outlast a step.
		s.l.countApp(app, -1)
	}
	app.State = to
	s.l.countApp(app, 1)
	app.StateLog = append(app.StateLog, Transition{State: to, At: s.at})
	if extra := len(app.StateLog) - StateLogLimit; extra > 0 {
		app.StateLog = app.StateLog[extra:]
	}
	if to == AppStateRunning && app.Started == 0 {
		app.Started = s.at
	}
	if to.Terminal() {
		app.Finished = s.at
		s.l.noteEnd(n)
	}
	s.l.watchGang(n)
	return true
}

// moveTask moves a task along its table and returns the record to change
// further; nil if the table does not allow it.
func (s *step) moveTask(n *entry, t *Task, by taskTrigger) *Task {
	t = n.tasks[t.ID] // What the caller has may be from before this step.
	to, ok := taskTable[by][t.State]
	if !ok {
		s.refuse("%s does not apply to task %s, which is %s", by, t.ID, t.State)
		return nil
	}
	task := s.editTask(n, t)
	if to == task.State {
		return task
	}
	count(s.l.counts.Tasks, task.State, -1)
	s.l.tally(n, task, -1)
	task.State = to
	count(s.l.counts.Tasks, task.State, 1)
	s.l.tally(n, task, 1)
	return task
}

// schedule sets when the next attempt at the task's pending work is due; zero
// for at once.
func (s *step) schedule(t *Task, at Time) {
	t.NextAttempt = at
	s.l.watchTask(t)
}

// The back-off between attempts doubles from backoffFirst to backoffLimit, or where the
// API server refuses them to refusedLimit: somebody has to change that first.
const (
	backoffFirst = 50 * time.Millisecond
	backoffLimit = 30 * time.Second
	refusedLimit = 5 * time.Minute
)

func limitOf(refused bool) time.Duration {
	if refused {
		return refusedLimit
	}
	return backoffLimit
}

// doubled returns first doubled so many times, at most most. It stands for the back-off of
// libraries, which keep a state and draw at random: a ledger that is replayed has to arrive
// at the same time, and has no more than the number in the record.
func doubled(first, most time.Duration, times int) time.Duration {
	for ; times > 0 && first < most; times-- {
		first *= 2
	}
	return min(first, most)
}

// retry notes a failed attempt. The pause is spread over half its length by a
// hash of task and attempt, so that tasks that failed together do not come back
// together; a ledger that is replayed arrives at the same time.
func (s *step) retry(t *Task, limit time.Duration) {
	tries := t.Retries
	if t.State == TaskStateAllocated && len(t.Avoid) > 0 {
		tries %= refusalsPerNode // each node is tried as if it were the first
	}
	pause := doubled(backoffFirst, limit, int(tries))
	t.Retries++
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%d", t.ID, t.Retries)
	spread := time.Duration(h.Sum32()%1000) * (pause / 2) / 1000
	s.schedule(t, s.at.Add(pause/2+spread))
}

// forgetOldest drops what ended first once too much of it is remembered.
func (s *step) forgetOldest() {
	for {
		oldest, ok := s.l.ended.first()
		if !ok || s.l.endedApps() <= s.l.history && !s.l.tooOld(oldest, s.at) {
			return
		}
		s.l.ended.pop()
		// One that pods outlive comes here again when they have ended: see settle.
		if n := s.l.apps[oldest.key.AppID]; s.l.isOver(oldest) && n.live == 0 {
			s.dropApp(n)
		}
	}
}

// tooOld reports whether an application has ended too long ago to be remembered.
func (l *Ledger) tooOld(ended timed, now Time) bool {
	return l.historyAge > 0 && ended.at.Add(l.historyAge) < now
}

func (l *Ledger) endedApps() int {
	c := l.counts.Apps
	return c[AppStateCompleted] + c[AppStateRejected] + c[AppStateFailed] + c[AppStateKilled]
}

// dropApp deletes an application and its tasks.
func (s *step) dropApp(n *entry) {
	id := n.app.ID
	for _, t := range n.sorted() {
		s.dropTask(t)
	}
	s.l.putApp(id, nil)
	s.record(Change{Key: Key{AppID: id}})
}

func (s *step) dropTask(t *Task) {
	key := Key{AppID: t.AppID, TaskID: t.ID}
	if n := s.l.apps[t.AppID]; n != nil {
		s.account(n, t.ID, t)
	}
	s.l.putTask(key, nil)
	s.record(Change{Key: key})
}
