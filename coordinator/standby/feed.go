package standby

import (
	"errors"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Apply follows one change of the view, of which l is the state with that change and
// what came with it.
func (s *Standby) Apply(l *ledger.Ledger, c ledger.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.following {
		return
	}
	s.feed(l, c.Key)
	for _, m := range s.staff {
		m.gate.Changed(l, c.Key)
	}
	if c.Key.TaskID == "" {
		return
	}
	at := suspect{app: c.Key.AppID}
	if c.Task != nil {
		at.namespace, at.name = c.Task.Namespace, c.Task.Name
	}
	s.suspect(c.Key.TaskID, at)
}

// feedFrom feeds all of a ledger, and what changes in it from then on. A change that
// it holds already may be applied again.
func (s *Standby) feedFrom(l *ledger.Ledger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.following = true
	for app := range l.Apps() {
		s.feedApp(l, app.ID)
		for task := range l.Tasks(app.ID) {
			s.suspect(task.ID, suspect{app.ID, task.Namespace, task.Name})
		}
	}
	for task := range l.Orphans() {
		s.suspect(task.ID, suspect{task.AppID, task.Namespace, task.Name})
	}
}

// feed tells the engine what has become of a record. s.mu is held.
func (s *Standby) feed(l *ledger.Ledger, key ledger.Key) {
	if key.TaskID != "" {
		s.feedTask(l, key)
		return
	}
	s.feedApp(l, key.AppID)
	// Its age may decide whose the tasks are of which several have a record.
	for double := range l.Doubles() {
		s.feedTask(l, ledger.Key{AppID: double.AppID, TaskID: double.ID})
	}
}

// wants reports whether the engine has to know an application: see
// ledger.Feed. A gang that is still waiting is told of with its first placeholder,
// because the engine's clock for it starts with what it is told then. One that runs is like
// any application: its next pod may come before the engine completes it.
func wants(l *ledger.Ledger, app *ledger.App) bool {
	switch {
	case app == nil:
		return false
	case l.Placed(app.ID) > 0:
		return true
	case app.State.Terminal():
		return l.Live(app.ID) > 0
	}
	return app.State == ledger.AppStateRunning || app.State != ledger.AppStateSubmitted && len(app.TaskGroups) == 0
}

// feedApp tells the engine of an application as it is now. s.mu is held.
func (s *Standby) feedApp(l *ledger.Ledger, id string) {
	app := l.App(id)
	if !wants(l, app) {
		if s.fed[id] {
			delete(s.fed, id)
			s.do(ledger.ForgetApp{AppID: id})
		}
		return
	}
	s.do(ledger.SubmitApp{App: app, Recovery: true})
	if s.fed[id] {
		return
	}
	s.fed[id] = true
	for task := range l.Tasks(id) {
		if task.Placed() {
			s.do(ledger.Restore{App: app, Task: task})
		}
	}
}

// feedTask tells the engine of what has become of a task. s.mu is held.
func (s *Standby) feedTask(l *ledger.Ledger, key ledger.Key) {
	fed := s.fed[key.AppID]
	s.feedApp(l, key.AppID)
	task := l.TaskByID(key.TaskID)
	if task != nil && task.AppID != key.AppID { // The record is, or was, a double of it.
		s.feedTask(l, ledger.Key{AppID: task.AppID, TaskID: task.ID})
		return
	}
	if !fed || !s.fed[key.AppID] {
		return // told with the application, or forgotten with it
	}
	if task != nil && task.Placed() {
		s.do(ledger.Restore{App: l.App(key.AppID), Task: task})
		return
	}
	// The engine knows whether there is anything to release.
	why := ledger.StoppedByRM
	if task == nil {
		task = &ledger.Task{AppID: key.AppID, ID: key.TaskID}
	} else if task.Termination != ledger.NotTerminated {
		why = task.Termination
	}
	s.do(ledger.Release{Task: task, Termination: why})
}

func (s *Standby) do(effect ledger.Effect) {
	if _, exists := effect.(ledger.Restore); exists && failpoint.Off(failpoint.RecoveryGuard) {
		return
	}
	if err := s.tell(effect); err != nil && !errors.Is(err, engine.ErrStopped) {
		s.log.Error("engine refused", "effect", effect.Kind(), "err", err)
	}
}
