package ledger

import (
	"fmt"
	"strings"
)

// Waiting is a pod that its application does not ask the engine for yet.
type Waiting struct {
	Task *Task
	// Why is a sentence for people.
	Why string
}

// Waiting returns the pods that wait for the stage that their application has been in
// since before: until its gang is complete, or until one that it has given up is gone.
// The engine knows nothing of them.
func (l *Ledger) Waiting(before Time) []Waiting {
	if l.counts.Apps[AppStateReserving]+l.counts.Apps[AppStateResuming] == 0 {
		return nil
	}
	var all []Waiting
	for _, n := range l.apps {
		if n.app == nil || n.fresh == 0 || n.app.since() > before {
			continue
		}
		why := n.app.holdsUp()
		if why == "" {
			continue
		}
		for _, t := range n.sorted() {
			if t.State == TaskStateNew && !t.Placeholder && !t.FailPod && t.Submitted <= before {
				all = append(all, Waiting{Task: t, Why: why})
			}
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
