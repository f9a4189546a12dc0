package ledger

import "maps"

// addApp submits an application that is not known, or ended, and leaves one that
// is live as it is.
func (s *step) addApp(e AddApp) {
	if e.ID == "" {
		s.refuse("an application needs an ID")
		return
	}
	n := s.l.apps[e.ID]
	orphaned := n != nil && n.app == nil
	if n != nil && n.app != nil {
		if !n.app.State.Terminal() {
			return
		}
		s.discardEnded(n)
	}
	if n == nil || s.l.apps[e.ID] == nil {
		n = s.l.newEntry(e.ID)
	}
	n.app = newApp(e)
	s.record(Change{Key: Key{AppID: e.ID}, App: n.app})
	// An application whose pods hold nodes already has to be taken, and the
	// engine has to learn of them: it may have forgotten their application.
	var restores []Effect
	for _, t := range n.sorted() {
		if t.Placed() {
			restores = append(restores, Restore{App: n.app, Task: t})
		}
	}
	recovery := e.Recovery || len(restores) > 0
	by := submitApplication
	if recovery {
		by = recoverApplication
	}
	s.moveApp(n, by)
	s.originate(n)
	s.effect(SubmitApp{App: n.app, Recovery: recovery})
	for _, restore := range restores {
		s.effect(restore)
	}
	if !orphaned {
		return
	}
	// Due could not ask for what tasks without an application wait for.
	for _, t := range n.sortedOf(n.open) {
		if t.due(s.at) {
			s.effect(outstanding(n.app, t))
		}
		s.l.watchTask(t)
	}
}

// newApp makes the record of an application. It shares nothing with the event,
// and holds no empty collections: encoding does not keep them.
func newApp(e AddApp) *App {
	app := &App{
		ID: e.ID, Manager: e.Manager, Queue: e.Queue, User: e.User,
		PlaceholderTimeout: e.PlaceholderTimeout, Style: e.Style,
		Submitted: e.Submitted, State: AppStateNew, Trace: e.Trace,
		Groups: append([]string(nil), e.Groups...),
		Tags:   cloneMap(e.Tags),
	}
	for _, g := range e.TaskGroups {
		app.TaskGroups = append(app.TaskGroups, *g.DeepCopy())
		app.Gang = append(app.Gang, GroupCount{Name: g.Name, Wanted: g.MinMember})
	}
	for _, o := range e.OwnerReferences {
		app.OwnerReferences = append(app.OwnerReferences, *o.DeepCopy())
	}
	return app
}

// cloneMap copies a map; an empty one becomes nil.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}

// discardEnded makes room for a new application of the same ID: tasks that have
// ended go, live ones are the new application's.
func (s *step) discardEnded(n *entry) {
	for _, t := range n.sorted() {
		if t.State.Terminal() {
			s.dropTask(t)
		}
	}
	s.l.countApp(n.app, -1)
	n.app = nil
}

// accepted lets an application that the engine took reserve or run.
func (s *step) accepted(n *entry, placed string) {
	if n.app.State != AppStateSubmitted && n.app.State != AppStateRecovering {
		if placed != "" && placed != n.app.PlacedQueue && !n.app.State.Terminal() {
			s.editApp(n).PlacedQueue = placed
		}
		return // A new engine accepts again what it was fed.
	}
	s.moveApp(n, acceptApplication)
	s.editApp(n).PlacedQueue = placed
	if n.app.isAsked() {
		return // It ends: see settle.
	}
	if len(n.app.TaskGroups) > 0 && n.unbegun() {
		s.reserve(n)
		return
	}
	s.run(n)
}

// run lets an application run: its real tasks are asked for, placeholders that
// have no allocation are of no use any more.
func (s *step) run(n *entry) {
	if !s.moveApp(n, runApplication) || n.app.isAsked() {
		return
	}
	for _, t := range n.sorted() {
		if t.State == TaskStateNew {
			s.admit(n, t)
		}
	}
}

// rejected ends an application that the engine did not take.
func (s *step) rejected(n *entry, message string) {
	if !s.moveApp(n, rejectApplication) {
		return
	}
	s.editApp(n).Message = message
	s.giveUp(n, StoppedByRM)
}

// completeApp ends an application whose manager says that it has completed.
func (s *step) completeApp(n *entry) {
	if s.moveApp(n, completeApplication) {
		s.giveUp(n, StoppedByRM)
	}
}

// giveUp ends the placeholders of an application that is over, and lets the pods fail
// that were never placed, or they would wait for ever. Pods that have a node go on.
func (s *step) giveUp(n *entry, why Termination) {
	reason, message := n.app.over()
	s.giveUpFor(n, why, reason, message)
}

