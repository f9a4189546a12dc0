package ledger

// The originator of an application is the task that it began with: its driver, or
// what there is of one. The engine preempts it last, placeholders belong to it, and
// what is to be said of the application is said on its pod. It is the one that was
// reported first, and stays so when it has ended; but a gang that waits, and an
// application that begins anew with another pod, have to have one that lives.

// originated notes a real task that is about to be admitted.
func (s *step) originated(n *entry, t *Task) {
	if t.Placeholder || t.State.Terminal() || n.app.Originator == t.ID {
		return
	}
	if n.app.Originator == "" || n.live-n.holds == 1 { // It is the only one.
		s.editApp(n).Originator = t.ID
	}
}

// originate chooses the oldest real task if there has to be an originator and is
// none.
func (s *step) originate(n *entry) {
	switch n.app.State {
	case AppStateSubmitted, AppStateRecovering, AppStateReserving:
		if t := n.tasks[n.app.Originator]; t != nil && !t.State.Terminal() {
			return
		}
	default:
		if n.app.Originator != "" {
			return
		}
	}
	if !n.real() {
		return // The old one stays: it says that there has been one.
	}
	s.editApp(n).Originator = n.oldestReal().ID
}

// originator returns the task that speaks for an application, nil if there is none.
// Records of older versions do not name it.
func (e *entry) originator() *Task {
	if t := e.tasks[e.app.Originator]; t != nil && !t.State.Terminal() {
		return t
	}
	return e.oldestReal()
}

// oldestReal returns the first of the real tasks that live, nil if there is none.
func (e *entry) oldestReal() *Task {
	if !e.real() {
		return nil
	}
	for _, t := range e.sorted() {
		if !t.Placeholder && !t.State.Terminal() {
			return t
		}
	}
	return nil
}
