package ledger

import (
	"cmp"
	"iter"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
)

// HistoryLimit is how many applications that have ended are remembered unless Remember says
// otherwise.
const HistoryLimit = 1000

// History says which applications that have ended are remembered.
type History struct {
	// Count is how many at most, zero for HistoryLimit. Age is for how long, zero for as long
	// as there is room; what is older is forgotten with the next change.
	Count int
	Age   time.Duration
}

// Remember sets which applications that have ended the steps from now on remember.
func (l *Ledger) Remember(h History) {
	l.history, l.historyAge = cmp.Or(h.Count, HistoryLimit), h.Age
}

// Ledger holds the applications and tasks of a cluster.
type Ledger struct {
	apps      map[string]*entry
	owners    map[string]string   // the application of each task
	doubled   map[string][]string // the other applications that have a record of it
	counts    Counts
	deadlines timeQueue // of applications and tasks; entries may be stale
	ended     timeQueue // applications that have ended, by when; entries may be stale
	history   int       // how many of them are remembered
	// historyAge is for how long they are, zero without end.
	historyAge time.Duration
}

// entry is an application with its tasks, and the numbers that save a look at
// all of them.
type entry struct {
	app   *App
	tasks map[string]*Task
	// doubles are records of tasks that are other applications', nil for none.
	doubles map[string]*Task

	live  int // tasks that have not ended
	holds int // live placeholders among them
	kept  int // placeholders among those whose pod is not being deleted
	// keptIn is how many of them each task group has.
	keptIn map[string]int32
	// members are those of the gang by the names of their placeholders; nil while
	// nobody has asked.
	members map[string]member
	fresh   int // tasks that are New
	// crews has the numbers of the real tasks of each task group.
	crews map[string]crewCount
	// open are the tasks with work that no event has confirmed.
	open map[string]struct{}
	// swapping are the placeholders that are on their way out for a task, and the tasks
	// that wait for theirs to go; nil for none.
	swapping map[string]struct{}
	// placed are the tasks with an allocation, used is the sum of what they take, and held that
	// of the placeholders among them.
	placed     map[string]*Task
	used, held map[string]int64
}

// Counts is how many applications and tasks there are in each state, and how many
// applications that have not ended each manager has.
type Counts struct {
	Apps     map[AppState]int
	Tasks    map[TaskState]int
	Managers map[string]int
}

// New returns an empty ledger.
func New() *Ledger {
	return &Ledger{
		apps:    make(map[string]*entry),
		owners:  make(map[string]string),
		doubled: make(map[string][]string),
		counts:  Counts{Apps: make(map[AppState]int), Tasks: make(map[TaskState]int), Managers: make(map[string]int)},

		history: HistoryLimit,
	}
}

// Apply takes over a change that another ledger's step has made. Changes may
// arrive in any order as long as those of one key keep theirs: a task may come
// before its application.
func (l *Ledger) Apply(c Change) {
	if c.Key.TaskID == "" {
		l.applyApp(c.Key.AppID, c.App)
		return
	}
	l.applyTask(c.Key, c.Task)
}

func (l *Ledger) putApp(id string, app *App) {
	e := l.apps[id]
	if e == nil {
		if app == nil {
			return
		}
		e = l.newEntry(id)
	}
	old := e.app
	if old != nil {
		l.countApp(old, -1)
	}
	e.app, e.members = app, nil
	l.crewsChanged(e, old)
	if app == nil {
		l.drop(id, e)
		return
	}
	l.countApp(app, 1)
	if old == nil || old.State != app.State || old.PlaceholderDeadline != app.PlaceholderDeadline {
		l.watchGang(e)
		l.noteEnd(e)
	}
}

func (l *Ledger) putTask(key Key, task *Task) {
	e := l.apps[key.AppID]
	if e == nil {
		if task == nil {
			return
		}
		e = l.newEntry(key.AppID)
	}
	if old := e.tasks[key.TaskID]; old != nil {
		count(l.counts.Tasks, old.State, -1)
		l.tally(e, old, -1)
	}
	if task == nil {
		delete(e.tasks, key.TaskID)
		delete(l.owners, key.TaskID)
		e.index(key.TaskID)
		l.drop(key.AppID, e)
		return
	}
	e.tasks[key.TaskID] = task
	l.owners[key.TaskID] = key.AppID
	count(l.counts.Tasks, task.State, 1)
	l.tally(e, task, 1)
	l.watchTask(task)
	e.index(key.TaskID)
}

func (l *Ledger) newEntry(id string) *entry {
	e := &entry{
		tasks: make(map[string]*Task), open: make(map[string]struct{}), keptIn: make(map[string]int32),
		placed: make(map[string]*Task), used: make(map[string]int64), held: make(map[string]int64),
	}
	l.apps[id] = e
	return e
}

