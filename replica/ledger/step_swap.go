package ledger

// vacate notes for which task a placeholder is given up, and where the place is that the
// engine has chosen for it. From then on the task waits for that: whoever leads next does
// not ask for it again, for which the engine would give up another placeholder.
func (s *step) vacate(n *entry, hold *Task, heirID, node string) {
	heir := n.tasks[heirID]
	if heir == nil || !hold.Placeholder || heir.Placeholder || hold.GivenUpFor != "" || node == "" {
		return
	}
	s.task = heirID // whose story it is
	var task *Task
	switch {
	case heir.State == TaskStateScheduling && !heir.FailPod:
		task = s.place(n, heir, node)
	case heir.Holder != "": // The engine had to choose again.
		s.unclaim(n, heir)
		task = s.editTask(n, heir)
		task.Node = node
	default:
		return
	}
	elsewhere := node != hold.Node
	task.Swapped, task.Holder, task.Elsewhere = true, hold.ID, elsewhere
	if task.InstanceType = ""; !elsewhere { // else the engine says it with the place
		task.InstanceType = hold.InstanceType
	}
	given := s.editTask(n, hold)
	given.GivenUpFor, given.Elsewhere = heirID, elsewhere
}

// inherit has the task bound that waited for a placeholder which is gone. The engine hears
// of it first, so that nobody else gets the place.
func (s *step) inherit(n *entry, hold *Task) {
	if heir := n.tasks[hold.GivenUpFor]; heir != nil && heir.Holder == hold.ID {
		s.takePlace(n, heir)
	}
}

func (s *step) takePlace(n *entry, heir *Task) {
	task := s.editTask(n, heir)
	task.Holder, task.Elsewhere = "", false
	s.effect(Restore{App: n.app, Task: task})
	if n.app.binds(task) {
		s.bind(task)
	}
}

// unclaim has a placeholder go for nobody.
func (s *step) unclaim(n *entry, heir *Task) {
	if hold := n.tasks[heir.Holder]; hold != nil && hold.GivenUpFor == heir.ID {
		given := s.editTask(n, hold)
		given.GivenUpFor, given.Elsewhere = "", false
	}
}

// leaveHold has a task that waits for its place have none.
func (s *step) leaveHold(n *entry, t *Task) {
	if t.Holder != "" {
		s.unclaim(n, t)
		t.Node, t.InstanceType, t.Allocated, t.Swapped, t.Holder, t.Elsewhere = "", "", 0, false, "", false
	}
}

// swaps reports whether a placeholder is on its way out for a task, or a task waits for one
// to go.
func (e *entry) swaps() bool { return len(e.swapping) > 0 }

func (e *entry) indexSwap(id string, t *Task) {
	if t == nil || t.Holder == "" && (t.GivenUpFor == "" || t.State.Terminal()) {
		delete(e.swapping, id)
		return
	}
	if e.swapping == nil {
		e.swapping = make(map[string]struct{})
	}
	e.swapping[id] = struct{}{}
}

// goOnSwapping completes what may have been written in part of a step that gave a
// placeholder up, or saw it go.
func (s *step) goOnSwapping(n *entry) {
	for _, t := range n.sortedOf(n.swapping) {
		t = n.tasks[t.ID]
		if t.Placeholder {
			if heir := n.tasks[t.GivenUpFor]; heir != nil && heir.State == TaskStateScheduling && !t.Elsewhere {
				given := s.editTask(n, t)
				given.GivenUpFor = ""
				s.vacate(n, given, heir.ID, given.Node)
			}
			continue
		}
		switch hold := n.tasks[t.Holder]; {
		case t.Holder == "":
		case hold == nil || hold.State.Terminal():
			s.takePlace(n, t)
		case hold.GivenUpFor != t.ID: // It was not given up after all.
			s.admit(n, s.beginAnew(t, t.Retries))
		}
	}
}
