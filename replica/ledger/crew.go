package ledger

// Crew is a task group without placeholders: none of its tasks is bound before as many
// have a node as it wants. Until then a task that has one awaits the others: it is
// TaskAllocated, the engine counts it, and nobody is asked to bind it.
type Crew struct {
	Name string
	// UID tells a crew from another that takes its name.
	UID string
	// Wanted is how many tasks have to have a node; zero if that is not known, and all wait.
	Wanted int32
	// Whole says that so many have had one. From then on a task is like any other, also
	// one that takes the place of another.
	Whole bool
	// Until is when its tasks give their nodes back if it is not whole by then, and with
	// Pausing when they are asked for again; zero for never.
	Until   Time
	Pausing bool
	// Retries counts how often they have given them back.
	Retries uint32
	// Rank is that of its tasks.
	Rank Rank
	// Reason and Message say why it was not whole when its time was up last: one word in
	// CamelCase, and a sentence for people. They are empty if it has been, or was not tried.
	Reason, Message string
}

// Rank is what a crew says of preemption in place of its pods.
type Rank struct {
	// Priority is that of all its tasks if it is Ranked, else each has that of its pod.
	Priority int32
	Ranked   bool
	// Yields says that its tasks never preempt others.
	Yields bool
	// Together says that its tasks may not be preempted one by one. The engine knows no other
	// way, so that none is.
	Together bool
}

// RankOf returns the rank of a task.
func (a *App) RankOf(t *Task) Rank {
	if i := a.crew(t.TaskGroup); i >= 0 && !t.Placeholder {
		return a.Crews[i].Rank
	}
	return Rank{}
}

// Reasons of a crew that is not whole.
const (
	ReasonUnschedulable  = "Unschedulable"
	ReasonSchedulerError = "SchedulerError"
)

// crewCount counts the real tasks of one group.
type crewCount struct {
	fresh, asked, placed int32
	bound                int32 // those that have ended after that too
}

func (c crewCount) exist() int32  { return c.fresh + c.asked + c.placed + c.bound }
func (c crewCount) aboard() int32 { return c.placed + c.bound }

// tallyCrew adds a task to the numbers of its group, or with by -1 takes it off them.
func (e *entry) tallyCrew(t *Task, by int32) {
	if t.TaskGroup == "" || t.Placeholder {
		return
	}
	c := e.crews[t.TaskGroup]
	switch {
	case t.State == TaskStateNew || t.State == TaskStatePending:
		c.fresh += by
	case t.State == TaskStateScheduling:
		c.asked += by
	case t.State == TaskStateAllocated:
		c.placed += by
	case t.State == TaskStateBound, t.State == TaskStateCompleted && t.Bound != 0:
		c.bound += by
	}
	if c == (crewCount{}) {
		delete(e.crews, t.TaskGroup)
		return
	}
	if e.crews == nil {
		e.crews = make(map[string]crewCount)
	}
	e.crews[t.TaskGroup] = c
}

// crew returns the place of the crew of that name, -1 for none.
func (a *App) crew(name string) int {
	if name != "" {
		for i := range a.Crews {
			if a.Crews[i].Name == name {
				return i
			}
		}
	}
	return -1
}

// incomplete returns the crew of a task, nil if it has none or that is whole.
func (a *App) incomplete(t *Task) *Crew {
	if a == nil || t.Placeholder || len(a.Crews) == 0 {
		return nil
	}
	if i := a.crew(t.TaskGroup); i >= 0 && !a.Crews[i].Whole {
		return &a.Crews[i]
	}
	return nil
}

// awaits reports whether a task has a node and waits for the others of its crew.
func (a *App) awaits(t *Task) bool { return t.State == TaskStateAllocated && a.incomplete(t) != nil }

// binds reports whether a task has a node to which it is to be bound now.
func (a *App) binds(t *Task) bool {
	return t.State == TaskStateAllocated && t.Holder == "" && !a.awaits(t)
}

// mayAsk reports whether a real task of an application that runs may be asked for.
func (e *entry) mayAsk(t *Task) bool {
	c := e.app.incomplete(t)
	return c == nil || !c.Pausing && e.musters(c)
}

// musters reports whether there are as many tasks as a crew wants.
func (e *entry) musters(c *Crew) bool { return c.Wanted > 0 && e.crews[c.Name].exist() >= c.Wanted }

// reindex is index for the tasks of one group.
func (e *entry) reindex(group string) {
	for id, t := range e.tasks {
		if t.TaskGroup == group {
			e.index(id)
		}
	}
}

// crewsChanged follows a new record of an application.
func (l *Ledger) crewsChanged(e *entry, old *App) {
	if old == nil {
		old = &App{}
	}
	if e.app != nil {
		for i := range e.app.Crews {
			c, before := &e.app.Crews[i], Crew{Whole: true}
			if j := old.crew(c.Name); j >= 0 {
				before = old.Crews[j]
			}
			if c.Until != before.Until {
				l.watchCrew(e, c)
			}
			if c.Whole != before.Whole {
				e.reindex(c.Name)
			}
		}
	}
	for i := range old.Crews {
		if c := &old.Crews[i]; !c.Whole && (e.app == nil || e.app.crew(c.Name) < 0) {
			e.reindex(c.Name)
		}
	}
}

// watchCrew has the time of a crew looked at.
func (l *Ledger) watchCrew(e *entry, c *Crew) {
	if c.Until != 0 {
		l.deadlines.push(timed{c.Until, Key{AppID: e.app.ID}}, l.has)
	}
}

// crewDue reports whether a crew has something to do at that time.
func (a *App) crewDue(at Time) bool {
	for i := range a.Crews {
		if c := &a.Crews[i]; c.Until == at && !c.Whole {
			return true
		}
	}
	return false
}

// Crew returns the record of a crew, nil if the application or the crew is not known.
func (l *Ledger) Crew(appID, name string) *Crew {
	app := l.App(appID)
	if app == nil {
		return nil
	}
	if i := app.crew(name); i >= 0 {
		return &app.Crews[i]
	}
	return nil
}
