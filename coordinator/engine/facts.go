package engine

import (
	"cmp"
	"slices"
	"strings"
	"time"

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
func (e *Engine) Explain(appID, taskID string) *explain.Core { return e.Explaining()(appID, taskID) }

// Explaining returns a function that explains many tasks as Explain does, nearly as of one moment:
// what they share is looked up once. It is for one goroutine, and for a short time.
func (e *Engine) Explaining() func(appID, taskID string) *explain.Core {
	x := explaining{
		submitted: e.submitted, nodes: e.preds.Explaining(), partition: e.corePartition(),
		queues: make(map[string][]explain.Holder), users: make(map[[3]string][]explain.Holder),
		trackers: make(map[[2]string]*tracked), orders: make(map[string]map[string]int), apps: make(map[string]*ranks),
	}
	return x.explain
}

// explaining keeps what tasks share.
type explaining struct {
	submitted func(appID string) *time.Time
	nodes     *predicates.Explaining
	partition *scheduler.PartitionContext // nil once the core has been stopped
	queues    map[string][]explain.Holder
	// users are limits by queue, user and group; trackers what the core has of a user or group.
	users    map[[3]string][]explain.Holder
	trackers map[[2]string]*tracked
	// orders are the places of tasks in their application, apps the ranks of applications in
	// their queue.
	orders map[string]map[string]int
	apps   map[string]*ranks
}

func (x *explaining) explain(appID, taskID string) *explain.Core {
	if x.partition == nil {
		return nil
	}
	app := x.partition.GetApplication(appID)
	if app == nil {
		return nil
	}
	facts := &explain.Core{
		ApplicationState: app.CurrentState(), BackoffUntil: app.GetBackoffDeadline(),
		Reserved: app.NodeReservedForAsk(taskID),
		Queues:   x.queuesOf(app.GetQueuePath()),
		Users:    x.usersOf(app),
	}
	ask := app.GetAllocationAsk(taskID)
	facts.Asked = ask != nil
	if ask != nil && !ask.IsAllocated() { // else it waits no more
		facts.Order = x.orderOf(app, ask)
		if at := x.submitted(appID); at != nil { // the core's is that of its first ask
			facts.Order.Submitted = at
		}
	}
	if why, err := x.nodes.Explain(taskID); err == nil {
		facts.Nodes = nodesOf(why)
	}
	return facts
}

// submitted is when an application was submitted, nil if that is not known.
func (e *Engine) submitted(appID string) *time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[appID]
	if a == nil || a.rec.Submitted == 0 {
		return nil
	}
	at := a.rec.Submitted.Time()
	return &at
}

func (x *explaining) queuesOf(path string) []explain.Holder {
	known, ok := x.queues[path]
	if !ok {
		known = queuesOf(x.partition, path)
		x.queues[path] = known
	}
	return known
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

// tracked is what the core has of a user or group. What it says of many running applications is
// long.
type tracked struct {
	queues *dao.ResourceUsageDAOInfo
	groups map[string]string
}

func (x *explaining) tracker(kind, name string) *tracked {
	key := [2]string{kind, name}
	known, ok := x.trackers[key]
	if ok {
		return known
	}
	manager := ugm.GetUserManager()
	if kind == explain.KindUser {
		if t := manager.GetUserTracker(name); t != nil {
			info := t.GetResourceUsageDAOInfo()
			known = &tracked{info.Queues, info.Groups}
		}
	} else if t := manager.GetGroupTracker(name); t != nil {
		known = &tracked{queues: t.GetResourceUsageDAOInfo().Queues}
	}
	x.trackers[key] = known
	return known
}

// usersOf returns the limits of the application's user and of the group that it counts for, those
// of the leaf first.
func (x *explaining) usersOf(app *objects.Application) []explain.Holder {
	user, path := app.GetUser().User, app.GetQueuePath()
	of := x.tracker(explain.KindUser, user)
	if of == nil {
		return nil
	}
	group := of.groups[app.ApplicationID]
	key := [3]string{path, user, group}
	holders, ok := x.users[key]
	if ok {
		return holders
	}
	holders = limitsOn(path, explain.KindUser, user, of.queues)
	if group != "" {
		if of := x.tracker(explain.KindGroup, group); of != nil {
			holders = append(holders, limitsOn(path, explain.KindGroup, group, of.queues)...)
		}
	}
	x.users[key] = holders
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
func (x *explaining) orderOf(app *objects.Application, ask *objects.Allocation) *explain.Order {
	order := &explain.Order{Priority: ask.GetPriority()}
	if at := app.GetSubmissionTime(); !at.IsZero() {
		order.Submitted = &at
	}
	places, ok := x.orders[app.ApplicationID]
	if !ok {
		places = placesOf(app)
		x.orders[app.ApplicationID] = places
	}
	order.Pods = places[ask.GetAllocationKey()]
	queue := app.GetQueue()
	if queue == nil {
		return order
	}
	in, ok := x.apps[queue.GetQueuePath()]
	if !ok {
		in = ranksOf(queue)
		x.apps[queue.GetQueuePath()] = in
	}
	order.Policy, order.Applications = in.info.SortingPolicy, in.ahead(app)
	return order
}

// placesOf says how many of an application's asks come before each, in the core's order: see
// objects.Allocation.LessThan.
func placesOf(app *objects.Application) map[string]int {
	type place struct {
		key      string
		priority int32
		at       time.Time
	}
	var waiting []place
	for _, ask := range app.GetAllRequests() {
		if !ask.IsAllocated() {
			waiting = append(waiting, place{ask.GetAllocationKey(), ask.GetPriority(), ask.GetCreateTime()})
		}
	}
	slices.SortFunc(waiting, func(a, b place) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), a.at.Compare(b.at), cmp.Compare(a.key, b.key))
	})
	places := make(map[string]int, len(waiting))
	for i, ask := range waiting {
		places[ask.key] = i
	}
	return places
}

// ranks are the applications of a queue that wait for something, in their order.
type ranks struct {
	info       dao.PartitionQueueDAOInfo
	guaranteed *resources.Resource
	waiting    []rank
}

func ranksOf(queue *objects.Queue) *ranks {
	r := &ranks{info: queue.GetPartitionQueueDAOInfo(false), guaranteed: queue.GetGuaranteedResource()}
	for _, app := range queue.GetCopyOfApps() {
		if resources.StrictlyGreaterThanZero(app.GetPendingResource()) {
			r.waiting = append(r.waiting, rankOf(app))
		}
	}
	slices.SortFunc(r.waiting, r.before)
	return r
}

// ahead counts those that come before an application.
func (r *ranks) ahead(app *objects.Application) int {
	n, _ := slices.BinarySearchFunc(r.waiting, rankOf(app), r.before)
	return n
}

// rank is what the core compares of applications.
type rank struct {
	priority  int32
	submitted time.Time
	allocated *resources.Resource
}

func rankOf(app *objects.Application) rank {
	return rank{app.GetAskMaxPriority(), app.GetSubmissionTime(), app.GetAllocatedResource()}
}

// before compares two applications of a queue as the core does.
func (r *ranks) before(a, b rank) int {
	priority := cmp.Compare(b.priority, a.priority)
	sort := a.submitted.Compare(b.submitted)
	if r.info.SortingPolicy == "fair" {
		sort = resources.CompUsageRatio(a.allocated, b.allocated, r.guaranteed)
	}
	if r.info.PrioritySorting {
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