func (s *step) giveUpFor(n *entry, why Termination, reason, message string) {
	for _, t := range n.sorted() {
		switch {
		case t.State.Terminal() || t.State == TaskStateKilling:
		case t.Placeholder:
			s.countGang(n, t, why)
			s.kill(n, t, why)
		case n.app.awaits(t):
			s.giveBack(n, t, why)
			s.failPod(n, n.tasks[t.ID], reason, message)
		case t.Node == "":
			s.failPod(n, t, reason, message)
		}
	}
}

// appEnded takes over what the engine says of the end of an application.
func (s *step) appEnded(n *entry, e AppEnded) {
	switch e.State {
	case AppStateCompleted:
		s.engineForgot(n)
	case AppStateFailing, AppStateFailed:
		_, now := appTable[failApplication][n.app.State]
		switch {
		case n.app.State == AppStateFailing || n.app.State.Terminal():
		case now:
			s.failApp(n, e.Message, ReasonReservationTimeout)
		default: // the engine says it once
			s.endAsAsked(n, AppStateFailed, e.Message)
		}
	case AppStateResuming:
		s.abandonGang(n, e.Message, Timeout)
	default:
		s.refuse("the engine can not put application %s into state %s", n.app.ID, e.State)
	}
}

// engineForgot completes an application without tasks. One that got a task while
// the engine was completing it is given to the engine again.
func (s *step) engineForgot(n *entry) {
	if n.app.State.Terminal() {
		return
	}
	switch {
	case n.live > 0:
	case n.app.State == AppStateRunning:
		s.moveApp(n, completeApplication)
		return
	case n.app.State == AppStateReserving:
		s.endGang(n)
		return
	}
	s.effect(SubmitApp{App: n.app, Recovery: n.app.State != AppStateSubmitted})
	for _, t := range n.sorted() {
		switch {
		case t.Placed():
			s.effect(Restore{App: n.app, Task: t})
		case t.State == TaskStateScheduling && !t.FailPod && !t.HeldBack():
			s.effect(Ask{App: n.app, Task: t})
		}
	}
}

// failApp lets an application fail: pods that run go on, those that do not are
// given up. An empty reason stands for what is said of any application that fails.
func (s *step) failApp(n *entry, message, reason string) {
	why := StoppedByRM
	if n.app.State == AppStateFailing {
		return
	}
	if !s.moveApp(n, failApplication) {
		return
	}
	s.editApp(n).Message = message
	switch reason {
	case "":
		s.giveUp(n, StoppedByRM)
		return
	case ReasonReservationTimeout:
		why = Timeout
	}
	s.reportFailed(n, message)
	s.giveUpFor(n, why, reason, message)
}

// killApp ends an application and its pods.
func (s *step) killApp(n *entry) {
	if !s.moveApp(n, killApplication) {
		return
	}
	for _, t := range n.sorted() {
		if !t.State.Terminal() {
			s.kill(n, t, StoppedByRM)
		}
	}
}

// removeApp forgets an application whatever its state; tasks that live are
// completed first. Its placeholders are of no use to anybody else: they are
// deleted, if only once.
func (s *step) removeApp(n *entry) {
	id := n.app.ID
	if n.app.State == AppStateReserving {
		s.effect(CancelPlaceholders{AppID: id})
	}
	for _, t := range n.sorted() {
		if t.Holder != "" { // lest it gets the place
			s.end(n, t)
		}
	}
	for _, t := range n.sorted() {
		switch {
		case t.DeletePod:
			s.effect(DeletePod{Task: t})
		case t.Placeholder:
			s.kill(n, t, StoppedByRM)
		}
		if !t.State.Terminal() {
			s.end(n, n.tasks[t.ID])
		}
	}
	s.effect(ForgetApp{AppID: id})
	s.dropApp(n)
}

// settle moves on an application that waited for its tasks.
func (s *step) settle(n *entry) {
	if n.app.State == AppStateResuming && n.holds == 0 {
		s.run(n)
	}
	s.settleAsked(n)
	switch n.app.State {
	case AppStateFailing:
		if n.live == 0 {
			s.moveApp(n, failApplication)
		}
	case AppStateKilling:
		if n.live == 0 {
			s.moveApp(n, killedApplication)
		}
	}
	if n.app.State.Terminal() && n.live == 0 {
		s.effect(ForgetApp{AppID: n.app.ID})
		s.l.noteEnd(n)
	}
}
