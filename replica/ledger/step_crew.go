package ledger

import (
	"fmt"
	"hash/fnv"
	"time"
)

// DefaultCrewTimeout is how long tasks that have a node await the others of their crew if
// the application does not say. What the engine can place it places within moments, and
// meanwhile nobody else gets what they have.
const DefaultCrewTimeout = 30 * time.Second

// The pause before a crew that has given its nodes back is tried again doubles from
// firstCrewPause to lastCrewPause.
const (
	firstCrewPause = time.Second
	lastCrewPause  = time.Minute
)

// setCrew takes over what a manager says of a crew.
func (s *step) setCrew(n *entry, e SetCrew) {
	switch {
	case e.Name == "":
		s.refuse("a crew of application %s has no name", n.app.ID)
		return
	case n.app.isEnding():
		s.refuse("application %s is %s", n.app.ID, n.app.State)
		return
	}
	was, now := Crew{}, Crew{Name: e.Name}
	i := n.app.crew(e.Name)
	if i >= 0 {
		was = n.app.Crews[i]
	}
	begins := i < 0 || was.UID != e.UID || e.Wanted <= 0
	if !begins {
		now = was
	}
	now.UID, now.Wanted, now.Rank = e.UID, max(0, e.Wanted), was.Rank
	if now.Wanted > 0 {
		now.Rank = e.Rank
	}
	if i < 0 || now != was {
		app := s.editApp(n)
		if i < 0 {
			app.Crews = append(app.Crews, now)
			i = len(app.Crews) - 1
		} else {
			app.Crews[i] = now
		}
		if begins {
			n.reindex(now.Name)
			s.disperse(n, i)
		}
	}
	if e.Whole && now.Wanted > 0 && !now.Whole {
		s.whole(n, i)
	}
}

// settleCrews brings the crews of all applications that a step has changed to where they
// should be.
func (s *step) settleCrews() {
	last := ""
	for i := range s.delta.Changes { // What is added on the way is of the same application.
		id := s.delta.Changes[i].Key.AppID
		if n := s.l.apps[id]; id != last && n != nil && n.app != nil && len(n.app.Crews) > 0 {
			s.settleCrewsOf(n)
		}
		last = id
	}
}

func (s *step) settleCrewsOf(n *entry) {
	if n.app.isEnding() {
		return
	}
	for i := range n.app.Crews {
		s.settleCrew(n, i)
	}
}

// settleCrew does what is to be done now for a crew that is not whole.
func (s *step) settleCrew(n *entry, i int) {
	crew := &n.app.Crews[i]
	switch count := n.crews[crew.Name]; {
	case crew.Whole:
	case !n.musters(crew):
		s.disperse(n, i)
	case count.aboard() >= crew.Wanted:
		s.whole(n, i)
	case crew.Pausing || n.app.State != AppStateRunning:
	default:
		if count.fresh > 0 {
			s.askCrew(n, crew.Name)
			count = n.crews[crew.Name]
		}
		if crew.Until == 0 && (count.placed > 0 || count.asked > 0 && crew.Message == "") {
			s.crewUntil(n, i, s.at.Add(n.app.crewTimeout()))
		}
	}
}

func (a *App) crewTimeout() time.Duration {
	if seconds := a.PlaceholderTimeout; seconds > 0 {
		return time.Duration(min(seconds, int64(longestTimeout/time.Second))) * time.Second
	}
	return DefaultCrewTimeout
}

func (s *step) crewUntil(n *entry, i int, at Time) {
	crew := &s.editApp(n).Crews[i]
	crew.Until = at
	s.l.watchCrew(n, crew)
}

// askCrew asks for the tasks of a crew that have not been.
func (s *step) askCrew(n *entry, name string) {
	for _, t := range n.sorted() {
		if t.TaskGroup == name && t.State == TaskStateNew && !t.Placeholder {
			s.admit(n, t)
		}
	}
}

// whole has the tasks of a crew bound that await each other, and asks for the others. That
// is so for good, whatever becomes of them: a failover that finds some bound binds the rest.
func (s *step) whole(n *entry, i int) {
	was := n.app.Crews[i]
	s.editApp(n).Crews[i] = Crew{Name: was.Name, UID: was.UID, Wanted: was.Wanted, Whole: true, Rank: was.Rank}
	n.reindex(was.Name)
	for _, t := range n.sorted() {
		switch {
		case t.TaskGroup != was.Name || t.Placeholder:
		case n.app.binds(t):
			s.bind(t)
		case t.State == TaskStateNew:
			s.admit(n, t)
		}
	}
}

