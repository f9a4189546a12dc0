package api

import (
	"maps"
	"net/http"
	"slices"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// An understudy answers those who allow it from its view: what is in the records, in the
// core's own form. What the records do not have is left out, such as priorities and tags.

// staleApplications answers with the applications of one queue.
func (a *API) staleApplications(w http.ResponseWriter, r *http.Request) {
	queue, err := staleQueue(r)
	if err != nil {
		err.write(w)
		return
	}
	if queue == "" {
		notFound(webservice.QueueDoesNotExists).write(w)
		return
	}
	var found []staleApp
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		for app := range l.Apps() {
			if apiv1.QueueOf(app) == queue && !app.State.Terminal() {
				found = append(found, copyOf(l, app))
			}
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	writeList(a.core.turns, w, r, found, func(app staleApp) any { return app.dao() })
}

const noView = "This replica has no view of its own at the moment"

// staleApplication answers with one application.
func (a *API) staleApplication(w http.ResponseWriter, r *http.Request) {
	queue, err := staleQueue(r)
	if err != nil {
		err.write(w)
		return
	}
	var found []staleApp
	if !a.source.Read(r.Context(), func(l *ledger.Ledger) {
		app := l.App(param(r, "application"))
		if app != nil && (queue == "" || queue == apiv1.QueueOf(app)) {
			found = append(found, copyOf(l, app))
		}
	}) {
		a.unavailable(w, r, a.source.Standing(), noView)
		return
	}
	if len(found) == 0 {
		notFound(webservice.ApplicationDoesNotExists).write(w)
		return
	}
	a.core.turns.write(w, r, func() any { return found[0].dao() })
}

// staleQueue is the queue that a request names, which may be unknown; it refuses what could
// never be one, and other partitions than the one that there is.
func staleQueue(r *http.Request) (string, *refusal) {
	name, err := queueName(r)
	if err == nil && param(r, "partition") != configs.DefaultPartition {
		err = notFound(webservice.PartitionDoesNotExists)
	}
	return name, err
}

// staleApp is what the view has of an application. Records do not change, so that it may be
// kept after the view has been read.
type staleApp struct {
	app   *ledger.App
	tasks []*ledger.Task
	used  map[string]int64
	most  map[string]int64
}

func copyOf(l *ledger.Ledger, app *ledger.App) staleApp {
	return staleApp{app: app, tasks: slices.Collect(l.Tasks(app.ID)), used: l.Usage(app.ID), most: l.MostUsed(app.ID)}
}

func (s staleApp) dao() *dao.ApplicationDAOInfo {
	app := s.app
	out := &dao.ApplicationDAOInfo{
		ApplicationID:   app.ID,
		UsedResource:    s.used,
		MaxUsedResource: s.most,
		Partition:       configs.DefaultPartition,
		QueueName:       apiv1.QueueOf(app),
		SubmissionTime:  int64(app.Submitted),
		State:           string(app.State),
		User:            app.User,
		Groups:          app.Groups,
		StartTime:       app.Started.Time().UnixMilli(),
		ResourceHistory: historyOf(app),
	}
	if app.Started == 0 {
		out.StartTime = 0
	}
	if app.Finished != 0 {
		finished := int64(app.Finished)
		out.FinishedTime = &finished
	}
	if app.State == ledger.AppStateRejected {
		out.RejectedMessage = app.Message
	}
	for _, entry := range app.StateLog {
		out.StateLog = append(out.StateLog, &dao.StateDAOInfo{Time: int64(entry.At), ApplicationState: string(entry.State)})
	}
	if out.PlaceholderData = placeholdersOf(app); app.State.Terminal() {
		recallApp(app, out) // as every lead answers, whether its core has seen the end or not
	}
	pending := make(map[string]int64)
	for _, task := range s.tasks {
		switch {
		case task.State.Terminal():
		case task.Placed():
			out.Allocations = append(out.Allocations, staleAllocation(app, task))
		default:
			out.Requests = append(out.Requests, staleAsk(app, task))
			for name, amount := range task.Resources {
				pending[name] += amount
			}
		}
	}
	out.PendingResource = pending
	return out
}

func staleAllocation(app *ledger.App, task *ledger.Task) *dao.AllocationDAOInfo {
	return &dao.AllocationDAOInfo{
		AllocationKey:    task.ID,
		RequestTime:      int64(task.Submitted),
		AllocationTime:   int64(task.Allocated),
		AllocationDelay:  max(0, int64(task.Allocated-task.Submitted)),
		ResourcePerAlloc: maps.Clone(task.Resources),
		NodeID:           task.Node,
		ApplicationID:    task.AppID,
		Placeholder:      task.Placeholder,
		PlaceholderUsed:  task.Swapped,
		TaskGroupName:    task.TaskGroup,
		Preempted:        task.Termination == ledger.PreemptedByEngine,
		Originator:       task.ID == app.Originator,
	}
}

func staleAsk(app *ledger.App, task *ledger.Task) *dao.AllocationAskDAOInfo {
	return &dao.AllocationAskDAOInfo{
		AllocationKey:    task.ID,
		RequestTime:      int64(task.Submitted),
		ResourcePerAlloc: maps.Clone(task.Resources),
		ApplicationID:    task.AppID,
		Placeholder:      task.Placeholder,
		TaskGroupName:    task.TaskGroup,
		Originator:       task.ID == app.Originator,
	}
}