// drop forgets an entry that holds nothing any more.
func (l *Ledger) drop(id string, e *entry) {
	if e.app == nil && len(e.tasks)+len(e.doubles) == 0 {
		delete(l.apps, id)
	}
}

// countApp adds an application to the counts, or with by -1 takes it off them.
func (l *Ledger) countApp(app *App, by int) {
	count(l.counts.Apps, app.State, by)
	if !app.State.Terminal() {
		count(l.counts.Managers, app.Manager, by)
	}
}

func count[K comparable](counts map[K]int, of K, by int) {
	if counts[of] += by; counts[of] == 0 {
		delete(counts, of)
	}
}

// tally adds a task to the numbers of its application, or with by -1 takes it
// off them.
func (l *Ledger) tally(e *entry, t *Task, by int) {
	e.tallyCrew(t, int32(by))
	if t.State == TaskStateNew {
		e.fresh += by
	}
	if t.State.Terminal() {
		return
	}
	e.live += by
	if !t.Placeholder {
		return
	}
	e.holds += by
	if t.State != TaskStateKilling {
		if e.keptIn[t.TaskGroup] += int32(by); e.keptIn[t.TaskGroup] == 0 {
			delete(e.keptIn, t.TaskGroup)
		}
		if e.kept += by; e.kept == 1 {
			l.watchGang(e) // Its deadline matters again.
		}
	}
}

// index keeps what is known of a task beyond its record in step with the record.
func (e *entry) index(taskID string) {
	t := e.tasks[taskID]
	if t != nil && outstanding(e.app, t) != nil {
		e.open[taskID] = struct{}{}
	} else {
		delete(e.open, taskID)
	}
	e.indexSwap(taskID, t)
	if old := e.placed[taskID]; old != nil {
		e.use(old, -1)
	}
	if t == nil || !t.Placed() {
		delete(e.placed, taskID)
		return
	}
	e.placed[taskID] = t
	e.use(t, 1)
}

// use adds what a task takes to the sums, or with by -1 takes it off them.
func (e *entry) use(t *Task, by int64) {
	for name, quantity := range t.Resources {
		if e.used[name] += by * Bounded(quantity); e.used[name] == 0 {
			delete(e.used, name)
		}
		if !t.Placeholder {
			continue
		}
		if e.held[name] += by * Bounded(quantity); e.held[name] == 0 {
			delete(e.held, name)
		}
	}
}

// Live returns how many tasks of an application have not ended.
func (l *Ledger) Live(appID string) int {
	if e := l.apps[appID]; e != nil {
		return e.live
	}
	return 0
}

// Placed returns how many tasks of an application have an allocation.
func (l *Ledger) Placed(appID string) int {
	if e := l.apps[appID]; e != nil {
		return len(e.placed)
	}
	return 0
}

// Usage returns what the allocations of an application take, in the engine's
// units, without zeros, each with Most at most. The map is the caller's.
func (l *Ledger) Usage(appID string) map[string]int64 {
	if e := l.apps[appID]; e != nil {
		return maps.Clone(e.used)
	}
	return nil
}

// App returns the record of an application, nil if it is not known.
func (l *Ledger) App(id string) *App {
	if e := l.apps[id]; e != nil {
		return e.app
	}
	return nil
}

// Task returns the record that an application has of a task, nil if it has none.
// Whose task it is, TaskByID says.
func (l *Ledger) Task(appID, taskID string) *Task {
	e := l.apps[appID]
	if e == nil {
		return nil
	}
	if task := e.tasks[taskID]; task != nil {
		return task
	}
	return e.doubles[taskID]
}

// AppIDs returns the names of all applications of which there is a record, be it of a task,
// in no order.
func (l *Ledger) AppIDs() []string {
	return slices.AppendSeq(make([]string, 0, len(l.apps)), maps.Keys(l.apps))
}

// Records returns the records of an application and of its tasks, in no order, as changes
// that make them in a ledger that has none.
func (l *Ledger) Records(appID string) []Change {
	e := l.apps[appID]
	if e == nil {
		return nil
	}
	all := make([]Change, 0, 1+len(e.tasks)+len(e.doubles))
	if e.app != nil {
		all = append(all, Change{Key: Key{AppID: appID}, App: e.app})
	}
	for _, tasks := range []map[string]*Task{e.tasks, e.doubles} {
		for id, task := range tasks {
			all = append(all, Change{Key: Key{AppID: appID, TaskID: id}, Task: task})
		}
	}
	return all
}

// Apps returns all applications in the order in which they were submitted, which
// is that of every engine that is fed: see App.Compare.
func (l *Ledger) Apps() iter.Seq[*App] {
	return func(yield func(*App) bool) {
		for _, e := range l.sorted() {
			if !yield(e.app) {
				return
			}
		}
	}
}

