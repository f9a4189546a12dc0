package ledger

// What a manager says of the end of its application, it says once, and so does the
// engine. An application that can not take it yet keeps it in its record, across
// failovers, until it can: one that completes before the engine has taken it, one whose
// placeholders are still going.

// ends are the ways in which an application is ended, with what moves it there.
// Of two that are kept the one that stands further down counts: it spares less.
var ends = []struct {
	state AppState
	by    appTrigger
}{
	{AppStateCompleted, completeApplication},
	{AppStateFailed, failApplication},
	{AppStateKilled, killApplication},
}

// endOf returns the place of a state in ends, -1 for none.
func endOf(state AppState) int {
	for i := range ends {
		if ends[i].state == state {
			return i
		}
	}
	return -1
}

// isAsked reports whether an application is to end as soon as it can. A newer version
// may know more ends.
func (a *App) isAsked() bool { return endOf(a.Asked) >= 0 }

// isEnding reports whether the application ends, or has ended.
func (a *App) isEnding() bool {
	return a.State.Terminal() || a.State == AppStateFailing || a.State == AppStateKilling
}

// endAsAsked ends an application as its manager says, as soon as its state allows that.
func (s *step) endAsAsked(n *entry, state AppState, message string) {
	asked, kept := endOf(state), endOf(n.app.Asked)
	_, now := appTable[ends[asked].by][n.app.State]
	switch {
	case asked < kept:
		s.refuse("application %s is to be %s, not %s", n.app.ID, n.app.Asked, state)
	case now || n.app.isEnding():
		s.endAs(n, state, message)
	case asked > kept:
		app := s.editApp(n)
		app.Asked, app.AskedMessage = state, message
		if app.State == AppStateReserving { // Nobody needs the gang any more.
			s.moveApp(n, resumingApplication)
			s.releaseHolds(n, StoppedByRM)
		}
	}
}

func (s *step) endAs(n *entry, state AppState, message string) {
	switch state {
	case AppStateCompleted:
		s.completeApp(n)
	case AppStateFailed:
		s.failApp(n, message, "")
	case AppStateKilled:
		s.killApp(n)
	}
}

// settleAsked ends an application that could not take its end before, and forgets what
// was asked of one that ends in another way.
func (s *step) settleAsked(n *entry) {
	if !n.app.isAsked() {
		return
	}
	state, message := n.app.Asked, n.app.AskedMessage
	if n.app.State == AppStateAccepted && state == AppStateCompleted {
		s.moveApp(n, runApplication)
	}
	_, now := appTable[ends[endOf(state)].by][n.app.State]
	if !now && !n.app.isEnding() {
		return
	}
	app := s.editApp(n)
	app.Asked, app.AskedMessage = "", ""
	if !app.isEnding() {
		s.endAs(n, state, message)
	}
}
