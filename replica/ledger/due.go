package ledger

import "cmp"

// Due returns the work that no event has confirmed: what a lead that takes over
// has to carry out, in order of submission. What is to be tried again later than
// now is left to Tick. A new engine has to know Feed first. The cost follows the
// applications and the work, not the tasks that exist.
func (l *Ledger) Due(now Time) []Effect {
	var effects []Effect
	for _, n := range l.sorted() {
		switch n.app.State {
		case AppStateSubmitted:
			effects = append(effects, SubmitApp{App: n.app})
		case AppStateRecovering:
			effects = append(effects, SubmitApp{App: n.app, Recovery: true})
		case AppStateReserving:
			effects = append(effects, missingPlaceholders(n)...)
		}
		for _, t := range n.sortedOf(n.open) {
			if t.due(now) {
				effects = append(effects, outstanding(n.app, t))
			}
		}
	}
	return effects
}

// due reports whether unconfirmed work on a task is to be carried out now. A task that
// only avoids some nodes until its next attempt is asked for all the same.
func (t *Task) due(now Time) bool {
	return t.NextAttempt <= now || t.State == TaskStateScheduling && !t.FailPod && !t.HeldBack()
}

// outstanding returns the unconfirmed work on one task, nil if there is none.
func outstanding(app *App, t *Task) Effect {
	switch {
	case t.DeletePod:
		return DeletePod{Task: t}
	case t.FailPod:
		return FailPod{Task: t, Reason: cmp.Or(t.Reason, t.Message)} // Older versions keep it as the message.
	case t.State == TaskStateScheduling:
		return Ask{App: app, Task: t}
	case app.binds(t):
		return Bind{Task: t}
	}
	return nil
}

// Feed returns what an engine that knows nothing has to be told before it may
// schedule: every live application in order of submission, each followed by the
// allocations it has. An allocation whose pod is not bound yet is one of them:
// the intent stands, and Due has it bound.
func (l *Ledger) Feed() []Effect {
	var effects []Effect
	for _, n := range l.sorted() {
		if n.app.State.Terminal() && n.live == 0 {
			continue
		}
		var restores []Effect
		for _, t := range n.sorted() {
			if t.Placed() {
				restores = append(restores, Restore{App: n.app, Task: t})
			}
		}
		if n.app.State == AppStateSubmitted && len(restores) == 0 {
			continue // Due submits it, and its queue may still refuse it.
		}
		effects = append(effects, SubmitApp{App: n.app, Recovery: true})
		effects = append(effects, restores...)
	}
	return effects
}
