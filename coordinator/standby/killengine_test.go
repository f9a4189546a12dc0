package standby

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// killEngine places what it is asked for while nodes have room, and completes an
// application that has had no pods for a while.
type killEngine struct {
	r *killReplica

	mu     sync.Mutex
	box    *loop.Mailbox // nil while it is held
	apps   map[string]*ledger.App
	asks   map[string]ledger.Ask   // by task
	placed map[string]*ledger.Task // by task
	swaps  map[string]string       // the task that a placeholder makes room for
	vacant map[string]*time.Timer  // by application
}

const (
	// completing is how long the engine waits until an application without pods has
	// completed, stateLasts how long a state of a script lasts at least.
	completing = 30 * time.Second
	stateLasts = 5 * time.Second
)

func newKillEngine(r *killReplica) *killEngine {
	return &killEngine{
		r: r, apps: make(map[string]*ledger.App), asks: make(map[string]ledger.Ask),
		placed: make(map[string]*ledger.Task), swaps: make(map[string]string), vacant: make(map[string]*time.Timer),
	}
}

// engage lets it go.
func (e *killEngine) engage(box *loop.Mailbox) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.box = box
	for _, id := range slices.Sorted(maps.Keys(e.apps)) {
		e.accept(e.apps[id])
		e.watch(id)
	}
}

// watch has an application complete if it stays without pods. A gang's come.
func (e *killEngine) watch(id string) {
	if timer := e.vacant[id]; timer != nil {
		timer.Stop()
		delete(e.vacant, id)
	}
	app := e.apps[id]
	if e.box == nil || app == nil || e.busy(id) || len(app.TaskGroups) > 0 && app.State != ledger.AppStateRunning {
		return
	}
	e.vacant[id] = time.AfterFunc(completing, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.apps[id] != nil && !e.busy(id) {
			delete(e.apps, id)
			e.box.Push(ledger.AppEnded{Stamp: nowStamp(), AppID: id, State: ledger.AppStateCompleted})
		}
	})
}

// busy reports whether an application has pods.
func (e *killEngine) busy(id string) bool {
	for _, ask := range e.asks {
		if ask.App.ID == id {
			return true
		}
	}
	for _, task := range e.placed {
		if task.AppID == id {
			return true
		}
	}
	return false
}

func (e *killEngine) accept(app *ledger.App) {
	if e.box != nil {
		e.box.Push(ledger.AppAccepted{Stamp: nowStamp(), AppID: app.ID, PlacedQueue: "root.default"})
	}
}

func nowStamp() ledger.Stamp { return ledger.Stamp{At: ledger.At(time.Now())} }

func (e *killEngine) do(effect ledger.Effect) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch x := effect.(type) {
	case ledger.SubmitApp:
		e.apps[x.App.ID] = x.App
		e.accept(x.App)
		e.watch(x.App.ID)
	case ledger.Ask:
		e.apps[x.App.ID], e.asks[x.Task.ID] = x.App, x
		e.watch(x.App.ID)
		e.place()
	case ledger.Restore:
		if slices.Contains(slices.Collect(maps.Values(e.swaps)), x.Task.ID) {
			return nil // it takes its place by itself once the placeholder is released
		}
		delete(e.asks, x.Task.ID)
		e.apps[x.App.ID], e.placed[x.Task.ID] = x.App, x.Task
		e.watch(x.App.ID)
	case ledger.Release:
		e.release(x.Task)
		e.watch(x.Task.AppID)
	case ledger.ForgetApp:
		delete(e.apps, x.AppID)
		maps.DeleteFunc(e.asks, func(_ string, ask ledger.Ask) bool { return ask.App.ID == x.AppID })
		maps.DeleteFunc(e.placed, func(_ string, t *ledger.Task) bool { return t.AppID == x.AppID })
		maps.DeleteFunc(e.swaps, func(hold, _ string) bool { return e.placed[hold] == nil })
		e.place()
	}
	return nil
}

// place places what is asked for while there is room. A member of a gang takes the place
// that is held for it.
func (e *killEngine) place() {
	if e.box == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(e.asks)) {
		task := e.asks[id].Task
		held := !task.Placeholder && task.TaskGroup != "" && e.swap(task)
		if !held && int64(len(e.placed)) < e.r.w.places.Load() {
			e.allocate(task)
		}
	}
}

func (e *killEngine) allocate(task *ledger.Task) {
	delete(e.asks, task.ID)
	placed := *task
	placed.Node = "n"
	e.placed[task.ID] = &placed
	e.box.Push(ledger.Allocated{Stamp: nowStamp(), AppID: task.AppID, TaskID: task.ID, Node: "n"})
}

// swap has a placeholder make room for a task, and reports whether there is one.
func (e *killEngine) swap(task *ledger.Task) bool {
	if slices.Contains(slices.Collect(maps.Values(e.swaps)), task.ID) {
		return true
	}
	for _, id := range slices.Sorted(maps.Keys(e.placed)) {
		hold := e.placed[id]
		if hold.Placeholder && hold.State != ledger.TaskStateKilling && hold.AppID == task.AppID && hold.TaskGroup == task.TaskGroup && e.swaps[id] == "" {
			e.swaps[id] = task.ID
			e.box.Push(ledger.Released{
				Stamp: nowStamp(), AppID: hold.AppID, TaskID: id, Termination: ledger.PlaceholderReplaced, For: task.ID, Node: hold.Node,
			})
			return true
		}
	}
	return false
}

func (e *killEngine) release(task *ledger.Task) {
	delete(e.asks, task.ID)
	delete(e.placed, task.ID)
	next := e.swaps[task.ID]
	delete(e.swaps, task.ID)
	if ask, waits := e.asks[next]; waits {
		e.allocate(ask.Task)
	}
	e.place()
}

// room says for how many pods nodes have room from now on.
func (w *killWorld) room(pods int64) {
	w.places.Store(pods)
	w.lead.engine.mu.Lock()
	defer w.lead.engine.mu.Unlock()
	w.lead.engine.place()
}
