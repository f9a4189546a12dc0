package ledger

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// checkCounts recounts what the ledger counts as it goes.
func checkCounts(t *rapid.T, l *Ledger) {
	want := Counts{Apps: make(map[AppState]int), Tasks: make(map[TaskState]int), Managers: make(map[string]int)}
	for id, n := range l.apps {
		if n.app != nil {
			want.Apps[n.app.State]++
			if !n.app.State.Terminal() {
				want.Managers[n.app.Manager]++
			}
		} else if len(n.tasks)+len(n.doubles) == 0 {
			t.Fatalf("application %q has an entry with nothing in it", id)
		}
		var live, holds, fresh int
		open, used, held := make(map[string]struct{}), make(map[string]int64), make(map[string]int64)
		for _, task := range n.tasks {
			want.Tasks[task.State]++
			if outstanding(n.app, task) != nil {
				open[task.ID] = struct{}{}
			}
			if task.Placed() {
				for name, quantity := range task.Resources {
					if used[name] += quantity; used[name] == 0 {
						delete(used, name)
					}
					if task.Placeholder && quantity != 0 {
						held[name] += quantity
					}
				}
			}
			if task.State == TaskStateNew {
				fresh++
			}
			if !task.State.Terminal() {
				live++
				if task.Placeholder {
					holds++
				}
			}
		}
		crews := make(map[string]crewCount)
		for _, task := range n.tasks {
			if count := recountCrew(n, task.TaskGroup); task.TaskGroup != "" && count != (crewCount{}) {
				crews[task.TaskGroup] = count
			}
		}
		if !maps.Equal(n.crews, crews) {
			t.Fatalf("application %q counts in its groups %v, there are %v", id, n.crews, crews)
		}
		if kept := keptHolds(n); n.live != live || n.holds != holds || n.kept != kept || n.fresh != fresh {
			t.Fatalf("application %q counts live %d, holds %d, kept %d, fresh %d; there are %d, %d, %d, %d",
				id, n.live, n.holds, n.kept, n.fresh, live, holds, kept, fresh)
		}
		if !maps.Equal(n.open, open) || !maps.Equal(n.used, used) || !maps.Equal(n.held, held) {
			t.Fatalf("application %q has open %v, uses %v and holds %v; there are %v, %v and %v", id, n.open, n.used, n.held, open, used, held)
		}
	}
	if got := l.Counts(); !maps.Equal(got.Apps, want.Apps) || !maps.Equal(got.Tasks, want.Tasks) ||
		!maps.Equal(got.Managers, want.Managers) {
		t.Fatalf("counts %v, there are %v", got, want)
	}
}

