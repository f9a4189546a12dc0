package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/webservice"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// queueApplications answers with the applications of one queue.
func (c *core) queueApplications(w http.ResponseWriter, r *http.Request) {
	if _, err := queueName(r); err != nil { // before the partition is looked for, unlike elsewhere
		err.write(w)
		return
	}
	queue, err := c.queue(r)
	if err != nil {
		err.write(w)
		return
	}
	c.writeApps(w, r, valuesOf(queue.GetCopyOfApps()))
}

// queueApplicationsByState does that for the state active, of which one status may be chosen.
func (c *core) queueApplicationsByState(w http.ResponseWriter, r *http.Request) {
	queue, err := c.queue(r)
	if err != nil {
		err.write(w)
		return
	}
	if strings.ToLower(param(r, "state")) != webservice.AppStateActive {
		badRequest("Only following application states are allowed: " + webservice.AppStateActive).write(w)
		return
	}
	status, err := activeStatus(r)
	if err != nil {
		err.write(w)
		return
	}
	c.writeApps(w, r, withStatus(valuesOf(queue.GetCopyOfApps()), status))
}

// partitionApplications answers with the applications of a partition that are active,
// rejected or completed. Of those that have ended the core knows what it has seen itself;
// the rest is in the records.
func (c *core) partitionApplications(w http.ResponseWriter, r *http.Request) {
	partition, err := c.partition(r)
	if err != nil {
		err.write(w)
		return
	}
	switch strings.ToLower(param(r, "state")) {
	case webservice.AppStateActive:
		status, err := activeStatus(r)
		if err != nil {
			err.write(w)
			return
		}
		c.writeApps(w, r, withStatus(partition.GetApplications(), status))
	case webservice.AppStateRejected:
		writeList(c.turns, w, r, c.ended(r.Context(), rejected), func(app staleApp) any { return app.dao() })
	case webservice.AppStateCompleted:
		c.writeCompleted(w, r, partition.GetCompletedApplications())
	default:
		badRequest("Only following application states are allowed: " + strings.Join([]string{
			webservice.AppStateActive, webservice.AppStateRejected, webservice.AppStateCompleted,
		}, ", ")).write(w)
	}
}

// ended returns the applications of the records that have ended and that are chosen. The core
// has some of them too, but forgets them with its process, and notes those that were rejected
// without the lock under which it lists them.
func (c *core) ended(ctx context.Context, chosen func(*ledger.App) bool) (found []staleApp) {
	c.read(ctx, func(l *ledger.Ledger) {
		for app := range l.Apps() {
			if app.State.Terminal() && chosen(app) {
				found = append(found, copyOf(l, app))
			}
		}
	})
	return found
}

func rejected(app *ledger.App) bool { return app.State == ledger.AppStateRejected }

// besides chooses applications that are not among those of a core.
func besides(apps []*objects.Application) func(*ledger.App) bool {
	known := make(map[string]bool, len(apps))
	for _, app := range apps {
		known[app.ApplicationID] = true
	}
	return func(app *ledger.App) bool { return !known[app.ID] }
}

// writeCompleted answers with applications of the core, and with those of the records that have
// ended and that the core does not have.
func (c *core) writeCompleted(w http.ResponseWriter, r *http.Request, apps []*objects.Application) {
	list := each(apps, func(app *objects.Application) func() any {
		return func() any { return c.applicationOf(r.Context(), app) }
	})
	unknown := besides(apps)
	for _, app := range c.ended(r.Context(), func(app *ledger.App) bool { return !rejected(app) && unknown(app) }) {
		list = append(list, func() any { return app.dao() })
	}
	writeList(c.turns, w, r, list, func(get func() any) any { return get() })
}

// application answers with one application: of a queue if one is named.
func (c *core) application(w http.ResponseWriter, r *http.Request) {
	app, err := c.findApplication(r)
	if err != nil {
		err.write(w)
		return
	}
	c.turns.write(w, r, func() any { return c.applicationOf(r.Context(), app) })
}

func (c *core) findApplication(r *http.Request) (*objects.Application, *refusal) {
	id := param(r, "application")
	name, err := unescaped(r, "queue")
	if err != nil {
		return nil, err
	}
	partition, err := c.partition(r)
	if err != nil {
		return nil, err
	}
	app := partition.GetApplication(id)
	if name != "" {
		if err := validQueue(name); err != nil {
			return nil, err
		}
		queue := partition.GetQueue(name)
		if queue == nil {
			return nil, notFound(webservice.QueueDoesNotExists)
		}
		app = queue.GetApplication(id)
	}
	if app == nil {
		return nil, notFound(webservice.ApplicationDoesNotExists)
	}
	return app, nil
}

func (c *core) writeApps(w http.ResponseWriter, r *http.Request, apps []*objects.Application) {
	writeList(c.turns, w, r, apps, func(app *objects.Application) any { return c.applicationOf(r.Context(), app) })
}

// activeStatus returns the status that a request asks for, empty for any.
func activeStatus(r *http.Request) (string, *refusal) {
	allowed := []string{"new", "accepted", "running", "completing", "failing", "resuming"}
	status := strings.ToLower(r.URL.Query().Get("status"))
	if status != "" && !slices.Contains(allowed, status) {
		return "", badRequest("Only following active statuses are allowed: " + strings.Join(allowed, ","))
	}
	return status, nil
}

// withStatus keeps the applications that have a status, all if it is empty.
func withStatus(apps []*objects.Application, status string) []*objects.Application {
	if status == "" {
		return apps
	}
	return slices.DeleteFunc(apps, func(app *objects.Application) bool {
		return strings.ToLower(app.CurrentState()) != status
	})
}

