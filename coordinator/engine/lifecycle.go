package engine

import (
	"context"
	"slices"
	"time"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Ending an application in the core is dangerous. The core completes one that
// has had no pods for a while on a timer, and then takes it out of its tables
// on a goroutine of its own, by name. A task that arrives at that moment makes
// it dereference the queue that the application has just lost, which ends the
// process; an application of the same name that arrives is taken out instead.
//
// So the core's timer is put out of reach, and applications are retired here:
// nothing is sent for them any more, the core is brought past everything that
// was, the application is made to fail, from where the core lets it be removed
// without further ado, and removed. All of this happens on a goroutine of its
// own, e.chores, while the application is in stage leaving or checking.

// never is the completing timeout that the core is given.
const never = 100 * 365 * 24 * time.Hour

// idle is called when the core has nothing more to do for an application. If
// that is still so after a while, it has completed: what is said again begins no
// new while. A held core knows nothing of asks, so that it has no say in this
// until it is released.
func (e *Engine) idle(id string, a *app) {
	if !e.live.Load() {
		a.quiet = true
		return
	}
	a.quiet = false
	if a.idleTimer != nil {
		return
	}
	a.idleTimer = time.AfterFunc(e.cfg.CompleteAfter, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.stopped || e.apps[id] != a || a.stage != accepted || a.idleTimer == nil || a.inCore > 0 {
			return
		}
		a.idleTimer = nil
		a.state, a.message = ledger.AppStateCompleted, "no pods for "+e.cfg.CompleteAfter.String()
		e.retire(id, a)
	})
}

// vacant is called when the ledger may want nothing of an application any more. Of one
// that the core was told of nothing, or that was kept for a task that was released
// meanwhile, the core says nothing: it is idle as well. What a gang waits for comes.
func (e *Engine) vacant(id string, a *app) {
	if a.vacant() {
		e.idle(id, a)
	}
}

func (a *app) vacant() bool {
	return a.stage == accepted && len(a.tasks) == 0 && !reserving(a.rec)
}

// completing has the core say of applications that their pods have come and gone, as the core did
// that saw them: one that is told of none takes them for new. It does not wait.
func (e *Engine) completing(quiet map[string]*app) {
	if len(quiet) == 0 {
		return
	}
	time.AfterFunc(podsFirst, func() {
		e.chores.put(func() {
			p := e.corePartition()
			for id, a := range quiet {
				e.mu.Lock()
				idle := !e.stopped && e.apps[id] == a && a.stage == accepted && len(a.tasks) == 0
				e.mu.Unlock()
				if idle && p != nil {
					e.completeInCore(id, p.GetApplication(id))
				}
			}
		})
	})
}

func (e *Engine) completeInCore(id string, x *objects.Application) {
	if x == nil {
		return
	}
	x.Lock()
	defer x.Unlock()
	if !x.IsNew() {
		return
	}
	// By way of what it has been.
	e.logErr("cannot accept application", x.HandleApplicationEvent(objects.RunApplication), attrApp(id))
	e.logErr("cannot run application", x.HandleApplicationEvent(objects.RunApplication), attrApp(id))
	e.logErr("cannot complete application", x.HandleApplicationEvent(objects.CompleteApplication), attrApp(id))
}

func (a *app) stopIdle() {
	a.quiet = false
	if a.idleTimer != nil {
		a.idleTimer.Stop()
		a.idleTimer = nil
	}
}

// retire takes an application out of the core. e.mu is held.
func (e *Engine) retire(id string, a *app) {
	a.stopIdle()
	a.stage = leaving
	e.chores.put(func() {
		what := "application " + id + " is removed"
		if e.passed(what) && e.takeOut(what, id) {
			e.left(id, a)
		}
	})
}

// takeOut has the core forget applications that nothing is on its way to, and
// reports false if the engine has been stopped.
func (e *Engine) takeOut(what string, ids ...string) bool {
	var remove []*si.RemoveApplicationRequest
	for _, id := range ids {
		if e.failInCore(id) {
			remove = append(remove, &si.RemoveApplicationRequest{ApplicationID: id})
		} else if !e.pollGone(id) { // it was ended by the core before
			return false
		}
	}
	if len(remove) == 0 {
		return true
	}
	return e.insist(what, func(ctx context.Context) error {
		if err := e.send(&si.ApplicationRequest{RmID: e.cfg.RMID, Remove: remove}); err != nil {
			return err
		}
		return e.barrier(ctx)
	})
}