// checkInvariants looks at every record for what must never be.
func checkInvariants(t *rapid.T, l *Ledger) {
	ended := 0
	for app := range l.Apps() {
		n := l.apps[app.ID]
		if app.ID == "" {
			t.Fatalf("an application without an ID: %+v", *app)
		}
		switch app.State {
		case AppStateNew, AppStateAccepted:
			t.Fatalf("application %s stays %s", app.ID, app.State)
		case AppStateFailing, AppStateKilling:
			if n.live == 0 {
				t.Fatalf("application %s is %s and waits for nothing", app.ID, app.State)
			}
		case AppStateResuming:
			if n.holds == 0 {
				t.Fatalf("application %s is Resuming without placeholders", app.ID)
			}
		}
		switch originator := n.tasks[app.Originator]; app.State {
		case AppStateSubmitted, AppStateRecovering, AppStateReserving:
			if n.real() != (originator != nil && !originator.State.Terminal()) {
				t.Fatalf("application %s has a real task %v, its originator is %+v", app.ID, n.real(), originator)
			}
			if app.State == AppStateReserving && n.bereft() && (n.kept > 0 || n.live == 0) {
				t.Fatalf("application %s waits for a gang that nobody needs: %d placeholders", app.ID, n.kept)
			}
		default:
			if n.real() && app.Originator == "" {
				t.Fatalf("application %s has no originator", app.ID)
			}
		}
		if app.Asked != "" || app.AskedMessage != "" {
			by := map[AppState]appTrigger{
				AppStateCompleted: completeApplication, AppStateFailed: failApplication, AppStateKilled: killApplication,
			}[app.Asked]
			waits := app.State == AppStateSubmitted || app.State == AppStateRecovering || app.State == AppStateResuming
			if _, now := appTable[by][app.State]; by == "" || now || !waits {
				t.Fatalf("application %s, %s, is kept from being %q", app.ID, app.State, app.Asked)
			}
		}
		if app.State.Terminal() {
			if n.live == 0 {
				ended++
			}
			if app.Finished == 0 {
				t.Fatalf("application %s ended and has no end", app.ID)
			}
		}
		if len(app.StateLog) > StateLogLimit || app.StateLog[len(app.StateLog)-1].State != app.State {
			t.Fatalf("application %s is %s, its log %v", app.ID, app.State, app.StateLog)
		}
		if app.PlaceholderDeadline != 0 && app.PlaceholderDeadline < genStart.Add(-time.Hour) { // it ran over
			t.Fatalf("application %s has a deadline of %d", app.ID, app.PlaceholderDeadline)
		}
		for _, g := range app.Gang {
			if g.Bound < 0 || g.Replaced < 0 || g.TimedOut < 0 {
				t.Fatalf("application %s counts %+v", app.ID, g)
			}
			if app.State == AppStateReserving && g.Bound != boundHolds(n, g.Name) {
				t.Fatalf("application %s counts %+v, bound are %d", app.ID, g, boundHolds(n, g.Name))
			}
		}
		if app.Tags != nil && len(app.Tags) == 0 || app.Groups != nil && len(app.Groups) == 0 ||
			app.TaskGroups != nil && len(app.TaskGroups) == 0 || app.OwnerReferences != nil && len(app.OwnerReferences) == 0 {
			t.Fatalf("application %s holds an empty collection, which no encoding keeps: %+v", app.ID, *app)
		}
		for i := range app.Crews {
			checkCrew(t, n, &app.Crews[i])
		}
		for task := range l.Tasks(app.ID) {
			checkTask(t, app, task)
			checkSwap(t, n, task)
		}
	}
	if ended > testHistory+1 {
		t.Fatalf("%d applications that are over are remembered, not %d", ended, testHistory)
	}
}

// checkCrew: nothing waits for ever for a crew, and nothing that it lacks is held.
func checkCrew(t *rapid.T, n *entry, c *Crew) {
	count := recountCrew(n, c.Name)
	fail := func(why string) { t.Fatalf("application %s: %s: %+v, %+v", n.app.ID, why, *c, count) }
	switch {
	case c.Whole || n.app.isEnding():
	case c.Wanted == 0 || count.exist() < c.Wanted:
		if count.asked+count.placed > 0 {
			fail("there are too few, and some are asked for or have a node")
		}
	case count.aboard() >= c.Wanted:
		fail("it is whole and does not know")
	case n.app.State != AppStateRunning:
	case c.Pausing:
		if count.asked+count.placed > 0 || c.Until == 0 {
			fail("a pause that is none, or has no end")
		}
	case count.placed > 0 && c.Until == 0:
		fail("nodes are held for ever")
	}
	if !c.Whole && count.fresh > 0 && n.app.State == AppStateRunning && c.Until == 0 && c.Wanted > 0 && count.exist() >= c.Wanted {
		for _, task := range n.tasks {
			if task.TaskGroup == c.Name && !task.Placeholder && task.State == TaskStateNew && !task.FailPod {
				fail("a task that nobody will ask for")
			}
		}
	}
}

func recountCrew(n *entry, name string) (count crewCount) {
	for _, task := range n.tasks {
		if task.TaskGroup != name || task.Placeholder {
			continue
		}
		switch task.State {
		case TaskStateNew:
			count.fresh++
		case TaskStateScheduling:
			count.asked++
		case TaskStateAllocated:
			count.placed++
		case TaskStateBound:
			count.bound++
		case TaskStateCompleted:
			if task.Bound != 0 {
				count.bound++
			}
		}
	}
	return count
}

func keptHolds(n *entry) (kept int) {
	for _, task := range n.tasks {
		if task.Placeholder && !task.State.Terminal() && task.State != TaskStateKilling {
			kept++
		}
	}
	return kept
}

