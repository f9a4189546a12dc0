package managers

import (
	"cmp"
	"maps"
	"slices"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// notes are events that a manager has reported while its replica did not lead, and that
// the ledger does not agree with. Of one task or application beginnings and ends take
// turns, and what is reported again is noted once: there are no more than notesEach of
// them for each that there is.
type notes struct {
	taken uint64
	of    map[subject][]note
}

// subject is what a note is about: a task, an application or a group of one.
type subject struct {
	id   string
	task bool
}

// groupOf is the subject of a group. No application has such an ID: it is no text.
func groupOf(app, name string) subject { return subject{id: app + "\xff" + name} }

type note struct {
	number uint64
	ends   bool
	event  ledger.Event
}

// notesEach bounds the notes of one subject: it begins, ends, begins anew and ends.
const notesEach = 4

func newNotes() notes { return notes{of: make(map[subject][]note)} }

// about returns what an event of a manager is about, and whether it ends that.
func about(event ledger.Event) (of subject, ends bool) {
	switch e := event.(type) {
	case ledger.AddApp:
		return subject{e.ID, false}, false
	case ledger.CompleteApp:
		return subject{e.AppID, false}, true
	case ledger.FailApp:
		return subject{e.AppID, false}, true
	case ledger.KillApp:
		return subject{e.AppID, false}, true
	case ledger.RemoveApp:
		return subject{e.AppID, false}, true
	case ledger.SetCrew:
		return groupOf(e.AppID, e.Name), false
	case ledger.AddTask:
		return subject{e.ID, true}, false
	case ledger.CompleteTask:
		return subject{e.TaskID, true}, true
	case ledger.RemoveTask:
		return subject{e.TaskID, true}, true
	}
	return subject{}, false
}

// put takes a note.
func (n *notes) put(event ledger.Event) {
	of, ends := about(event)
	n.taken++
	list := n.of[of]
	if last := len(list) - 1; last >= 0 && list[last].ends == ends {
		switch event.(type) {
		case ledger.AddTask, ledger.SetCrew, ledger.RemoveTask, ledger.RemoveApp: // says more than what was said before
			list[last].event = event
		}
		return
	}
	if list = append(list, note{n.taken, ends, event}); len(list) > notesEach {
		list = list[2:]
	}
	n.of[of] = list
}

// settle drops what a ledger agrees with, of the notes about one subject. A task that waits
// to be bound stays noted while its replica follows, and so does a group: a mirror that
// loses its records may lose this one as well.
func (n *notes) settle(l *ledger.Ledger, of subject, follows bool) {
	list := n.of[of]
	if n := len(list); n > 1 && isNow(l, of, list[n-1]) {
		list = nil // whatever came before that
	}
	for len(list) > 0 {
		switch first := list[0]; {
		case first.ends && over(l, of, first.event), !first.ends && begun(l, first.event, follows):
			list = list[1:]
		case !first.ends && len(list) > 1 && forgets(list[1].event) && over(l, of, list[1].event):
			list = list[2:] // the ledger has never heard of it, and need not
		default:
			n.of[of] = list
			return
		}
	}
	delete(n.of, of)
}

// isNow reports whether a ledger is as the last of several notes says, and cannot be so by
// an earlier one.
func isNow(l *ledger.Ledger, of subject, last note) bool {
	if last.ends {
		known := of.task && l.TaskByID(of.id) != nil || !of.task && l.App(of.id) != nil
		return over(l, of, last.event) && (known || forgets(last.event))
	}
	add, ok := last.event.(ledger.AddApp)
	app := l.App(of.id)
	return ok && app != nil && app.Submitted == add.Submitted
}

// begun reports whether a ledger knows a task or an application as a note says.
func begun(l *ledger.Ledger, event ledger.Event, follows bool) bool {
	switch e := event.(type) {
	case ledger.AddApp:
		app := l.App(e.ID)
		// One that has ended is begun anew, unless it has ended since, or is the same.
		return app != nil && (!ending(app) || app.Finished >= e.At || app.Submitted == e.Submitted)
	case ledger.AddTask:
		task := l.TaskByID(e.ID)
		switch {
		case task == nil:
			return false
		case task.State.Terminal():
			return true
		case e.Terminated, !maps.Equal(task.Resources, e.Resources):
			return false
		case e.Node != "":
			return task.Node == e.Node
		}
		return !follows || task.Bound != 0
	case ledger.SetCrew:
		return e.Wanted > 0 && !follows && crewIs(l, e) || e.Wanted == 0 && !hasCrew(l, e)
	}
	return false
}

// crewIs reports whether a ledger has a group as a note says.
func crewIs(l *ledger.Ledger, e ledger.SetCrew) bool {
	c := l.Crew(e.AppID, e.Name)
	return c != nil && c.UID == e.UID && c.Wanted == e.Wanted && c.Rank == e.Rank && (c.Whole || !e.Whole)
}

// hasCrew reports whether a ledger has a group that a note says is gone.
func hasCrew(l *ledger.Ledger, e ledger.SetCrew) bool {
	c := l.Crew(e.AppID, e.Name)
	return c != nil && c.Wanted > 0
}

// over reports whether a task or an application has ended in a ledger as a note says.
func over(l *ledger.Ledger, of subject, event ledger.Event) bool {
	if of.task {
		task := l.TaskByID(of.id)
		return task == nil || task.State.Terminal() && !forgets(event)
	}
	app := l.App(of.id)
	if app == nil || forgets(event) {
		return app == nil
	}
	return ending(app)
}

// ending reports whether an application has ended, or is on its way to.
func ending(app *ledger.App) bool {
	return app.State.Terminal() || app.Asked != "" ||
		app.State == ledger.AppStateFailing || app.State == ledger.AppStateKilling
}

// forgets reports whether an end leaves nothing behind.
func forgets(event ledger.Event) bool {
	switch event.(type) {
	case ledger.RemoveApp, ledger.RemoveTask:
		return true
	}
	return false
}

// take returns all events in order, and forgets them.
func (n *notes) take() []ledger.Event {
	all := slices.Concat(slices.Collect(maps.Values(n.of))...)
	slices.SortFunc(all, func(a, b note) int { return cmp.Compare(a.number, b.number) })
	events := make([]ledger.Event, len(all))
	for i, note := range all {
		events[i] = note.event
	}
	*n = newNotes()
	return events
}

// begins returns what was noted last of the beginning of a task or an application.
func (n *notes) begins(of subject) ledger.Event {
	for _, note := range slices.Backward(n.of[of]) {
		if !note.ends {
			return note.event
		}
	}
	return nil
}

// NoNotes has nothing noted, for a manager that is a Replayer. It is called before the
// manager is started.
func (g *Gate) NoNotes() { g.replays = true }

// note takes an event down. It reports false if the gate has been opened.
func (g *Gate) note(event ledger.Event) (noted bool) {
	of, _ := about(event)
	take := func(l *ledger.Ledger) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.term.Load() != nil {
			return
		}
		noted = true
		if g.replays {
			return
		}
		if task, ok := event.(ledger.AddTask); ok && l != nil && l.App(task.AppID) == nil && g.notes.begins(subject{task.AppID, false}) == nil {
			return // a lead would not take it either
		}
		g.notes.put(event)
		if l != nil {
			g.notes.settle(l, of, true)
		}
	}
	// While it is compared with the ledger no change comes: each is told to Changed.
	if g.replays || !g.cfg.Read(take) {
		take(nil)
	}
	return noted
}

