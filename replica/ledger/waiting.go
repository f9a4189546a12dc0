package ledger

import (
	"fmt"
	"math"
	"strings"
)

// Waiting is a pod of which the engine does not say why it waits.
type Waiting struct {
	Task *Task
	// Why is a sentence for people.
	Why string
}

// Waiting returns the pods that wait for the stage that their application has been in
// since before: until its gang is complete, or until one that it has given up is gone, or
// until their crew is whole. The engine knows nothing of them. For the places that others
// are to take they wait until the placeholders are gone: where these can not be deleted,
// that is why.
func (l *Ledger) Waiting(before Time) []Waiting {
	var all []Waiting
	for _, n := range l.sorted() {
		all = append(all, n.waiting(before)...)
	}
	return all
}

// WaitingIn returns those of one application, for however short a time they have waited.
func (l *Ledger) WaitingIn(appID string) []Waiting {
	if n := l.apps[appID]; n != nil && n.app != nil {
		return n.waiting(math.MaxInt64)
	}
	return nil
}

func (e *entry) waiting(before Time) (all []Waiting) {
	if e.app.State == AppStateRunning {
		for i := range e.app.Crews {
			all = append(all, e.awaiting(&e.app.Crews[i], before)...)
		}
	}
	if e.app.State == AppStateRunning && e.holds > e.kept {
		return append(all, e.takingPlaces(before)...)
	}
	if e.fresh == 0 || e.app.since() > before {
		return all
	}
	why := e.app.holdsUp()
	if why == "" {
		return all
	}
	for _, t := range e.sorted() {
		if t.State == TaskStateNew && !t.Placeholder && !t.FailPod && t.Submitted <= before {
			all = append(all, Waiting{Task: t, Why: why})
		}
	}
	return all
}

// takingPlaces returns the pods whose place a placeholder has that can not be deleted.
func (e *entry) takingPlaces(before Time) (all []Waiting) {
	for _, t := range e.sortedOf(e.swapping) {
		if hold := e.tasks[t.Holder]; hold != nil && hold.DeletePod && hold.Retries > 0 && t.Submitted <= before {
			all = append(all, Waiting{Task: t, Why: fmt.Sprintf(
				"Application %s cannot delete a placeholder of task group %s, whose place the pod is to take: see its Events",
				t.AppID, t.TaskGroup)})
		}
	}
	return all
}

// awaiting returns the pods of a crew that is not whole, but those that the engine was
// asked for.
func (e *entry) awaiting(c *Crew, before Time) (all []Waiting) {
	count := e.crews[c.Name]
	if c.Whole || count.fresh+count.placed == 0 {
		return nil
	}
	why := fmt.Sprintf("Application %s waits for task group %s", e.app.ID, c.Name)
	switch {
	case c.Wanted == 0:
		why += ", which does not exist"
	case !e.musters(c):
		why += fmt.Sprintf(": there are %d of %d pods", count.exist(), c.Wanted)
	case c.Pausing && c.Message != "":
		why += ": " + c.Message
	default:
		why += fmt.Sprintf(": %d of %d pods have a node", count.aboard(), c.Wanted)
	}
	for _, t := range e.sorted() {
		waits := t.State == TaskStateNew && !t.FailPod || t.State == TaskStateAllocated
		if waits && t.TaskGroup == c.Name && !t.Placeholder && t.Submitted <= before {
			all = append(all, Waiting{Task: t, Why: why})
		}
	}
	return all
}

// since is when the application came into its state.
func (a *App) since() Time {
	if n := len(a.StateLog); n > 0 {
		return a.StateLog[n-1].At
	}
	return 0
}

// holdsUp says for what the pods of an application wait in its stage, empty for nothing.
func (a *App) holdsUp() string {
	switch a.State {
	case AppStateReserving:
		var lacks []string
		for _, g := range a.Gang {
			if g.Bound < g.Wanted {
				lacks = append(lacks, fmt.Sprintf("%d of %d of task group %s", g.Bound, g.Wanted, g.Name))
			}
		}
		return fmt.Sprintf("Application %s waits for its gang: bound are %s", a.ID, strings.Join(lacks, ", "))
	case AppStateResuming:
		return fmt.Sprintf("Application %s has given its gang up and waits until the placeholders are gone", a.ID)
	}
	return ""
}
