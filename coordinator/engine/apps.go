package engine

import (
	"maps"
	"slices"
	"time"

	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// stage is how far the core is with an application.
type stage int

const (
	// submitted: the core has not answered yet.
	submitted stage = iota
	accepted
	rejected
	// checking: nothing is sent until the core is known to be able to take it.
	checking
	// leaving: the application ends; its name cannot be used until it is gone.
	leaving
	gone
)

// app is an application that the ledger wants the core to have.
type app struct {
	rec   *ledger.App
	stage stage
	// at is where the core has it, empty until that has been looked up.
	at placed
	// forced says that the core was told of it as of one that has to be taken, tried is
	// the queue it was taken to as its home, and outcast says that the core refused it
	// there: see home.go.
	forced, outcast bool
	tried           string
	// again says that the ledger submitted it anew while it was leaving, and
	// recover whether as a recovery.
	again, recover bool
	// forgotten says that the ledger does not want it any more.
	forgotten bool
	// run says that its gang was complete before the core was told of it, so
	// that the core has to be told that as well: see runCore.
	run bool
	// reserves says that the core was told of a placeholder that it did not place: see
	// countReserving.
	reserves bool
	// untimed says that the core was told of a gang that had been given up: no timer of
	// its own goes on, with which it would end an application that fails already.
	untimed bool
	// state is the core's last word on an application, empty while there is
	// nothing the ledger must know.
	state   ledger.AppState
	message string
	// tasks are those of its tasks that the core should have, and inCore how
	// many of them it was told of.
	tasks  map[string]*task
	inCore int
	// used says that it was told of any before.
	used bool
	// idleTimer runs while the core has nothing to do for it; quiet says that it
	// is to be started when the engine is released.
	idleTimer *time.Timer
	quiet     bool
}

func (e *Engine) submitApp(rec *ledger.App, recovery bool) error {
	a := e.apps[rec.ID]
	if a != nil {
		complete := reserving(a.rec) && len(rec.TaskGroups) > 0 && !reserving(rec)
		a.rec = rec
		if complete && !e.live.Load() {
			// Another core decided so; a released one finds out by itself.
			e.chores.put(func() { e.runCore(rec.ID) })
		}
		switch a.stage {
		case submitted: // will be answered
			return nil
		case leaving: // submitted when it is gone
			a.again, a.recover = true, recovery
			return nil
		case accepted, checking:
			switch {
			case a.at.queue == "": // being looked up: see appAccepted
			case e.strays(a):
				e.astray(rec.ID, a)
			default:
				e.emit(ledger.AppAccepted{Stamp: e.stamp(), AppID: rec.ID, PlacedQueue: a.at.queue})
			}
			return nil
		}
	} else {
		a = &app{rec: rec, tasks: make(map[string]*task)}
		e.apps[rec.ID] = a
	}
	return e.sendApp(a, recovery)
}

// ensureApp makes sure that the core has, or will have, the application of a
// task. One that has to be submitted for this was accepted before, and must be
// taken whatever its queue's limits say now.
func (e *Engine) ensureApp(rec *ledger.App) (*app, error) {
	a := e.apps[rec.ID]
	if a == nil {
		a = &app{stage: gone, tasks: make(map[string]*task)}
		e.apps[rec.ID] = a
	}
	a.rec = rec
	switch {
	case a.stage == leaving && a.forgotten:
		a.again, a.recover = true, true
	case a.stage == gone:
		return a, e.sendApp(a, true)
	case a.stage == accepted && a.used && a.inCore == 0:
		e.check(rec.ID, a)
	}
	return a, nil
}

// sendApp submits an application, once the core places applications by its rules.
// e.mu is held.
func (e *Engine) sendApp(a *app, recovery bool) error {
	a.tried, a.outcast = "", false
	if !e.housing {
		return e.submit(a, recovery, a.rec.Queue)
	}
	a.stage, a.again, a.recover, a.forgotten = leaving, true, recovery, false
	e.chores.put(func() { e.left(a.rec.ID, a) })
	return nil
}

func (e *Engine) submit(a *app, recovery bool, queue string) error {
	a.stopIdle()
	e.explain.unlimited(a.rec.ID)
	a.stage, a.at, a.forced, a.state, a.message = submitted, placed{}, recovery, "", ""
	a.again, a.forgotten, a.used = false, false, false
	a.run = len(a.rec.TaskGroups) > 0 && !reserving(a.rec)
	a.untimed = a.run && gaveUp(a.rec)
	request := addRequest(a.rec, recovery, e.cfg.Now())
	request.QueueName = queue
	if err := e.send(&si.ApplicationRequest{RmID: e.cfg.RMID, New: []*si.AddApplicationRequest{request}}); err != nil {
		return err
	}
	e.unanswered++
	return nil
}

// addRequest describes an application to the core.
func addRequest(rec *ledger.App, recovery bool, now time.Time) *si.AddApplicationRequest {
	tags := make(map[string]string, len(rec.Tags)+1)
	maps.Copy(tags, rec.Tags)
	if recovery {
		tags[sicommon.AppTagCreateForce] = "true"
	}
	user := rec.User
	if user == "" {
		user = "nobody"
	}
	req := &si.AddApplicationRequest{
		ApplicationID:                rec.ID,
		QueueName:                    rec.Queue,
		Ugi:                          &si.UserGroupInformation{User: user, Groups: append([]string(nil), rec.Groups...)},
		Tags:                         tags,
		ExecutionTimeoutMilliSeconds: placeholderTimeout(rec, now).Milliseconds(),
		GangSchedulingStyle:          string(rec.Style),
	}
	if req.GangSchedulingStyle == "" {
		req.GangSchedulingStyle = string(ledger.Soft)
	}
	if reserving(rec) {
		req.PlaceholderAsk = toSI(gangTotal(rec.TaskGroups))
	}
	return req
}

// placeholderTimeout is what is left of the time to wait for the gang. Zero
// selects the core's default, which is the ledger's.
func placeholderTimeout(rec *ledger.App, now time.Time) time.Duration {
	if gaveUp(rec) {
		return noTimeout
	}
	if rec.PlaceholderDeadline == 0 {
		return time.Duration(rec.PlaceholderTimeout) * time.Second
	}
	return max(rec.PlaceholderDeadline.Time().Sub(now)-coreFirst, time.Millisecond)
}

// noTimeout is longer than any gang lasts.
const noTimeout = 10 * 365 * 24 * time.Hour

// coreFirst lets the core's timer of a restored gang run out a little before
// the ledger's. The core then counts the placeholders it never allocated as
// timed out; released one by one they would still be waited for.
const coreFirst = 50 * time.Millisecond

// reserving reports whether the application may still wait for its gang. For
// one that is past it the core must not check again that the whole gang fits
// its queue.
func reserving(rec *ledger.App) bool {
	if len(rec.TaskGroups) == 0 {
		return false
	}
	switch rec.State {
	case ledger.AppStateNew, ledger.AppStateSubmitted, ledger.AppStateRecovering, ledger.AppStateAccepted, ledger.AppStateReserving, "":
		return true
	}
	return false
}

func (e *Engine) forgetApp(id string) error {
	a := e.apps[id]
	if a == nil {
		return nil
	}
	for _, t := range a.tasks {
		// One by one: if the core allocated an ask while it removes the
		// application, the queue would never get that back.
		if err := e.release(t.rec, ledger.StoppedByRM); err != nil {
			return err
		}
	}
	a.stopIdle()
	e.explain.unlimited(id)
	a.forgotten, a.again = true, false
	switch a.stage {
	case gone, rejected:
		delete(e.apps, id)
	case leaving: // dropped by left
	default:
		e.retire(id, a)
	}
	return nil
}

// resubmit gives the core an application that it does not have, with all that
// the ledger wants of it. e.mu is held.
func (e *Engine) resubmit(a *app) error {
	recovery := !a.again || a.recover
	if err := e.sendApp(a, recovery); err != nil {
		return err
	}
	return e.resend(a)
}

// resend gives the core the tasks of an application that it has been given again.
// e.mu is held.
func (e *Engine) resend(a *app) error {
	for _, t := range a.tasks {
		a.setSent(t, false)
		if !t.restore && t.node != "" {
			t.restore, t.at = true, t.node
		}
		t.node = ""
	}
	return e.flush(a)
}

// flush sends the tasks of an application that had to wait. e.mu is held.
func (e *Engine) flush(a *app) error {
	for _, t := range slices.SortedFunc(maps.Values(a.tasks), bySubmission) {
		if t.sent || t.ending != ledger.NotTerminated {
			continue
		}
		if err := e.sendTask(a, t); err != nil {
			return err
		}
	}
	return nil
}
