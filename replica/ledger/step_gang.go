package ledger

import (
	"fmt"
	"time"
)

// DefaultPlaceholderTimeout is how long placeholders are held if the
// application does not say; YuniKorn's default.
const DefaultPlaceholderTimeout = 15 * time.Minute

// ReasonReservationTimeout is the reason of pods that fail because their Hard
// gang was not complete in time.
const ReasonReservationTimeout = "ResourceReservationTimeout"

// ReasonPlaceholderFailed is the reason of pods that fail because the placeholders of
// their Hard gang are refused.
const ReasonPlaceholderFailed = "PlaceholderCreateFailed"

// reserve lets an application wait for its gang.
func (s *step) reserve(n *entry) {
	s.moveApp(n, tryReserve)
	s.fillGang(n, false)
	for _, t := range n.sorted() {
		if t.State == TaskStateNew {
			s.admit(n, t)
		}
	}
	s.runIfHeld(n)
}

// fillGang asks for the placeholders that an application lacks, if a real task is
// there to need them. anew says that it had given up the ones it had, those that were on
// their way among them.
func (s *step) fillGang(n *entry, anew bool) {
	if !n.real() {
		return
	}
	s.tellGang(n, false, "CreatingPlaceholders", "Application %s creating placeholders", n.app.ID)
	s.effect(AssessGang{App: n.app, Originator: n.originator()})
	if !s.renameLost(n, anew) {
		return
	}
	for _, e := range missingPlaceholders(n) {
		s.effect(e)
	}
}

// renameLost gives new names to placeholders that have ended or are going, and with all
// to any that is not there to stay. It reports false if that was one time too many, and
// the gang has been given up.
func (s *step) renameLost(n *entry, all bool) bool {
	kept, lost := make(map[string]bool), all
	for _, t := range n.tasks {
		if t.Placeholder {
			kept[t.Name] = t.keptHold()
			lost = lost || !kept[t.Name]
		}
	}
	if !lost {
		return true
	}
	for _, group := range n.app.TaskGroups {
		for i := range group.MinMember {
			stays, known := kept[placeholderOf(n.app, group.Name, i)]
			if stays || !known && !all {
				continue
			}
			if !s.rename(n, member{group.Name, i}) {
				return false
			}
		}
	}
	return true
}

// rename has a placeholder made under another name the next time, and reports
// whether there is a next time.
func (s *step) rename(n *entry, m member) bool {
	if n.app.Replacements[m.key()] >= maxReplacements {
		s.failGang(n, "PlaceholderCreateFailed", fmt.Sprintf(
			"a placeholder of task group %s was lost for the %dth time", m.group, maxReplacements+1))
		return false
	}
	delete(n.members, placeholderOf(n.app, m.group, m.index))
	app := s.editApp(n)
	if app.Replacements == nil {
		app.Replacements = make(map[string]uint32)
	}
	app.Replacements[m.key()]++
	if n.members != nil {
		n.members[placeholderOf(app, m.group, m.index)] = m
	}
	return true
}

// replaceHold asks for a placeholder anew that the gang has lost before it was
// complete.
func (s *step) replaceHold(n *entry, lost *Task) {
	if n.app.State != AppStateReserving || !lost.Placeholder || !n.real() {
		return
	}
	m, ours := n.memberOf(lost.Name)
	switch {
	case !ours: // made by an older version, or by somebody: it stood for any member
		for _, e := range missingPlaceholders(n) {
			s.effect(e)
		}
	case s.rename(n, m) && n.keptIn[m.group] < n.wanted(m.group):
		s.effect(createPlaceholder(n, n.originator(), m))
	}
}

// gangBefore is what an application that may wait for a gang was like before a step.
type gangBefore struct {
	reserving, real bool
	live            int
	originator      string
}

func (e *entry) gang() gangBefore {
	return gangBefore{e.app.State == AppStateReserving, e.real(), e.live, e.app.Originator}
}