func applicationOf(app *objects.Application) *dao.ApplicationDAOInfo {
	var backoff *time.Time
	if at := app.GetBackoffDeadline(); !at.IsZero() {
		backoff = &at
	}
	user := app.GetUser()
	return &dao.ApplicationDAOInfo{
		ApplicationID:      app.ApplicationID,
		UsedResource:       app.GetAllocatedResource().DAOMap(),
		MaxUsedResource:    app.GetMaxAllocatedResource().DAOMap(),
		PendingResource:    app.GetPendingResource().DAOMap(),
		Partition:          common.GetPartitionNameWithoutClusterID(app.Partition),
		QueueName:          app.GetQueuePath(),
		SubmissionTime:     app.GetSubmissionTime().UnixNano(),
		FinishedTime:       common.ZeroTimeInUnixNano(app.FinishedTime()),
		Requests:           asksOf(app.GetAllRequests()),
		Allocations:        each(app.GetAllAllocations(), allocationOf),
		State:              app.CurrentState(),
		User:               user.User,
		Groups:             user.Groups,
		RejectedMessage:    app.GetRejectedMessage(),
		PlaceholderData:    each(app.GetAllPlaceholderData(), placeholderOf),
		StateLog:           each(app.GetStateLog(), stateOf),
		HasReserved:        app.HasReserved(),
		Reservations:       app.GetReservations(),
		MaxRequestPriority: app.GetAskMaxPriority(),
		StartTime:          app.StartTime().UnixMilli(),
		ResourceHistory: dao.ResourceHistory{
			ResourceUsage:       app.GetTrackedDAOMap("usedResource"),
			PreemptedResource:   app.GetTrackedDAOMap("preemptedResource"),
			PlaceholderResource: app.GetTrackedDAOMap("placeholderResource"),
		},
		BackoffDeadline: backoff,
	}
}

func stateOf(entry *objects.StateLogEntry) *dao.StateDAOInfo {
	return &dao.StateDAOInfo{Time: entry.Time.UnixNano(), ApplicationState: entry.ApplicationState}
}

func placeholderOf(group *objects.PlaceholderData) *dao.PlaceholderDAOInfo {
	return &dao.PlaceholderDAOInfo{
		TaskGroupName: group.TaskGroupName,
		Count:         group.Count,
		MinResource:   group.MinResource.DAOMap(),
		Replaced:      group.Replaced,
		TimedOut:      group.TimedOut,
	}
}

// asksOf leaves out what has been allocated.
func asksOf(asks []*objects.Allocation) []*dao.AllocationAskDAOInfo {
	out := make([]*dao.AllocationAskDAOInfo, 0, len(asks))
	for _, ask := range asks {
		if !ask.IsAllocated() {
			out = append(out, askOf(ask))
		}
	}
	return out
}

func askOf(ask *objects.Allocation) *dao.AllocationAskDAOInfo {
	return &dao.AllocationAskDAOInfo{
		AllocationKey:       ask.GetAllocationKey(),
		AllocationTags:      ask.GetTagsClone(),
		RequestTime:         ask.GetCreateTime().UnixNano(),
		ResourcePerAlloc:    ask.GetAllocatedResource().DAOMap(),
		Priority:            strconv.Itoa(int(ask.GetPriority())),
		RequiredNodeID:      ask.GetRequiredNode(),
		ApplicationID:       ask.GetApplicationID(),
		Placeholder:         ask.IsPlaceholder(),
		TaskGroupName:       ask.GetTaskGroup(),
		AllocationLog:       logOf(ask.GetAllocationLog()),
		TriggeredPreemption: ask.HasTriggeredPreemption(),
		Originator:          ask.IsOriginator(),
		SchedulingAttempted: ask.IsSchedulingAttempted(),
		TriggeredScaleUp:    ask.HasTriggeredScaleUp(),
	}
}

// logOf is in the order in which messages occurred last.
func logOf(entries []*objects.AllocationLogEntry) []*dao.AllocationAskLogDAOInfo {
	slices.SortStableFunc(entries, func(a, b *objects.AllocationLogEntry) int {
		return a.LastOccurrence.Compare(b.LastOccurrence)
	})
	return each(entries, func(entry *objects.AllocationLogEntry) *dao.AllocationAskLogDAOInfo {
		return &dao.AllocationAskLogDAOInfo{
			Message: entry.Message, LastOccurrence: entry.LastOccurrence.UnixNano(), Count: entry.Count,
		}
	})
}

func allocationOf(alloc *objects.Allocation) *dao.AllocationDAOInfo {
	allocated := alloc.GetCreateTime().UnixNano()
	requested := allocated
	if alloc.IsPlaceholderUsed() {
		requested = alloc.GetPlaceholderCreateTime().UnixNano()
	}
	return &dao.AllocationDAOInfo{
		AllocationKey:    alloc.GetAllocationKey(),
		AllocationTags:   alloc.GetTagsClone(),
		RequestTime:      requested,
		AllocationTime:   allocated,
		AllocationDelay:  allocated - requested,
		ResourcePerAlloc: alloc.GetAllocatedResource().DAOMap(),
		Priority:         strconv.Itoa(int(alloc.GetPriority())),
		NodeID:           alloc.GetNodeID(),
		ApplicationID:    alloc.GetApplicationID(),
		Placeholder:      alloc.IsPlaceholder(),
		PlaceholderUsed:  alloc.IsPlaceholderUsed(),
		TaskGroupName:    alloc.GetTaskGroup(),
		Preempted:        alloc.IsPreempted(),
		Originator:       alloc.IsOriginator(),
	}
}
