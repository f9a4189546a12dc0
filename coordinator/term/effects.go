package term

import (
	"github.com/understudy-ha/understudy/replica/ledger"
)

// inside carries out an effect on the engine.
func (l *Lead) inside(effect ledger.Effect) {
	if err := l.Standby.Do(effect); err != nil {
		l.log.Error("engine refused", "effect", effect.Kind(), "err", err)
	}
}

// step steps an event, and describes by spans what comes of it.
func (l *Lead) step(state *ledger.Ledger, event ledger.Event) ledger.Delta {
	if !l.Tracing.Enabled() {
		return state.Step(event)
	}
	l.Standing.SetRevision((*l.mirror.Load()).Status().Revision)
	return stepTracer{l.Tracing}.step(state, event)
}

// observe keeps the caches around the ledger in step with it.
func (l *Lead) observe(event ledger.Event, delta ledger.Delta) {
	l.Events.WithLabelValues(event.Kind()).Inc()
	if delta.Refused != "" {
		l.Refusals.WithLabelValues(event.Kind()).Inc()
		l.log.Debug("refused", "event", event.Kind(), "why", delta.Refused)
	}
	t := l.tenure.Load()
	switch e := event.(type) {
	case ledger.BindDone:
		t.timings.firstBind(*l.mirror.Load(), e)
	case ledger.RemoveTask:
		if executors := t.executors.Load(); executors != nil {
			(*executors).Forget(e.TaskID)
		}
	}
}