// Tasks returns the tasks of an application in the order in which they were
// submitted.
func (l *Ledger) Tasks(appID string) iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		e := l.apps[appID]
		if e == nil {
			return
		}
		for _, task := range e.sorted() {
			if !yield(task) {
				return
			}
		}
	}
}

// Orphans returns the tasks whose application is not known, as when its record
// could not be read. No event applies to them but AddApp, which gives them an
// application again, and RemoveTask.
func (l *Ledger) Orphans() iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		for _, e := range l.apps {
			if e.app != nil {
				continue
			}
			for _, task := range e.tasks {
				if !yield(task) {
					return
				}
			}
		}
	}
}

func (l *Ledger) sorted() []*entry {
	entries := make([]*entry, 0, len(l.apps))
	for _, e := range l.apps {
		if e.app != nil {
			entries = append(entries, e)
		}
	}
	sortEntries(entries)
	return entries
}

func sortEntries(entries []*entry) {
	slices.SortFunc(entries, func(a, b *entry) int { return a.app.Compare(b.app) })
}

// Compare orders applications as they were submitted. Pods tell when they were
// created in whole seconds only. Within a second, the engine that first had the
// applications took them in the order in which the lead heard of them, and an
// engine that is fed later has to take them in the same.
func (a *App) Compare(b *App) int {
	return cmp.Or(cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.Added(), b.Added()), cmp.Compare(a.ID, b.ID))
}

// Added is when the application was added to the ledger. No way through the states
// is so long that its log has lost that.
func (a *App) Added() Time {
	if len(a.StateLog) == 0 {
		return 0
	}
	return a.StateLog[0].At
}

func (e *entry) sorted() []*Task {
	return inOrder(slices.AppendSeq(make([]*Task, 0, len(e.tasks)), maps.Values(e.tasks)))
}

// sortedOf returns some of the tasks.
func (e *entry) sortedOf(ids map[string]struct{}) []*Task {
	tasks := make([]*Task, 0, len(ids))
	for id := range ids {
		tasks = append(tasks, e.tasks[id])
	}
	return inOrder(tasks)
}

func inOrder(tasks []*Task) []*Task {
	slices.SortFunc(tasks, func(a, b *Task) int {
		return cmp.Or(cmp.Compare(a.Submitted, b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	return tasks
}

// Counts returns what there is. The maps are the caller's.
func (l *Ledger) Counts() Counts {
	return Counts{
		Apps: maps.Clone(l.counts.Apps), Tasks: maps.Clone(l.counts.Tasks), Managers: maps.Clone(l.counts.Managers),
	}
}

// Clone returns an independent ledger with the same records, which are shared:
// they never change.
func (l *Ledger) Clone() *Ledger {
	c := &Ledger{
		apps:      make(map[string]*entry, len(l.apps)),
		owners:    maps.Clone(l.owners),
		doubled:   maps.Clone(l.doubled),
		counts:    l.Counts(),
		deadlines: l.deadlines.clone(),
		ended:     l.ended.clone(),
		history:   l.history,

		historyAge: l.historyAge,
	}
	for id, e := range l.apps {
		copied := *e
		copied.tasks, copied.open = maps.Clone(e.tasks), maps.Clone(e.open)
		copied.doubles, copied.swapping = maps.Clone(e.doubles), maps.Clone(e.swapping)
		copied.placed, copied.used, copied.held = maps.Clone(e.placed), maps.Clone(e.used), maps.Clone(e.held)
		copied.keptIn, copied.members = maps.Clone(e.keptIn), nil
		copied.crews = maps.Clone(e.crews)
		c.apps[id] = &copied
	}
	return c
}

// Equal reports whether both ledgers hold the same records. Quantities in task
// groups are compared by value: decoded ones are represented differently.
func (l *Ledger) Equal(o *Ledger) bool {
	if len(l.apps) != len(o.apps) {
		return false
	}
	for id, e := range l.apps {
		other := o.apps[id]
		if other == nil || len(e.tasks) != len(other.tasks) || !equalApps(e.app, other.app) ||
			len(e.doubles) != len(other.doubles) {
			return false
		}
		for taskID, task := range e.doubles {
			if !reflect.DeepEqual(task, other.doubles[taskID]) {
				return false
			}
		}
		for taskID, task := range e.tasks {
			if !reflect.DeepEqual(task, other.tasks[taskID]) {
				return false
			}
		}
	}
	return true
}

func equalApps(a, b *App) bool {
	if a == nil || b == nil {
		return a == b
	}
	if !equality.Semantic.DeepEqual(a.TaskGroups, b.TaskGroups) {
		return false
	}
	x, y := *a, *b
	x.TaskGroups, y.TaskGroups = nil, nil
	return reflect.DeepEqual(x, y)
}