// disperse has all tasks of a crew wait that lacks some: they give their nodes back. What
// the engine has decided meanwhile of those that were asked for may be under way, and would
// be taken for the answer if they were asked for again at once.
func (s *step) disperse(n *entry, i int) {
	crew := n.app.Crews[i]
	switch {
	case n.crews[crew.Name].asked > 0:
		s.editApp(n).Crews[i].Pausing = true
		s.crewUntil(n, i, s.at.Add(firstCrewPause))
	case crew.Until != 0 && !crew.Pausing:
		s.crewUntil(n, i, 0)
	}
	s.giveCrewBack(n, crew.Name)
}

// giveCrewBack gives back what the tasks of a crew have, or are asked for.
func (s *step) giveCrewBack(n *entry, name string) {
	if count := n.crews[name]; count.asked+count.placed == 0 {
		return
	}
	for _, t := range n.sorted() {
		asked := t.State == TaskStateScheduling && !t.FailPod
		if t.TaskGroup == name && !t.Placeholder && (asked || t.State == TaskStateAllocated) {
			s.giveBack(n, t, StoppedByRM)
		}
	}
}

// giveBack gives the node of a task back that has not been bound, or its ask, and has it
// begin anew.
func (s *step) giveBack(n *entry, t *Task, why Termination) {
	old := *n.tasks[t.ID]
	s.unclaim(n, &old)
	s.effect(Release{Task: &old, Termination: why})
	s.avoidFor(s.beginAnew(&old, old.Retries))
}

// crewsDue lets the crews go on whose time is up. One that has not become whole gives
// back what it has, lest several hold for ever what the others lack; the pauses before
// they are tried again differ. One that has nothing keeps its place in its queue.
func (s *step) crewsDue(n *entry, at Time) {
	if n.app.isEnding() {
		return
	}
	for i := range n.app.Crews {
		if c := &n.app.Crews[i]; c.Until != at || c.Whole {
			continue
		}
		app := s.editApp(n)
		crew := &app.Crews[i]
		crew.Until = 0
		if crew.Pausing {
			crew.Pausing = false
			continue // It is asked for at the end of the step.
		}
		count := n.crews[crew.Name]
		crew.Reason = ReasonUnschedulable
		crew.Message = fmt.Sprintf("%d of %d pods of task group %s could be given a node within %s",
			count.aboard(), crew.Wanted, crew.Name, app.crewTimeout())
		if count.placed == 0 {
			continue
		}
		crew.Retries++
		crew.Pausing = true
		s.crewUntil(n, i, s.at.Add(crew.pause(app.ID)))
		s.giveCrewBack(n, crew.Name)
	}
}

// pause is that before the next try, spread over half its length so that crews that have
// kept each other from being whole do not come back together.
func (c *Crew) pause(appID string) time.Duration {
	pause := doubled(firstCrewPause, lastCrewPause, int(c.Retries)-1)
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s/%d", appID, c.Name, c.Retries)
	return pause/2 + time.Duration(h.Sum32()%1000)*(pause/2)/1000
}

// refuseCrew notes that the engine refuses a task for good, without which its crew may
// never be whole.
func (s *step) refuseCrew(n *entry, t *Task, message string) {
	if n.app.incomplete(t) == nil {
		return
	}
	crew := &s.editApp(n).Crews[n.app.crew(t.TaskGroup)]
	crew.Reason, crew.Message = ReasonSchedulerError, message
}

// Halfway returns the applications, in order, of which a step may have been written in part
// by a lead that has gone: tasks that nobody has asked for, crews that are not whole. They
// want Continue, and so do those of which placeholders are being replaced.
func (l *Ledger) Halfway() []string {
	var found []*entry
	for _, n := range l.apps {
		if n.app == nil || n.app.State != AppStateRunning && !n.swaps() {
			continue
		}
		open := n.fresh > 0 || n.swaps()
		for i := range n.app.Crews {
			open = open || !n.app.Crews[i].Whole
		}
		if open {
			found = append(found, n)
		}
	}
	sortEntries(found)
	ids := make([]string, len(found))
	for i, n := range found {
		ids[i] = n.app.ID
	}
	return ids
}

// goOn asks for what nobody has asked for.
func (s *step) goOn(n *entry) {
	s.goOnSwapping(n)
	if n.app.State != AppStateRunning {
		return
	}
	for _, t := range n.sorted() {
		if t.State == TaskStateNew {
			s.admit(n, t)
		}
	}
	s.settleCrewsOf(n)
}
