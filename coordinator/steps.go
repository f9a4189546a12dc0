package coordinator

import (
	"fmt"
	"strings"

	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// stepTracer makes one short trace for each step in the life of a task or an
// application, linked to the step before it. The link is kept in the records,
// so that it crosses a failover. It is used only while tracing is enabled.
type stepTracer struct{ tracing *telemetry.Tracing }

// trace returns event with the traceparent of the span that describes it.
func (t stepTracer) trace(l *ledger.Ledger, event ledger.Event) ledger.Event {
	switch e := event.(type) {
	case ledger.AddApp:
		if app := l.App(e.ID); app == nil || app.State.Terminal() {
			e.Trace = t.app("app.submit", e.ID, "", e.Submitted, e.At)
		}
		return e
	case ledger.AppAccepted:
		if app := l.App(e.AppID); app != nil && (app.State == ledger.AppStateSubmitted || app.State == ledger.AppStateRecovering) {
			e.Trace = t.app("app.admit", e.AppID, app.Trace, app.Submitted, e.At)
		}
		return e
	case ledger.AppEnded:
		if app := l.App(e.AppID); app != nil && e.State.Terminal() && !app.State.Terminal() {
			e.Trace = t.tracing.Lifecycle(e.AppID, app.Trace, app.Submitted.Time(), e.At.Time())
		}
		return e
	case ledger.AddTask:
		task := l.Task(e.AppID, e.ID)
		if task == nil && !e.Terminated {
			e.Trace = t.task("task.submit", e.AppID, e.ID, "", e.Submitted, e.At)
		}
		return e
	case ledger.Allocated:
		if task := l.Task(e.AppID, e.TaskID); task != nil && task.State == ledger.TaskStateScheduling {
			e.Trace = t.task("task.ask", e.AppID, e.TaskID, task.Trace, task.Submitted, e.At)
		}
		return e
	case ledger.BindDone:
		if task := l.Task(e.AppID, e.TaskID); task != nil && task.State == ledger.TaskStateAllocated {
			e.Trace = t.task("task.bind", e.AppID, e.TaskID, task.Trace, task.Allocated, e.At)
		}
		return e
	case ledger.CompleteTask:
		if task := l.Task(e.AppID, e.TaskID); task != nil && !task.State.Terminal() {
			e.Trace = t.task("task.complete", e.AppID, e.TaskID, task.Trace, e.At, e.At)
		}
		return e
	}
	return event
}

func (t stepTracer) app(name, appID, predecessor string, start, end ledger.Time) string {
	return t.tracing.Record(name, predecessor, start.Time(), end.Time(), telemetry.AppIDKey.String(appID))
}

func (t stepTracer) task(name, appID, taskID, predecessor string, start, end ledger.Time) string {
	return t.tracing.Record(name, predecessor, start.Time(), end.Time(),
		telemetry.AppIDKey.String(appID), telemetry.TaskIDKey.String(taskID))
}

// eventName is the kind of an event as metrics and logs show it.
func eventName(event ledger.Event) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", event), "ledger.")
}