// settleGang keeps a gang that is waited for in step with what it is for.
func (s *step) settleGang(n *entry, was gangBefore) {
	switch {
	case n.app.State != AppStateReserving:
	case n.bereft():
		if was.real || !was.reserving {
			s.bereave(n)
		}
		if n.live == 0 {
			s.endGang(n)
		}
	case n.real() && was.reserving && !was.real:
		s.fillGang(n, was.originator != "")
	default:
		for _, t := range s.lost {
			s.replaceHold(n, t)
		}
	}
}

// bereave ends the wait of an application whose last real task has gone: nobody is
// left for whom to hold a place. Should one come while placeholders go, it waits for
// a gang of its own; when they have gone the application has completed, as one does
// in YuniKorn whose pods are gone.
func (s *step) bereave(n *entry) {
	s.effect(CancelPlaceholders{AppID: n.app.ID})
	s.releaseHolds(n, StoppedByRM)
}

// endGang completes an application that waited for a gang and has no tasks left.
func (s *step) endGang(n *entry) {
	s.moveApp(n, resumingApplication)
	s.moveApp(n, runApplication)
	s.moveApp(n, completeApplication)
}

// held notes that a placeholder is bound, and runs the application when the last
// one is.
func (s *step) held(n *entry, t *Task) {
	if !t.Placeholder {
		return
	}
	if n.gathers() {
		s.editGang(n, t.TaskGroup, func(g *GroupCount) { g.Bound++ })
	}
	if n.app.State == AppStateReserving {
		s.tellGang(n, false, "PlaceholderAllocated", "Application %s placeholder has been allocated.", n.app.ID)
		s.moveApp(n, updateReservation)
		s.runIfHeld(n)
	}
}

// unheld notes that a bound placeholder ends.
func (s *step) unheld(n *entry, t *Task) {
	if t.Placeholder && t.State == TaskStateBound && n.gathers() {
		s.editGang(n, t.TaskGroup, func(g *GroupCount) { g.Bound-- })
	}
}

// gathers reports whether an application may still wait for its gang. Once that was
// complete, or given up, its count stays.
func (e *entry) gathers() bool {
	switch e.app.State {
	case AppStateSubmitted, AppStateRecovering, AppStateReserving:
		return true
	}
	return false
}

// runIfHeld runs an application that has all the placeholders it reserves.
func (s *step) runIfHeld(n *entry) {
	for _, g := range n.app.Gang {
		if g.Bound < g.Wanted {
			return
		}
	}
	s.tellGang(n, false, "GangReservationComplete",
		"Application %s all placeholders are allocated. Transitioning to running state.", n.app.ID)
	s.run(n)
}

func (s *step) editGang(n *entry, group string, edit func(*GroupCount)) {
	for i, g := range n.app.Gang {
		if g.Name == group {
			edit(&s.editApp(n).Gang[i])
			return
		}
	}
}

// countGang counts a placeholder that the engine gives up.
func (s *step) countGang(n *entry, t *Task, why Termination) {
	if !t.Placeholder {
		return
	}
	s.editGang(n, t.TaskGroup, func(g *GroupCount) {
		switch why {
		case PlaceholderReplaced:
			g.Replaced++
		case Timeout:
			g.TimedOut++
		}
	})
}

// longestTimeout keeps a deadline from running over.
const longestTimeout = 100 * 365 * 24 * time.Hour

// startGangTimer sets the deadline for the whole gang when its first placeholder
// has an allocation.
func (s *step) startGangTimer(n *entry) {
	if n.app.PlaceholderDeadline != 0 {
		return
	}
	timeout := DefaultPlaceholderTimeout
	if seconds := n.app.PlaceholderTimeout; seconds > 0 {
		timeout = time.Duration(min(seconds, int64(longestTimeout/time.Second))) * time.Second
	}
	s.editApp(n).PlaceholderDeadline = s.at.Add(timeout)
	s.l.watchGang(n)
}