func boundHolds(n *entry, group string) (bound int32) {
	for _, task := range n.tasks {
		if task.Placeholder && task.TaskGroup == group && task.State == TaskStateBound {
			bound++
		}
	}
	return bound
}

// checkSwap: a task waits only for a placeholder that goes for it, and has one place only.
func checkSwap(t *rapid.T, n *entry, task *Task) {
	fail := func(why string, other *Task) { t.Fatalf("%s: %s: %+v\n%+v", task.ID, why, *task, other) }
	if hold := n.tasks[task.Holder]; task.Holder != "" {
		switch {
		case hold == nil || !hold.DeletePod || hold.GivenUpFor != task.ID:
			fail("it waits for what does not go", hold)
		case task.State != TaskStateAllocated || !task.Swapped || task.Placeholder:
			fail("it does not wait", hold)
		case task.Elsewhere != (task.Node != hold.Node) || task.Elsewhere != hold.Elsewhere:
			fail("its place is not where it is said to be", hold)
		}
	}
	if heir := n.tasks[task.GivenUpFor]; task.GivenUpFor != "" && !task.State.Terminal() {
		switch {
		case !task.Placeholder || !task.DeletePod:
			fail("it was given up and stays", heir)
		case heir == nil || heir.Holder != task.ID:
			fail("it was given up for what does not wait for it", heir)
		}
	}
	_, swaps := n.swapping[task.ID]
	if want := task.Holder != "" || task.GivenUpFor != "" && !task.State.Terminal(); swaps != want {
		fail("it is not known to be swapped", nil)
	}
}

func checkTask(t *rapid.T, app *App, task *Task) {
	fail := func(why string) { t.Fatalf("%s: %s: %+v\nof %+v", task.ID, why, *task, *app) }
	if task.ID == "" || task.AppID != app.ID {
		fail("wrong key")
	}
	if task.Resources != nil && len(task.Resources) == 0 {
		fail("an empty map, which no encoding keeps")
	}
	switch task.State {
	case TaskStatePending, TaskStateRejected:
		fail("a state that does not outlast a step")
	case TaskStateNew:
		switch app.State {
		case AppStateRunning:
			if !task.FailPod && app.incomplete(task) == nil {
				fail("not asked for")
			}
		case AppStateReserving, AppStateResuming:
			if task.Placeholder {
				fail("a placeholder that nobody cares for")
			}
		}
		if app.State.Terminal() && !task.FailPod {
			fail("waits for an application that is over")
		}
	case TaskStateScheduling:
		if !task.FailPod && (app.State.Terminal() || app.State == AppStateKilling || app.State == AppStateFailing) {
			fail("asked for though its application is over")
		}
	case TaskStateAllocated, TaskStateBound:
		if app.isEnding() && app.awaits(task) {
			fail("awaits a crew that will never be whole")
		}
		if task.Node == "" || task.Allocated == 0 {
			fail("no intent")
		}
		if task.Placeholder && (app.State.Terminal() || app.State == AppStateKilling || app.State == AppStateFailing || app.State == AppStateResuming) {
			fail("holds resources that its application has no use for")
		}
		if app.State == AppStateKilling {
			fail("lives on though its application is killed")
		}
	}
	if task.Swapped && task.Node == "" {
		fail("swapped in, and nowhere")
	}
	if task.DeletePod != (task.State == TaskStateKilling) {
		fail("deletion and state disagree")
	}
	if task.FailPod && (task.State.Terminal() || task.Node != "" || task.DeletePod) {
		fail("its pod can not be failed")
	}
	avoids := len(task.Avoid) > 0 && (task.State == TaskStateScheduling || task.State == TaskStateNew)
	if task.NextAttempt != 0 && !task.DeletePod && !task.FailPod && task.State != TaskStateAllocated && !avoids {
		fail("an attempt at nothing")
	}
	if task.State.Terminal() && task.Retries != 0 && task.NextAttempt != 0 {
		fail("over, and to be tried again")
	}
}

// tables are the documented state tables, as machine_test.go has them.
type tables struct {
	app  map[[2]string]bool // one move
	task map[[2]string]bool // any number of moves
}

