package term

import (
	"time"

	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// stepTracer makes one short trace for each step in the life of a task or an
// application, linked to the step before it. The link is kept in the records,
// so that it crosses a failover. It is used only while tracing is enabled.
type stepTracer struct{ tracing *telemetry.Tracing }

// step has the ledger step an event, and describes what comes of it.
func (t stepTracer) step(l *ledger.Ledger, event ledger.Event) ledger.Delta {
	delta := l.Step(t.trace(l, event))
	// Whatever it is that ends an application, its record says when that was.
	for _, c := range delta.Changes {
		if c.App != nil && c.App.State.Terminal() && c.App.Finished == event.When() {
			t.tracing.Lifecycle(c.App.ID, c.App.Trace, c.App.Submitted.Time(), c.App.Finished.Time(),
				telemetry.AppStateKey.String(string(c.App.State)))
		}
	}
	return delta
}

// trace returns event with the traceparent of the span that describes it, if it
// is a step.
func (t stepTracer) trace(l *ledger.Ledger, event ledger.Event) ledger.Event {
	switch e := event.(type) {
	case ledger.AddApp:
		if app := l.App(e.ID); app == nil || app.State.Terminal() {
			e.Trace = t.app("app.submit", e.ID, "", began(e.Submitted, e.At, e.Recovery), time.Time{})
		}
		return e
	case ledger.AppAccepted:
		if app := l.App(e.AppID); app != nil && (app.State == ledger.AppStateSubmitted || app.State == ledger.AppStateRecovering) {
			e.Trace = t.app("app.admit", e.AppID, app.Trace, app.Submitted.Time(), e.At.Time())
		}
		return e
	case ledger.AddTask:
		e.Trace = t.addTask(l, e)
		return e
	case ledger.Allocated:
		if task := l.TaskByID(e.TaskID); task != nil && task.State == ledger.TaskStateScheduling {
			e.Trace = t.task("task.ask", task, task.Submitted.Time(), e.At.Time())
		}
		return e
	case ledger.Released:
		if task := l.TaskByID(e.For); task != nil && task.State == ledger.TaskStateScheduling {
			e.Trace = t.task("task.ask", task, task.Submitted.Time(), e.At.Time())
		}
		return e
	case ledger.BindDone:
		e.Trace = t.bound(l.TaskByID(e.TaskID), e.At)
		return e
	case ledger.CompleteTask:
		e.Trace = t.complete(l.TaskByID(e.TaskID), e.At)
		return e
	case ledger.RemoveTask:
		e.Trace = t.complete(l.TaskByID(e.TaskID), e.At)
		return e
	}
	return event
}

// addTask describes what a pod says: that it is there, or is bound, or has
// terminated. The informer may be quicker with that than the answer to a binding.
func (t stepTracer) addTask(l *ledger.Ledger, e ledger.AddTask) string {
	app, task := l.App(e.AppID), l.TaskByID(e.ID)
	switch {
	case app == nil:
	case task == nil && !e.Terminated:
		return t.task("task.submit", &ledger.Task{AppID: e.AppID, ID: e.ID, Trace: app.Trace},
			began(e.Submitted, e.At, e.Node != ""), time.Time{})
	case e.Terminated:
		return t.complete(task, e.At)
	case e.Node != "":
		return t.bound(task, e.At)
	}
	return ""
}

// began is when a submission began: to find what ran already is no long wait.
func began(submitted, seen ledger.Time, recovered bool) time.Time {
	if recovered {
		return seen.Time()
	}
	return submitted.Time()
}

// bound describes that a pod which waited for its binding has it.
func (t stepTracer) bound(task *ledger.Task, at ledger.Time) string {
	if task == nil || task.State != ledger.TaskStateAllocated {
		return ""
	}
	return t.task("task.bind", task, task.Allocated.Time(), at.Time())
}

// complete describes that a pod has ended, or is gone.
func (t stepTracer) complete(task *ledger.Task, at ledger.Time) string {
	if task == nil || task.State.Terminal() {
		return ""
	}
	return t.task("task.complete", task, at.Time(), time.Time{})
}

func (t stepTracer) app(name, appID, predecessor string, start, end time.Time) string {
	return t.tracing.Record(name, predecessor, start, end, telemetry.AppIDKey.String(appID))
}

func (t stepTracer) task(name string, task *ledger.Task, start, end time.Time) string {
	return t.tracing.Record(name, task.Trace, start, end,
		telemetry.AppIDKey.String(task.AppID), telemetry.TaskIDKey.String(task.ID))
}