// Changed is told of each change of the ledger that is followed.
func (g *Gate) Changed(l *ledger.Ledger, key ledger.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.notes.of) == 0 {
		return
	}
	of := subject{key.AppID, false}
	if key.TaskID != "" {
		of = subject{key.TaskID, true}
	}
	g.notes.settle(l, of, true)
	if app := l.App(key.AppID); app != nil && key.TaskID == "" {
		for i := range app.Crews {
			g.notes.settle(l, groupOf(app.ID, app.Crews[i].Name), true)
		}
	}
}

// Waiting is how many notes there are.
func (g *Gate) Waiting() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, list := range g.notes.of {
		n += len(list)
	}
	return n
}

// Gone is told of each pod that is gone.
func (g *Gate) Gone(taskID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.notes.of, subject{taskID, true})
}

// Settle drops the notes that the ledger of the new lead agrees with.
func (g *Gate) Settle(l *ledger.Ledger) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for of := range maps.Clone(g.notes.of) {
		g.notes.settle(l, of, false)
	}
}

// Noted returns what was noted of a task that is to begin.
func (g *Gate) Noted(taskID string) (ledger.AddTask, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	event, ok := g.notes.begins(subject{taskID, true}).(ledger.AddTask)
	return event, ok
}

// Expects reports whether a task of an application was noted that is to begin.
func (g *Gate) Expects(appID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for of := range g.notes.of {
		if event, ok := g.notes.begins(of).(ledger.AddTask); ok && event.AppID == appID {
			return true
		}
	}
	return false
}

// NotedApp returns what was noted of an application that is to begin.
func (g *Gate) NotedApp(appID string) (ledger.AddApp, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	event, ok := g.notes.begins(subject{appID, false}).(ledger.AddApp)
	return event, ok
}