func newTables(t *testing.T) *tables {
	s := &tables{app: make(map[[2]string]bool), task: make(map[[2]string]bool)}
	for _, row := range cells(t, documentedAppRows, documentedAppStates) {
		for from, to := range row {
			s.app[[2]string{from, to}] = true
		}
	}
	for _, row := range cells(t, documentedTaskRows, documentedTaskStates) {
		for from, to := range row {
			s.task[[2]string{from, to}] = true
		}
	}
	all := strings.Fields(documentedTaskStates)
	for _, via := range all {
		for _, from := range all {
			for _, to := range all {
				if s.task[[2]string{from, via}] && s.task[[2]string{via, to}] {
					s.task[[2]string{from, to}] = true
				}
			}
		}
	}
	return s
}

// before is what a ledger held before a step.
type before struct {
	apps  map[string]*App
	tasks map[Key]*Task
}

func states(l *Ledger) before {
	b := before{make(map[string]*App), make(map[Key]*Task)}
	for id, n := range l.apps {
		if n.app != nil {
			b.apps[id] = n.app
		}
		for taskID, task := range n.tasks {
			b.tasks[Key{id, taskID}] = task
		}
	}
	return b
}

// check compares the moves of one step with the tables.
func (s *tables) check(t *rapid.T, event Event, was before, d Delta) {
	for _, c := range d.Changes {
		switch {
		case c.App != nil:
			s.checkApp(t, event, was.apps[c.Key.AppID], c.App)
		case c.Task != nil:
			from := TaskStateNew
			if old := was.tasks[c.Key]; old != nil {
				from = old.State
			}
			if from == c.Task.State || s.task[[2]string{string(from), string(c.Task.State)}] || s.anew(event, from, c.Task) {
				continue
			}
			t.Fatalf("%T moved task %v from %s to %s", event, c.Key, from, c.Task.State)
		}
	}
}

// anew: a task that failed, because its node was lost or its application was
// over, or gave its node back with its crew, starts again with a new record.
func (s *tables) anew(event Event, from TaskState, task *Task) bool {
	to := task.State
	if gaveBack := from == TaskStateScheduling || from == TaskStateAllocated; gaveBack && task.TaskGroup != "" && task.Node == "" {
		return to == TaskStateNew || to == TaskStateScheduling
	}
	switch event.(type) {
	case NodeLost, Released, BindFailed:
		return from == TaskStateAllocated && (to == TaskStateNew || s.task[[2]string{string(TaskStateNew), string(to)}])
	case AddTask, BindDone:
		// It runs after all; where its application is being killed it has to go at once.
		return from == TaskStateFailed && (to == TaskStateBound || s.task[[2]string{string(TaskStateBound), string(to)}])
	}
	return false
}

func (s *tables) checkApp(t *rapid.T, event Event, old, app *App) {
	log := app.StateLog
	from := AppStateNew
	if add, ok := event.(AddApp); !ok || old != nil && !old.State.Terminal() {
		if old == nil {
			t.Fatalf("%T brought application %s about", event, app.ID)
		}
		// The new log continues the old one.
		shared := 0
		for i := range old.StateLog {
			rest := old.StateLog[i:]
			if len(rest) <= len(log) && slices.Equal(rest, log[:len(rest)]) {
				shared = len(rest)
				break
			}
		}
		if shared == 0 {
			t.Fatalf("%T replaced the log %v by %v", event, old.StateLog, log)
		}
		from, log = old.State, log[shared:]
		if old.PlaceholderDeadline != 0 && app.PlaceholderDeadline != old.PlaceholderDeadline {
			t.Fatalf("%T moved the deadline of %s from %d to %d", event, app.ID, old.PlaceholderDeadline, app.PlaceholderDeadline)
		}
	} else if app.ID != add.ID {
		t.Fatalf("AddApp of %s changed %s", add.ID, app.ID)
	}
	for _, entry := range log {
		if !s.app[[2]string{string(from), string(entry.State)}] {
			t.Fatalf("%T moved application %s from %s to %s", event, app.ID, from, entry.State)
		}
		from = entry.State
	}
	if from != app.State {
		t.Fatalf("%T left application %s in %s, logged is %s", event, app.ID, app.State, from)
	}
}