// failInCore brings an application into a state from which its removal does
// not complete it. It reports false if it has ended already.
func (e *Engine) failInCore(id string) bool {
	x := e.coreApp(id)
	switch {
	case x == nil, x.IsFailing():
		return true
	case ended(x):
		return false
	case x.IsCompleting(), x.IsResuming():
		x.Lock()
		e.logErr("cannot retire application", x.HandleApplicationEvent(objects.RunApplication), attrApp(id))
		x.Unlock()
	}
	e.logErr("cannot retire application", x.FailApplication("removed"), attrApp(id))
	return true
}

// ended reports whether the core takes the application out by itself.
func ended(x *objects.Application) bool {
	return x.IsCompleted() || x.IsFailed() || x.IsExpired() || x.IsRejected()
}

// awaitGone waits until the core has taken out an application that it ended by
// itself. e.mu is held.
func (e *Engine) awaitGone(id string, a *app) {
	a.stopIdle()
	a.stage = leaving
	e.chores.put(func() {
		if e.pollGone(id) {
			e.left(id, a)
		}
	})
}

// left is called when the core has let go of an application: the ledger is
// told, unless it wants it again already.
func (e *Engine) left(id string, a *app) {
	e.forgetReserving(id, a)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || e.apps[id] != a || a.stage != leaving {
		return
	}
	a.stage = gone
	switch {
	case a.forgotten && !a.again:
		delete(e.apps, id)
	case a.again, len(a.tasks) > 0 && a.state != ledger.AppStateFailed:
		e.logErr("cannot submit application again", e.resubmit(a), attrApp(id))
	default:
		e.emit(ledger.AppEnded{Stamp: e.stamp(), AppID: id, State: a.state, Message: a.message})
	}
}

// check makes sure that the core can take a task for an application of which
// it has, or is about to have, nothing: the last releases may be on their way,
// and may end it. Its tasks wait meanwhile. e.mu is held.
func (e *Engine) check(id string, a *app) {
	a.stopIdle()
	a.stage = checking
	e.chores.put(func() {
		if !e.passed("application " + id + " is checked") {
			return
		}
		alive := e.reviveInCore(id)
		if !alive {
			if !e.pollGone(id) {
				return
			}
			e.forgetReserving(id, a)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.stopped || e.apps[id] != a || a.stage != checking {
			return
		}
		if alive {
			a.stage = accepted
			if e.strays(a) {
				e.astray(id, a)
				return
			}
			e.logErr("cannot submit tasks", e.flush(a), attrApp(id))
			e.vacant(id, a)
			return
		}
		e.logErr("cannot submit application again", e.resubmit(a), attrApp(id))
	})
}

// reviveInCore keeps an application that the core would complete, and reports
// whether there is one to keep.
func (e *Engine) reviveInCore(id string) bool {
	x := e.coreApp(id)
	if x == nil {
		return false
	}
	x.Lock()
	defer x.Unlock()
	switch {
	case ended(x):
		return false
	case x.IsCompleting():
		e.logErr("cannot revive application", x.HandleApplicationEvent(objects.RunApplication), attrApp(id))
	}
	return true
}

// runCore tells the core that the gang of an application is complete. It would
// not find out: it sees only the placeholders that are left. And if it thought
// that they are still being waited for when their time is up, it would take
// asks of ordinary pods for placeholders, and panic over them.
//
// Of a gang that never was complete the core is told what became of it, so that the
// application does not count among those that run.
func (e *Engine) runCore(id string) {
	e.mu.Lock()
	a := e.apps[id]
	event := objects.RunApplication
	if a != nil && !ran(a.rec) {
		switch a.rec.State {
		case ledger.AppStateKilling:
			e.mu.Unlock()
			return
		case ledger.AppStateResuming:
			event = objects.ResumeApplication
		case ledger.AppStateFailing:
			if a.untimed {
				event = objects.FailApplication
			}
		}
	}
	e.mu.Unlock()
	x := e.coreApp(id)
	if x == nil {
		return
	}
	x.Lock()
	defer x.Unlock()
	if x.IsAccepted() {
		e.logErr("cannot run application", x.HandleApplicationEvent(event), attrApp(id))
	}
}

// ran reports whether an application has run.
func ran(rec *ledger.App) bool {
	return slices.ContainsFunc(rec.StateLog, func(t ledger.Transition) bool { return t.State == ledger.AppStateRunning })
}

// gaveUp reports whether an application has given up its gang, or fails over it, and waits for
// what is left of it to go.
func gaveUp(rec *ledger.App) bool {
	return !ran(rec) && (rec.State == ledger.AppStateResuming || rec.State == ledger.AppStateFailing)
}
