package ledger

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// DefaultPlaceholderTimeout is how long placeholders are held if the
// application does not say; YuniKorn's default.
const DefaultPlaceholderTimeout = 15 * time.Minute

// ReasonReservationTimeout is the reason of pods that fail because their Hard
// gang was not complete in time.
const ReasonReservationTimeout = "ResourceReservationTimeout"

// reserve asks for the placeholders of an application with task groups.
func (s *step) reserve(n *entry) {
	s.moveApp(n, tryReserve)
	for _, e := range missingPlaceholders(n) {
		s.effect(e)
	}
	for _, t := range n.sorted() {
		if t.State == TaskStateNew {
			s.admit(n, t)
		}
	}
	s.runIfHeld(n)
}

// missingPlaceholders returns the creations that no task of the application
// confirms.
func missingPlaceholders(n *entry) []Effect {
	known := make(map[string]bool)
	for _, t := range n.tasks {
		if t.Placeholder {
			known[t.Name] = true
		}
	}
	var effects []Effect
	for _, group := range n.app.TaskGroups {
		for i := range group.MinMember {
			if name := PlaceholderName(n.app.ID, group.Name, i); !known[name] {
				known[name] = true
				effects = append(effects, CreatePlaceholder{App: n.app, Group: group.Name, Index: i, Name: name})
			}
		}
	}
	return effects
}

// replaceHold asks for a placeholder again whose pod is gone before the gang was
// complete.
func (s *step) replaceHold(n *entry, gone *Task) {
	if n.app.State != AppStateReserving || !gone.Placeholder {
		return
	}
	i, err := strconv.ParseInt(gone.Name[strings.LastIndexByte(gone.Name, '-')+1:], 10, 32)
	if err != nil || PlaceholderName(n.app.ID, gone.TaskGroup, int32(i)) != gone.Name {
		return // Created by somebody else.
	}
	for _, t := range n.tasks {
		if t.Placeholder && t.Name == gone.Name {
			return // Created again already.
		}
	}
	for _, group := range n.app.TaskGroups {
		if group.Name == gone.TaskGroup && i < int64(group.MinMember) {
			s.effect(CreatePlaceholder{App: n.app, Group: group.Name, Index: int32(i), Name: gone.Name})
			return
		}
	}
}

// PlaceholderName is the name of the pod for a member of a task group. It is the
// same in every term, so that a creation may be repeated. Where application or
// group had to be cut or changed to make a name, or the name does not tell where
// one ends and the other begins, a hash keeps it unique.
func PlaceholderName(appID, group string, index int32) string {
	g, a := nameable(group, 20), nameable(appID, 28)
	if g == group && a == appID && !strings.Contains(g, "-") {
		return fmt.Sprintf("tg-%s-%s-%d", g, a, index)
	}
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s", appID, group)
	// Shorter by the hash: names are host names too, of 63 characters at most.
	return fmt.Sprintf("tg-%s-%s-%08x-%d", g, nameable(appID, 19), h.Sum32(), index)
}

// nameable cuts s to a part of a DNS-1123 name of at most limit characters.
func nameable(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if b.Len() == limit {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// held notes that a placeholder is bound, and runs the application when the last
// one is.
func (s *step) held(n *entry, t *Task) {
	if !t.Placeholder {
		return
	}
	s.editGang(n, t.TaskGroup, func(g *GroupCount) { g.Bound++ })
	if n.app.State == AppStateReserving {
		s.moveApp(n, updateReservation)
		s.runIfHeld(n)
	}
}

// unheld notes that a bound placeholder ends. Once the gang was complete, its
// count stays.
func (s *step) unheld(n *entry, t *Task) {
	if !t.Placeholder || t.State != TaskStateBound {
		return
	}
	switch n.app.State {
	case AppStateSubmitted, AppStateRecovering, AppStateReserving:
		s.editGang(n, t.TaskGroup, func(g *GroupCount) { g.Bound-- })
	}
}

// runIfHeld runs an application that has all the placeholders it reserves.
func (s *step) runIfHeld(n *entry) {
	for _, g := range n.app.Gang {
		if g.Bound < g.Wanted {
			return
		}
	}
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
	case AppStateSubmitted, AppStateRecovering, AppStateReserving:
		return true
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
			s.settling(n, func() { s.gangTimeout(n) })
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
		if n.app.Style == Hard {
			s.failApp(n, "the gang was not complete in time", ReasonReservationTimeout)
			return
		}
		s.abandonGang(n, "the gang was not complete in time", Timeout)
	case AppStateRunning:
		s.releaseHolds(n, Timeout)
	}
}

// abandonGang gives the placeholders back and lets the application run as
// ordinary pods once they are gone.
func (s *step) abandonGang(n *entry, message string, why Termination) {
	if !s.moveApp(n, resumingApplication) {
		return
	}
	s.editApp(n).Message = message
	s.releaseHolds(n, why)
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
