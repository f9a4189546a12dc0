package engine

import (
	"sync"
	"time"
)

// grants follows the core's one scheduling loop through its calls: it asks
// whether a task fits a node, and if so places it there at once. Between the
// two an allocation is in flight that nobody else can see. If its node is taken
// out, or its ask released, at that moment, the core never gives back what the
// queue was charged. So nodes and tasks that are on their way out are refused
// here first, and what is in flight is waited for.
type grants struct {
	mu sync.Mutex
	// nodes are refused until the time given, the zero time meaning for ever.
	nodes map[string]time.Time
	tasks map[string]bool
	// groups are the task groups of the tasks that may be swapped in for placeholders,
	// sizes how many there are of each, and held how often each is held.
	groups      map[string]string
	sizes, held map[string]int
	// inFlight is the last yes, until the core says what came of it or asks
	// something else.
	inFlight grant
}

type grant struct{ task, node, group string }

// settleLimit bounds how long a placement is waited for: if the core found
// another reason against it, it may have nothing more to ask.
const settleLimit = 100 * time.Millisecond

// quarantine is for how long a node that came back is still refused. A round of
// the core over all nodes that began before it went knows it as it was, and
// would place tasks on what is not part of the cluster any more.
const quarantine = 250 * time.Millisecond

// ask notes a question, and reports whether it is worth an answer.
func (g *grants) ask(task, node string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight = grant{}
	return !g.refuses(task, node)
}

func (g *grants) refuses(task, node string) bool {
	if g.tasks[task] || len(g.held) > 0 && g.held[g.groups[task]] > 0 {
		return true
	}
	until, ok := g.nodes[node]
	if ok && !until.IsZero() && time.Now().After(until) {
		delete(g.nodes, node)
		return false
	}
	return ok
}

// yes notes that the answer is yes. It reports false if task or node was
// refused while it was being found.
func (g *grants) yes(task, node string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuses(task, node) {
		return false
	}
	g.inFlight = grant{task, node, g.groups[task]}
	return true
}

// done notes that the core has placed the task.
func (g *grants) done(task string) {
	g.mu.Lock()
	if g.inFlight.task == task {
		g.inFlight = grant{}
	}
	g.mu.Unlock()
}

func (g *grants) refuseNode(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.nodes == nil {
		g.nodes = make(map[string]time.Time)
	}
	g.nodes[node] = time.Time{}
}

// allowNode lifts the refusal of a node after its quarantine.
func (g *grants) allowNode(node string) {
	g.mu.Lock()
	now := time.Now()
	for old, until := range g.nodes { // most never come back
		if !until.IsZero() && now.After(until) {
			delete(g.nodes, old)
		}
	}
	g.nodes[node] = now.Add(quarantine)
	g.mu.Unlock()
}

// refuseTask reports whether the task is in flight, and whether it is the first
// that is refused since allowTasks.
func (g *grants) refuseTask(task string) (busy, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tasks == nil {
		g.tasks = make(map[string]bool)
	}
	first = len(g.tasks) == 0
	g.tasks[task] = true
	return g.inFlight.task == task, first
}

// refusedTasks returns the tasks that are refused.
func (g *grants) refusedTasks() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]string, 0, len(g.tasks))
	for t := range g.tasks {
		out = append(out, t)
	}
	return out
}

// allowTasks reports whether others are refused still.
func (g *grants) allowTasks(tasks []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range tasks {
		delete(g.tasks, t)
	}
	return len(g.tasks) > 0
}

// member notes the task group of a task, empty for one that has none any more.
func (g *grants) member(task, group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups == nil {
		g.groups, g.sizes, g.held = make(map[string]string), make(map[string]int), make(map[string]int)
	}
	if was := g.groups[task]; was != "" {
		delete(g.groups, task)
		if g.sizes[was]--; g.sizes[was] == 0 {
			delete(g.sizes, was)
		}
	}
	if group != "" {
		g.groups[task] = group
		g.sizes[group]++
	}
}

// hold refuses all tasks of a group until letGo. It reports false, and does nothing, if
// there are none.
func (g *grants) hold(group string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sizes[group] == 0 {
		return false
	}
	g.held[group]++
	return true
}

// letGo undoes hold. It reports false, and does nothing, if the group would be free then
// and free is not set.
func (g *grants) letGo(group string, free bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held[group] == 1 && !free {
		return false
	}
	if g.held[group]--; g.held[group] == 0 {
		delete(g.held, group)
	}
	return true
}

// settle waits until nothing matching is in flight.
func (g *grants) settle(match func(grant) bool) {
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(settleLimit / 1000) {
		g.mu.Lock()
		busy := match(g.inFlight)
		g.mu.Unlock()
		if !busy {
			return
		}
	}
}
