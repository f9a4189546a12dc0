package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/scheduler/ugm"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
	"github.com/understudy-ha/understudy/coordinator/explain"
)

// Explain returns what the engine knows of why a task has no place: an answer for one moment, which
// costs a look at every node. It returns nil for an application that the core does not have.
// Only the engine of a lead knows quotas and nodes as they are.
func (e *Engine) Explain(appID, taskID string) *explain.Core {
	p := e.corePartition()
	if p == nil {
		return nil
	}
	app := p.GetApplication(appID)
	if app == nil {
		return nil
	}
	facts := &explain.Core{
		ApplicationState: app.CurrentState(), BackoffUntil: app.GetBackoffDeadline(),
		Reserved: app.NodeReservedForAsk(taskID),
		Queues:   queuesOf(p, app.GetQueuePath()),
		Users:    usersOf(app),
	}
	ask := app.GetAllocationAsk(taskID)
	facts.Asked = ask != nil
	if ask != nil {
		facts.Order = orderOf(app, ask)
		e.mu.Lock()
		if a := e.apps[appID]; a != nil && a.rec.Submitted != 0 { // The core's is that of its first ask.
			at := a.rec.Submitted.Time()
			facts.Order.Submitted = &at
		}
		e.mu.Unlock()
	}
	if why, err := e.preds.Explain(taskID); err == nil {
		facts.Nodes = nodesOf(why)
	}
	return facts
}

// queuesOf returns the queues on a path, the leaf first. What the root may have is the cluster.
func queuesOf(p *scheduler.PartitionContext, path string) []explain.Holder {
	var queues []explain.Holder
	for ; path != ""; path = path[:max(0, strings.LastIndexByte(path, '.'))] {
		q := p.GetQueue(path)
		if q == nil {
			continue
		}
		info := q.GetPartitionQueueDAOInfo(false)
		holder := explain.Holder{
			Kind: explain.KindQueue, Queue: path, Used: info.AllocatedResource, Max: info.MaxResource,
			Guaranteed: info.GuaranteedResource, Running: int(min(info.RunningApps, 1<<31)), MaxRunning: info.MaxRunningApps,
		}
		if !strings.Contains(path, ".") {
			holder.Max = nil
		}
		queues = append(queues, holder)
	}
	return queues
}

// usersOf returns the limits of the application's user and of the group that it counts for, those
// of the leaf first.
func usersOf(app *objects.Application) []explain.Holder {
	manager, user := ugm.GetUserManager(), app.GetUser().User
	var holders []explain.Holder
	tracker := manager.GetUserTracker(user)
	if tracker == nil {
		return nil
	}
	info := tracker.GetResourceUsageDAOInfo()
	holders = limitsOn(app.GetQueuePath(), explain.KindUser, user, info.Queues)
	if group := info.Groups[app.ApplicationID]; group != "" {
		if tracker := manager.GetGroupTracker(group); tracker != nil {
			holders = append(holders, limitsOn(app.GetQueuePath(), explain.KindGroup, group, tracker.GetResourceUsageDAOInfo().Queues)...)
		}
	}
	return holders
}

func limitsOn(path, kind, name string, usage *dao.ResourceUsageDAOInfo) []explain.Holder {
	var holders []explain.Holder
	for usage != nil {
		holders = append(holders, explain.Holder{
			Kind: kind, Name: name, Queue: usage.QueuePath, Used: usage.ResourceUsage, Max: usage.MaxResources,
			Running: len(usage.RunningApplications), MaxRunning: usage.MaxApplications,
		})
		i := slices.IndexFunc(usage.Children, func(c *dao.ResourceUsageDAOInfo) bool {
			return path == c.QueuePath || strings.HasPrefix(path, c.QueuePath+".")
		})
		if i < 0 {
			break
		}
		usage = usage.Children[i]
	}
	slices.Reverse(holders)
	return holders
}

// orderOf returns the place of an ask among those that wait in its queue.
func orderOf(app *objects.Application, ask *objects.Allocation) *explain.Order {
	order := &explain.Order{Priority: ask.GetPriority()}
	if at := app.GetSubmissionTime(); !at.IsZero() {
		order.Submitted = &at
	}
	for _, other := range app.GetAllRequests() {
		if other.GetAllocationKey() != ask.GetAllocationKey() && !other.IsAllocated() && ask.LessThan(other) &&
			(!other.LessThan(ask) || other.GetAllocationKey() < ask.GetAllocationKey()) {
			order.Pods++
		}
	}
	queue := app.GetQueue()
	if queue == nil {
		return order
	}
	info := queue.GetPartitionQueueDAOInfo(false)
	order.Policy = info.SortingPolicy
	for _, other := range queue.GetCopyOfApps() {
		if other.ApplicationID != app.ApplicationID && resources.StrictlyGreaterThanZero(other.GetPendingResource()) &&
			before(other, app, info, queue.GetGuaranteedResource()) < 0 {
			order.Applications++
		}
	}
	return order
}

// before compares two applications of a queue as the core does.
func before(a, b *objects.Application, queue dao.PartitionQueueDAOInfo, guaranteed *resources.Resource) int {
	priority := cmp.Compare(b.GetAskMaxPriority(), a.GetAskMaxPriority())
	sort := a.GetSubmissionTime().Compare(b.GetSubmissionTime())
	if queue.SortingPolicy == "fair" {
		sort = resources.CompUsageRatio(a.GetAllocatedResource(), b.GetAllocatedResource(), guaranteed)
	}
	if queue.PrioritySorting {
		return cmp.Or(priority, sort)
	}
	return cmp.Or(sort, priority)
}

func nodesOf(why predicates.Explanation) *explain.Nodes {
	nodes := &explain.Nodes{Total: why.Nodes, Fit: why.Fits}
	for reason, n := range why.Counts {
		nodes.Reasons = append(nodes.Reasons, explain.NodeReason{Reason: reason, Nodes: n, Example: why.Examples[reason]})
	}
	slices.SortFunc(nodes.Reasons, func(a, b explain.NodeReason) int {
		return cmp.Or(cmp.Compare(b.Nodes, a.Nodes), cmp.Compare(a.Reason, b.Reason))
	})
	return nodes
}
