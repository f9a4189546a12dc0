package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/security"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/scheduler/ugm"
	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// BetweenCore puts wrap between the engine and its core.
func (e *Engine) BetweenCore(wrap func(api.SchedulerAPI) api.SchedulerAPI) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proxy = wrap(e.proxy)
}

// Barrier waits until the core has seen all that it was sent about applications.
func (e *Engine) Barrier(ctx context.Context) error { return e.barrier(ctx) }

// IsBarrier and IsNodeBarrier say whether a request is a barrier.
func IsBarrier(r *si.ApplicationRequest) bool {
	return len(r.New) == 1 && r.New[0].PartitionName == barrierPartition
}

func IsNodeBarrier(r *si.NodeRequest) bool {
	return len(r.Nodes) == 1 && r.Nodes[0].Attributes[sicommon.NodePartition] == barrierPartition
}

// IdleTimer returns the timer that runs while an application is idle.
func (e *Engine) IdleTimer(id string) *time.Timer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.apps[id].idleTimer
}

// HangPredicates keeps the core's scheduling loop in the predicates until it is
// let go.
func (e *Engine) HangPredicates() (letGo func()) {
	e.grants.mu.Lock()
	return e.grants.mu.Unlock
}

// HangQueue, HangApp and HangNode hold a lock of the core until it is let go.
func (e *Engine) HangQueue(name string) (letGo func()) {
	q := e.corePartition().GetQueue(name)
	q.Lock()
	return q.Unlock
}

func (e *Engine) HangApp(id string) (letGo func()) {
	x := e.corePartition().GetApplication(id)
	x.Lock()
	return x.Unlock
}

func (e *Engine) HangNode(name string) (letGo func()) {
	n := e.corePartition().GetNode(name)
	n.Lock()
	return n.Unlock
}

// NodeType is the instance type of a node, as the core has it.
func (e *Engine) NodeType(name string) string {
	return e.corePartition().GetNode(name).GetInstanceType()
}

// Remembered is how many nodes that are gone the engine remembers something of.
func (e *Engine) Remembered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.grants.mu.Lock()
	defer e.grants.mu.Unlock()
	return len(e.waiting) + len(e.removing) + len(e.grants.nodes)
}

// Rejected is how many applications the core has as rejected, and how many of them have
// expired; zero while it may be rejecting more.
func (e *Engine) Rejected() (rejected, expired int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unanswered > 0 {
		return 0, 0
	}
	for _, x := range e.corePartition().GetRejectedApplications() {
		if x.IsExpired() {
			expired++
		} else {
			rejected++
		}
	}
	return rejected, expired
}

// ExtraConfig is what the core is told beside its queues.
func ExtraConfig(data map[string]string, level string) map[string]string {
	_, extra := split(data, level)
	return extra
}

// ReleaseWhileSwapping asks for a task that is to be swapped in for a placeholder, and
// releases the placeholder before the engine has heard that the core has begun to.
func (e *Engine) ReleaseWhileSwapping(app *ledger.App, real, placeholder *ledger.Task, node string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.ask(app, real); err != nil {
		return err
	}
	for e.swapping(placeholder.ID, node) == nil {
		time.Sleep(pollEvery)
	}
	return e.release(placeholder, ledger.StoppedByRM)
}

// CleanQueues does what the core's cleaner does every ten seconds: it takes out the
// queues that are empty, and drained or nobody's.
func (e *Engine) CleanQueues() {
	cleanQueues(e.corePartition().GetQueue("root"))
}

func cleanQueues(q *objects.Queue) {
	for _, child := range q.GetCopyOfChildren() {
		cleanQueues(child)
	}
	if (q.IsDraining() || !q.IsManaged()) && q.IsEmpty() {
		q.RemoveQueue()
	}
}

// Rules describes by what the core schedules: queues with their limits, properties and
// templates, placement rules, policies, limits of users and groups, and other settings.
func (e *Engine) Rules() []string {
	p := e.corePartition()
	lines := []string{
		fmt.Sprint("nodes: ", p.GetNodeSortingPolicyType(), p.GetNodeSortingResourceWeights()),
		fmt.Sprint("preemption: ", p.IsPreemptionEnabled(), p.IsQuotaPreemptionEnabled()),
		fmt.Sprint("settings: ", configs.GetConfigMap()),
	}
	for i, rule := range p.GetPlacementRules() {
		lines = append(lines, said(fmt.Sprint("rule ", i), rule))
	}
	for _, queue := range []string{"root.a", "root.p.x", "root.p.y", "root.d.e.late"} { // whose users are all known then
		for _, user := range []string{"alice", "bob"} {
			ugm.GetUserManager().Headroom(queue, "nobody's", security.UserGroup{User: user, Groups: []string{"dev"}})
		}
	}
	for _, tracker := range ugm.GetUserManager().GetUserTrackers() {
		lines = append(lines, limitsOf("user "+tracker.GetResourceUsageDAOInfo().UserName, tracker.GetResourceUsageDAOInfo().Queues)...)
	}
	for _, tracker := range ugm.GetUserManager().GetGroupTrackers() {
		// An application counts for the group whose limit it found when it started, as in YuniKorn.
		lines = append(lines, limitsOf("group "+tracker.GetResourceUsageDAOInfo().GroupName, unused(tracker.GetResourceUsageDAOInfo().Queues))...)
	}
	lines = append(lines, rulesOf(p.GetQueue("root"))...)
	slices.Sort(lines)
	return lines
}