// wantsHolds reports whether an application has a use for placeholders.
func (s *step) wantsHolds(n *entry) bool {
	switch n.app.State {
	case AppStateSubmitted, AppStateRecovering:
		return true
	case AppStateReserving:
		return !n.bereft()
	case AppStateRunning:
		return n.app.PlaceholderDeadline == 0 || n.app.PlaceholderDeadline > s.at
	}
	return false
}

// tick lets everything happen that is due.
func (s *step) tick() {
	for {
		due, ok := s.l.deadlines.first()
		if !ok || due.at > s.at {
			return
		}
		s.l.deadlines.pop()
		if !s.l.means(due) {
			continue
		}
		n := s.l.apps[due.key.AppID]
		if due.key.TaskID == "" {
			s.settling(n, func() {
				if n.gangDue(due.at) {
					s.gangTimeout(n)
				}
				s.crewsDue(n, due.at)
			})
			continue
		}
		task := s.editTask(n, n.tasks[due.key.TaskID])
		task.NextAttempt = 0
		if e := outstanding(n.app, task); e != nil {
			s.effect(e)
		}
	}
}

// gangTimeout ends the wait for the placeholders of an application.
func (s *step) gangTimeout(n *entry) {
	switch n.app.State {
	case AppStateReserving:
		s.tellGang(n, true, "PlaceholderTimeOut", "Application %s placeholder has been timed out", n.app.ID)
		if n.app.Style == Hard {
			s.failApp(n, "the gang was not complete in time", ReasonReservationTimeout)
			return
		}
		s.abandonGang(n, "the gang was not complete in time", Timeout)
	case AppStateRunning:
		s.releaseHolds(n, Timeout)
	}
}

// failGang ends the wait for a gang that can not be complete: a Hard one fails, the
// pods of a Soft one run on their own.
func (s *step) failGang(n *entry, action, why string) {
	if n.app.State != AppStateReserving {
		s.refuse("application %s is %s, not waiting for a gang", n.app.ID, n.app.State)
		return
	}
	if n.app.Style == Hard {
		s.tellGang(n, true, action, "Application %s fails (HARD): %s", n.app.ID, why)
		s.failApp(n, why, ReasonPlaceholderFailed)
		return
	}
	s.tellGang(n, true, action, "Application %s fall back to normal scheduling: %s", n.app.ID, why)
	s.abandonGang(n, why, StoppedByRM)
}

// delayGang notes that placeholders are refused for now, as by a quota: the gang
// waits for them no longer than for a node.
func (s *step) delayGang(n *entry, why string) {
	if n.app.State != AppStateReserving {
		s.refuse("application %s is %s, not waiting for a gang", n.app.ID, n.app.State)
		return
	}
	s.startGangTimer(n)
	s.tellGang(n, true, "PlaceholderCreateFailed", "Application %s tries again until its time is up: %s", n.app.ID, why)
}

// abandonGang gives the placeholders back and lets the application run as
// ordinary pods once they are gone.
func (s *step) abandonGang(n *entry, message string, why Termination) {
	if !s.moveApp(n, resumingApplication) {
		return
	}
	s.tellGang(n, true, "GangSchedulingFailed", "Application %s resuming as non-gang application (SOFT)", n.app.ID)
	s.editApp(n).Message = message
	s.releaseHolds(n, why)
}

// ReasonGang is the reason of Events about gangs, on the pod that the application
// began with; their actions and words are those of YuniKorn's shim 1.9
// (pkg/cache/application.go), since tools look for them.
const ReasonGang = "GangScheduling"

func (s *step) tellGang(n *entry, warning bool, action, format string, args ...any) {
	if t := n.originator(); t != nil {
		s.effect(ReportTask{Task: t, Warning: warning, Reason: ReasonGang, Action: action, Message: fmt.Sprintf(format, args...)})
	}
}

// releaseHolds gives all live placeholders back.
func (s *step) releaseHolds(n *entry, why Termination) {
	if n.holds == 0 {
		return
	}
	for _, t := range n.sorted() {
		if t.Placeholder && !t.State.Terminal() && t.State != TaskStateKilling {
			s.countGang(n, t, why)
			s.kill(n, t, why)
		}
	}
}
