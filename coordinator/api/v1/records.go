package v1

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"

	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// pieceApps is of how many applications records are read at once, pieceItems how many items are
// made at once.
const (
	pieceApps  = 64
	pieceItems = 256
)

// appIDs returns the names of the applications from one on, in order.
func (a *API) appIDs(ctx context.Context, from string) (ids []string, err error) {
	if err := a.read(ctx, func(l *ledger.Ledger) { ids = l.AppIDs() }); err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id < from })
	slices.Sort(ids)
	return ids, nil
}

func (a *API) read(ctx context.Context, read func(*ledger.Ledger)) error {
	switch {
	case a.Read(ctx, read):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errNoView
}

// walkRecords calls yield with what there is of some applications at a time, from one on.
func walkRecords[T any](ctx context.Context, a *API, from string, get func(l *ledger.Ledger, id string) (T, bool), yield func([]T) error) error {
	ids, err := a.appIDs(ctx, from)
	for piece := range slices.Chunk(ids, pieceApps) {
		if err != nil {
			break
		}
		found := make([]T, 0, len(piece))
		err = a.read(ctx, func(l *ledger.Ledger) {
			for _, id := range piece {
				if one, ok := get(l, id); ok {
					found = append(found, one)
				}
			}
		})
		if err == nil && len(found) > 0 {
			err = yield(found)
		}
	}
	return err
}

// recorded are items that change with records, which tell of themselves.
type recorded[T any] struct {
	// of is the key of the item that changes with a record, false if none does.
	of func(ledger.Key) (ledger.Key, bool)
	// now returns an item, false if there is none any more.
	now  func(*ledger.Ledger, ledger.Key) (T, bool)
	gone func(ledger.Key) Gone
	kind *kind[T]
}

// recording has the records tell of changes of a kind.
func recording[T any](k *kind[T], r *recorded[T]) *kind[T] {
	r.kind, k.followed = k, r
	return k
}

func (r *recorded[T]) join(ctx context.Context, a *API) (following[T], error) {
	return following[T]{a.Changes, r.kind.walk, func() {}}, a.read(ctx, func(*ledger.Ledger) {})
}

func (r *recorded[T]) look(context.Context, *API) (time.Duration, error) { return 0, nil }

func (r *recorded[T]) found(ctx context.Context, a *API, keys []ledger.Key) (all []current[T], err error) {
	known := make(map[ledger.Key]bool, len(keys))
	err = a.read(ctx, func(l *ledger.Ledger) {
		for _, changed := range keys {
			if key, ok := r.of(changed); ok && !known[key] {
				known[key] = true
				item, here := r.now(l, key)
				all = append(all, current[T]{item, here, r.gone(key)})
			}
		}
	})
	return all, err
}

func applications() *kind[Application] {
	return recording(&kind[Application]{
		name: "applications", one: "application", stale: true,
		about: "applications, those that have ended included, from the records",
		key:   func(x Application) string { return x.ID }, id: func(x Application) string { return x.ID },
		walk: func(ctx context.Context, a *API, after string, yield func([]Application) error) error {
			return walkRecords(ctx, a, after, func(l *ledger.Ledger, id string) (Application, bool) {
				if id == after {
					return Application{}, false
				}
				return applicationIn(l, ledger.Key{AppID: id})
			}, yield)
		},
		find: func(ctx context.Context, a *API, id string) (found *Application, err error) {
			err = a.read(ctx, func(l *ledger.Ledger) {
				if x, ok := applicationIn(l, ledger.Key{AppID: id}); ok {
					found = &x
				}
			})
			return found, err
		},
	}, &recorded[Application]{
		of:   func(k ledger.Key) (ledger.Key, bool) { return ledger.Key{AppID: k.AppID}, true },
		now:  applicationIn,
		gone: func(k ledger.Key) Gone { return Gone{ID: k.AppID} },
	})
}

func applicationIn(l *ledger.Ledger, key ledger.Key) (Application, bool) {
	app := l.App(key.AppID)
	if app == nil {
		return Application{}, false
	}
	x := Application{
		ID: app.ID, Manager: app.Manager, Namespace: app.Tags["namespace"], User: app.User, Groups: app.Groups, Queue: QueueOf(app),
		State: string(app.State), Message: app.Message, Submitted: app.Submitted.Time(), Started: app.Started.Time(),
		Finished: app.Finished.Time(), Used: resources(l.Usage(app.ID)), PlaceholdersBy: app.PlaceholderDeadline.Time(),
	}
	of := newLoad()
	of.add(l, app.ID)
	x.Tasks, x.Pending = of.tasks, resources(of.pending)
	for _, g := range app.Gang {
		x.Gang = append(x.Gang, Gang{g.Name, g.Wanted, g.Bound, g.Replaced, g.TimedOut})
	}
	for _, t := range app.StateLog {
		x.States = append(x.States, Transition{string(t.State), t.At.Time()})
	}
	return x, true
}

// QueueOf is where an application is, or is to be.
func QueueOf(app *ledger.App) string {
	if app.PlacedQueue != "" {
		return app.PlacedQueue
	}
	return app.Queue
}

// load is what tasks amount to.
type load struct {
	tasks         map[string]int // by state
	used, pending map[string]int64
}

func newLoad() load {
	return load{tasks: make(map[string]int), used: make(map[string]int64), pending: make(map[string]int64)}
}

func (o load) add(l *ledger.Ledger, appID string) {
	for task := range l.Tasks(appID) {
		o.tasks[string(task.State)]++
		if !task.State.Terminal() && !task.Placed() {
			sum(o.pending, task.Resources)
		}
	}
	sum(o.used, l.Usage(appID))
}

func sum(to, amounts map[string]int64) {
	for name, amount := range amounts {
		to[name] += amount
	}
}

// resources writes amounts as Kubernetes does; the core's name for cpu is its own.
func resources(of map[string]int64) Resources {
	out := make(Resources, len(of))
	for name, amount := range of {
		shown := name
		if name == "vcore" {
			shown = "cpu"
		}
		out[shown] = explain.Quantity(name, amount)
	}
	return out
}

// taskKey orders tasks by application. No name of one has the separator, which sorts before all
// that it may have.
func taskKey(app, task string) string { return app + "\x00" + task }

// ofApp are the tasks of an application.
type ofApp struct {
	id    string
	app   *ledger.App // nil if it is not known
	tasks []*ledger.Task
}

func tasks() *kind[Task] {
	return recording(&kind[Task]{
		name: "tasks", one: "task", stale: true,
		about: "tasks, which are pods, in the order of their applications, from the records",
		key:   func(x Task) string { return taskKey(x.Application, x.ID) }, id: func(x Task) string { return x.ID },
		walk: walkTasks,
		find: func(ctx context.Context, a *API, id string) (found *Task, err error) {
			err = a.read(ctx, func(l *ledger.Ledger) {
				if t := l.TaskByID(id); t != nil {
					x := taskOf(l.App(t.AppID), t)
					found = &x
				}
			})
			if found != nil {
				a.why(found)
			}
			return found, err
		},
	}, &recorded[Task]{
		of: func(k ledger.Key) (ledger.Key, bool) { return k, k.TaskID != "" },
		// Whichever application it is one of: a record of another is none of a task.
		now: func(l *ledger.Ledger, k ledger.Key) (Task, bool) {
			t := l.TaskByID(k.TaskID)
			if t == nil {
				return Task{}, false
			}
			return taskOf(l.App(t.AppID), t), true
		},
		gone: func(k ledger.Key) Gone { return Gone{ID: k.TaskID, Application: k.AppID} },
	})
}

func walkTasks(ctx context.Context, a *API, after string, yield func([]Task) error) error {
	afterApp, afterTask, _ := strings.Cut(after, "\x00")
	return walkRecords(ctx, a, afterApp, func(l *ledger.Ledger, id string) (ofApp, bool) {
		found := ofApp{id, l.App(id), slices.Collect(l.Tasks(id))}
		return found, len(found.tasks) > 0
	}, func(apps []ofApp) error {
		piece := make([]Task, 0, pieceItems)
		for _, of := range apps {
			slices.SortFunc(of.tasks, func(x, y *ledger.Task) int { return strings.Compare(x.ID, y.ID) })
			for _, t := range of.tasks {
				if of.id == afterApp && t.ID <= afterTask {
					continue
				}
				x := taskOf(of.app, t)
				a.why(&x)
				if piece = append(piece, x); len(piece) == pieceItems {
					if err := yield(piece); err != nil {
						return err
					}
					piece = piece[:0]
				}
			}
		}
		return yield(piece)
	})
}

func taskOf(app *ledger.App, t *ledger.Task) Task {
	x := Task{
		ID: t.ID, Application: t.AppID, Namespace: t.Namespace, Name: t.Name, State: string(t.State), Node: t.Node,
		Placeholder: t.Placeholder, TaskGroup: t.TaskGroup, Requests: resources(t.Resources), Submitted: t.Submitted.Time(),
		Allocated: t.Allocated.Time(), Bound: t.Bound.Time(), Termination: string(t.Termination), Reason: t.Reason, Message: t.Message,
	}
	if app != nil {
		x.Queue, x.User = QueueOf(app), app.User
	}
	return x
}

// why adds the last reason that the core had for not placing a task, if this replica leads.
func (a *API) why(x *Task) {
	if ledger.TaskState(x.State) != ledger.TaskStateScheduling {
		return
	}
	core := a.Core()
	if core == nil {
		return
	}
	app := core.GetApplication(x.Application)
	if app == nil {
		return
	}
	ask := app.GetAllocationAsk(x.ID)
	if ask == nil {
		return
	}
	x.Waits = newest(ask.GetAllocationLog())
}

// newest is the last of the reasons that the core has noted, in no order. That preemption does
// not help either is in nobody's way.
func newest(log []*objects.AllocationLogEntry) string {
	if len(log) == 0 {
		return ""
	}
	return slices.MaxFunc(log, func(a, b *objects.AllocationLogEntry) int {
		besides := func(e *objects.AllocationLogEntry) int {
			if strings.HasPrefix(e.Message, "Preemption") {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(besides(a), besides(b)), a.LastOccurrence.Compare(b.LastOccurrence), cmp.Compare(a.Message, b.Message))
	}).Message
}

func users() *kind[User] {
	return &kind[User]{
		name: "users", one: "user", stale: true,
		about: "users who have applications that have not ended, from the records",
		key:   func(x User) string { return x.Name }, id: func(x User) string { return x.Name },
		walk: walkUsers,
	}
}

// userLoad is what one user has.
type userLoad struct {
	load
	groups, queues map[string]struct{}
	apps           map[string]int
}

func walkUsers(ctx context.Context, a *API, after string, yield func([]User) error) error {
	found := make(map[string]*userLoad)
	err := walkRecords(ctx, a, "", func(l *ledger.Ledger, id string) (struct{}, bool) {
		app := l.App(id)
		if app == nil || app.State.Terminal() || app.User == "" || app.User <= after {
			return struct{}{}, false
		}
		u := found[app.User]
		if u == nil {
			u = &userLoad{newLoad(), make(map[string]struct{}), make(map[string]struct{}), make(map[string]int)}
			found[app.User] = u
		}
		for _, group := range app.Groups {
			u.groups[group] = struct{}{}
		}
		u.queues[QueueOf(app)] = struct{}{}
		u.apps[string(app.State)]++
		u.add(l, id)
		return struct{}{}, false
	}, func([]struct{}) error { return nil })
	if err != nil {
		return err
	}
	var all []User
	for _, name := range slices.Sorted(maps.Keys(found)) {
		u := found[name]
		all = append(all, User{
			Name: name, Groups: slices.Sorted(maps.Keys(u.groups)), Queues: slices.Sorted(maps.Keys(u.queues)), Applications: u.apps,
			Tasks: u.tasks, Used: resources(u.used), Pending: resources(u.pending),
		})
	}
	return yield(all)
}