func said(what string, v any) string {
	text, err := json.Marshal(v)
	return fmt.Sprint(what, ": ", string(text), err)
}

func unused(at *dao.ResourceUsageDAOInfo) *dao.ResourceUsageDAOInfo {
	at.ResourceUsage, at.RunningApplications = nil, nil
	for _, below := range at.Children {
		unused(below)
	}
	return at
}

func limitsOf(who string, at *dao.ResourceUsageDAOInfo) (lines []string) {
	for _, below := range at.Children {
		lines = append(lines, limitsOf(who, below)...)
	}
	if len(at.RunningApplications) == 0 && len(at.MaxResources) == 0 && at.MaxApplications == 0 {
		return lines // the core makes one for whom it looks at
	}
	at.Children = nil
	slices.Sort(at.RunningApplications)
	return append(lines, said(who, at))
}

func rulesOf(q *objects.Queue) (lines []string) {
	for _, child := range q.GetCopyOfChildren() {
		lines = append(lines, rulesOf(child)...)
	}
	at := q.GetPartitionQueueDAOInfo(false)
	slices.Sort(at.ChildNames)
	at.HeadRoom, at.AbsUsedCapacity = nil, nil
	if !at.IsLeaf {
		at.PreemptionDelay = "" // which counts for leaves alone
	}
	access := [2]bool{}
	for i, user := range []string{"alice", "bob"} {
		access[i] = q.CheckSubmitAccess(security.UserGroup{User: user})
	}
	return append(lines, said("queue "+at.QueueName, at)+fmt.Sprint(access, q.GetMaxAppUnschedAskBackoff(), q.GetBackoffDelay()))
}

// Queues describes the queues that have applications.
func (e *Engine) Queues() map[string]string {
	out := make(map[string]string)
	describe(e.corePartition().GetQueue("root"), out)
	return out
}

func describe(q *objects.Queue, out map[string]string) {
	for _, child := range q.GetCopyOfChildren() {
		describe(child, out)
	}
	var apps []string
	for id := range q.GetCopyOfApps() {
		apps = append(apps, id)
	}
	if len(apps) > 0 {
		slices.Sort(apps)
		out[q.GetQueuePath()] = fmt.Sprintf("%v, %s, configured: %v, at most %v", apps, q.CurrentState(), q.IsManaged(), q.GetMaxQueueSet())
	}
}

// Stranded reports whether there are applications in queues that are not leaves, or lie
// below one.
func (e *Engine) Stranded() bool { return stranded(e.corePartition().GetQueue("root"), false) }

func stranded(q *objects.Queue, belowLeaf bool) bool {
	leaf := q.IsLeafQueue()
	if len(q.GetCopyOfApps()) > 0 && (!leaf || belowLeaf) {
		return true
	}
	for _, child := range q.GetCopyOfChildren() {
		if stranded(child, belowLeaf || leaf) {
			return true
		}
	}
	return false
}

// Order is that in which the core thinks the applications of a queue were submitted.
func (e *Engine) Order(queue string) (ids []string) {
	apps := slices.SortedFunc(maps.Values(e.corePartition().GetQueue(queue).GetCopyOfApps()), func(a, b *objects.Application) int {
		return a.GetSubmissionTime().Compare(b.GetSubmissionTime())
	})
	for _, x := range apps {
		ids = append(ids, x.ApplicationID)
	}
	return ids
}

// LoseQueue has the core forget a draining queue with all its applications in it.
func (e *Engine) LoseQueue(name string) {
	q := e.corePartition().GetQueue(name)
	apps := q.GetCopyOfApps()
	for _, x := range apps {
		q.RemoveApplication(x)
	}
	q.RemoveQueue()
	for _, x := range apps {
		q.AddApplication(x)
		q.IncAllocatedResource(x.GetAllocatedResource(), false)
	}
}

// QueueSays is what the core allows a queue.
func (e *Engine) QueueSays(name string) string {
	q := e.corePartition().GetQueue(name).GetPartitionQueueDAOInfo(false)
	return fmt.Sprintf("%s: max vcore %d, guaranteed vcore %d, %d applications, %s",
		q.QueueName, q.MaxResource["vcore"], q.GuaranteedResource["vcore"], q.MaxRunningApps, q.SortingPolicy)
}

// QueueWaits is how long the core waits in a queue before it does something.
func (e *Engine) QueueWaits(name string) string {
	q := e.corePartition().GetQueue(name)
	return fmt.Sprintf("preemption after %v, back-off after %d for %v", q.GetPreemptionDelay(), q.GetMaxAppUnschedAskBackoff(), q.GetBackoffDelay())
}

// Preempting is how much of a queue, in milli-CPUs, the core has chosen to preempt.
func (e *Engine) Preempting(name string) int64 {
	return int64(e.corePartition().GetQueue(name).GetPreemptingResource().Resources["vcore"])
}

// ResolveBy does before the core starts what Start does.
var ResolveBy = resolveBy

// Chored waits until everything that had to wait for the core has been done.
func (e *Engine) Chored(ctx context.Context) error { return e.chored(ctx) }
