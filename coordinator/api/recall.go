package api

import (
	"cmp"
	"context"
	"math"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// A core counts times, states and placeholders from when it was told of an application. What
// the records have of that is as old as the application, whoever leads, and is what every lead
// answers with: a failover changes nothing of it. Without a record the core's word stands.

// applicationOf is what core and records have of an application.
func (c *core) applicationOf(ctx context.Context, app *objects.Application) *dao.ApplicationDAOInfo {
	out := applicationOf(app)
	c.read(ctx, func(l *ledger.Ledger) { recallApplication(l, out) })
	return out
}

// nodeOf is what core and records have of a node.
func (c *core) nodeOf(ctx context.Context, node *objects.Node) *dao.NodeDAOInfo {
	out := nodeOf(node)
	c.read(ctx, func(l *ledger.Ledger) { recallAllocations(l, out.Allocations) })
	return out
}

func recallApplication(l *ledger.Ledger, out *dao.ApplicationDAOInfo) {
	recallAllocations(l, out.Allocations)
	for _, ask := range out.Requests {
		if task := l.TaskByID(ask.AllocationKey); task != nil && task.Submitted != 0 {
			ask.RequestTime = int64(task.Submitted)
		}
	}
	if app := l.App(out.ApplicationID); app != nil {
		recallApp(app, out)
		out.MaxUsedResource = l.MostUsed(app.ID)
	}
}

// recallApp puts in what the record of an application has.
func recallApp(app *ledger.App, out *dao.ApplicationDAOInfo) {
	if app.Submitted != 0 {
		out.SubmissionTime = int64(app.Submitted)
	}
	if ends(app.State) {
		out.State = string(app.State)
	}
	if app.State.Terminal() { // A core takes out what has ended in its own way.
		out.MaxRequestPriority = math.MinInt32 // the core's for one without asks
		if app.Finished != 0 {
			finished := int64(app.Finished)
			out.FinishedTime = &finished
		}
	}
	started := app.Started
	if !app.State.Terminal() && rankOf[out.State] < rankOf[string(ledger.AppStateRunning)] {
		started = 0 // It waits for its first pod.
	}
	out.StartTime = started.Time().UnixMilli() // that of time.Time's zero value if it has not, as in the core
	if log := recallLog(app, out); len(log) > 0 || len(app.StateLog) > 0 {
		out.StateLog = log
	}
	if len(app.Gang) > 0 {
		out.PlaceholderData = placeholdersOf(app)
	}
	out.ResourceHistory = historyOf(app)
}

// historyOf is what allocations took that have ended. Of an application that has, the core
// forgets it.
func historyOf(app *ledger.App) dao.ResourceHistory {
	kinds := make(map[ledger.ConsumptionKind]map[string]map[string]int64)
	for _, kind := range []ledger.ConsumptionKind{ledger.ConsumedByPods, ledger.ConsumedByPreempted, ledger.ConsumedByPlaceholders} {
		kinds[kind] = make(map[string]map[string]int64)
	}
	for _, c := range app.Consumed {
		if of := kinds[c.Kind]; of != nil && !app.State.Terminal() {
			of[cmp.Or(c.InstanceType, objects.UnknownInstanceType)] = c.ResourceSeconds
		}
	}
	return dao.ResourceHistory{
		ResourceUsage:       kinds[ledger.ConsumedByPods],
		PreemptedResource:   kinds[ledger.ConsumedByPreempted],
		PlaceholderResource: kinds[ledger.ConsumedByPlaceholders],
	}
}

// ends reports whether an application has ended, or is on its way there, or gives up its gang: in these
// states a new core is told of its pods alone, and takes it for one that runs.
func ends(state ledger.AppState) bool {
	switch state {
	case ledger.AppStateResuming, ledger.AppStateFailing, ledger.AppStateKilling:
		return true
	}
	return state.Terminal()
}

// rankOf orders the states in which an application can be in the core.
var rankOf = map[string]int{
	"New": 0, "Accepted": 1, "Resuming": 2, "Running": 3, "Completing": 4, "Failing": 4,
	"Completed": 5, "Failed": 5, "Rejected": 5, "Killing": 4, "Killed": 5,
}

// completing is a state of applications that only the core has.
const completing ledger.AppState = "Completing"

// recallLog is when an application came into the states that it has been in, as far as there
// are such states in the core. It is completing while it has nothing to do.
func recallLog(app *ledger.App, out *dao.ApplicationDAOInfo) []*dao.StateDAOInfo {
	var log []*dao.StateDAOInfo
	seen := make(map[ledger.AppState]bool)
	idle := func() {
		if app.Idle != 0 {
			seen[completing] = true
			log = append(log, &dao.StateDAOInfo{Time: int64(app.Idle), ApplicationState: string(completing)})
		}
	}
	for _, entry := range app.StateLog {
		rank, known := rankOf[string(entry.State)]
		if !known || rank == 0 || rank > rankOf[out.State] || seen[entry.State] {
			continue
		}
		seen[entry.State] = true
		if entry.State == ledger.AppStateCompleted {
			idle()
		}
		log = append(log, &dao.StateDAOInfo{Time: int64(entry.At), ApplicationState: string(entry.State)})
	}
	if out.State == string(completing) {
		idle()
	}
	for _, entry := range out.StateLog {
		if entry.ApplicationState == out.State && !seen[ledger.AppState(out.State)] {
			seen[ledger.AppState(out.State)] = true
			log = append(log, entry)
		}
	}
	return log
}

// placeholdersOf says how many placeholders each group of a gang wants, and what has become
// of them.
func placeholdersOf(app *ledger.App) []*dao.PlaceholderDAOInfo {
	out := make([]*dao.PlaceholderDAOInfo, 0, len(app.Gang))
	for _, group := range app.Gang {
		out = append(out, &dao.PlaceholderDAOInfo{
			TaskGroupName: group.Name, Count: int64(group.Wanted), MinResource: minResourceOf(app, group.Name),
			Replaced: int64(group.Replaced), TimedOut: int64(group.TimedOut),
		})
	}
	return out
}

func minResourceOf(app *ledger.App, group string) map[string]int64 {
	for i := range app.TaskGroups {
		if app.TaskGroups[i].Name == group {
			return engine.MinResourceOf(&app.TaskGroups[i])
		}
	}
	return nil
}

// recallAllocations puts in when pods were submitted, when they got their places, and whether
// placeholders held these. Since 1.9 the core has the first time for both.
func recallAllocations(l *ledger.Ledger, all []*dao.AllocationDAOInfo) {
	for _, alloc := range all {
		task := l.TaskByID(alloc.AllocationKey)
		if task == nil {
			continue
		}
		alloc.PlaceholderUsed = alloc.PlaceholderUsed || task.Swapped
		if task.Submitted != 0 && task.Allocated != 0 {
			alloc.RequestTime, alloc.AllocationTime = int64(task.Submitted), int64(task.Allocated)
			alloc.AllocationDelay = max(0, alloc.AllocationTime-alloc.RequestTime)
		}
	}
}
