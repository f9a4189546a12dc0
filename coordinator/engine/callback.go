package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"

	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// callback receives what the core says. The core calls it from several of its
// goroutines, some of which hold locks of applications and nodes: nothing here
// may call the core and wait.
type callback struct{ e *Engine }

var _ api.ResourceManagerCallback = callback{}

// UpdateAllocation implements api.ResourceManagerCallback.
func (c callback) UpdateAllocation(r *si.AllocationResponse) error {
	e := c.e
	defer e.changes.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range r.New {
		e.allocated(a.ApplicationID, a.AllocationKey, a.NodeID)
	}
	for _, rel := range r.Released {
		e.released(rel)
	}
	for _, rej := range r.RejectedAllocations {
		e.refused(rej)
	}
	return nil
}

// allocated takes note of a decision, or of the echo of one it was told.
func (e *Engine) allocated(appID, key, node string) {
	e.grants.done(key)
	t := e.tasks[key]
	if t == nil {
		// Released meanwhile. If that reached the core while the task was being
		// swapped in for a placeholder, the core has not taken note of it. (An
		// application that leaves takes everything along.)
		if a := e.apps[appID]; a == nil || a.stage == leaving {
			return
		}
		gone := &task{rec: &ledger.Task{AppID: appID, ID: key}, node: node}
		e.logErr("cannot release allocation", e.releaseSafely(gone, ledger.StoppedByRM), attrTask(key))
		return
	}
	e.taken(t)
	if t.restore {
		e.restored(t, node)
		return
	}
	t.node = node
	// Before the core can look for the next place: it waits for us here.
	e.preds.Assume(key, node)
	e.explain.forget(key)
	e.emit(ledger.Allocated{Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: key, Node: node, InstanceType: e.instanceType(node), Swapped: t.swapped})
}

// restored takes note that the core has an allocation that it was told of.
func (e *Engine) restored(t *task, node string) {
	a := e.apps[t.rec.AppID]
	if node != t.at {
		// The core decided before it read where the pod is.
		e.logErr("cannot move allocation", errors.Join(e.releaseSafely(&task{rec: t.rec, node: node}, ledger.StoppedByRM), e.sendTask(a, t)), attrTask(t.rec.ID))
		return
	}
	if t.node = node; !maps.Equal(t.res, t.rec.Resources) { // resized while it waited for its place
		e.logErr("cannot resize allocation", e.sendTask(a, t), attrTask(t.rec.ID))
	}
	if t.rec.Placeholder && !a.reserves {
		a.reserves = true
		e.chores.put(func() { e.countReserving(t.rec.AppID) })
	}
	if t.rec.Placeholder && a.run {
		a.run = false
		e.chores.put(func() { e.runCore(t.rec.AppID) })
	}
}

// releaseEcho is how the core answers a release that it was asked for.
const releaseEcho = "allocation remove as per RM request"

func (e *Engine) released(rel *si.AllocationRelease) {
	t := e.tasks[rel.AllocationKey]
	why := terminationOf(rel.TerminationType)
	switch {
	case t == nil && why == ledger.StoppedByRM:
		if a := e.apps[rel.ApplicationID]; a == nil || a.forgotten {
			return
		}
		e.emit(ledger.Released{
			Stamp: e.stamp(), AppID: rel.ApplicationID, TaskID: rel.AllocationKey,
			Termination: why, Message: rel.Message,
		})
	case t == nil:
	case why == ledger.StoppedByRM && rel.Message == releaseEcho:
		// Released in order to be placed or reported anew.
	case why == ledger.StoppedByRM:
		e.lost(t)
	case why == ledger.PreemptedByEngine && !e.live.Load():
		e.spare(t)
	default:
		t.ending, t.message = why, e.because(rel)
		if t.node == "" {
			e.apps[t.rec.AppID].setSent(t, false) // the core has dropped the ask
		}
		if why == ledger.PlaceholderReplaced {
			e.replacing(t)
			return
		}
		e.emitEnding(t)
	}
}

// because is the core's reason for a release, for people: it names the key of the ask that takes a
// place. See objects.Preemptor and objects.PreemptionContext.
func (e *Engine) because(rel *si.AllocationRelease) string {
	for _, text := range []string{
		"preempting allocations to free up resources to run ask: ",
		"preempting allocations to free up resources to run daemon set ask: ",
	} {
		key, found := strings.CutPrefix(rel.Message, text)
		if t := e.tasks[key]; found && t != nil {
			return ledger.PreemptedFor(t.rec)
		}
	}
	return rel.Message
}

// lost handles an allocation that the core gave up with its node. If the
// ledger does not, it is reported to the core again when the node comes back:
// a pod that is bound may outlive the absence of its node. The core keeps the
// ask of such an allocation, and would refuse it under the same key for as long
// as it does, so that has to be released.
func (e *Engine) lost(t *task) {
	if t.node != "" {
		t.restore, t.at = true, t.node
	}
	a := e.apps[t.rec.AppID]
	a.setSent(t, false)
	t.node, t.ending, t.swapped = "", ledger.NotTerminated, false
	e.emit(ledger.NodeLost{Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: t.rec.ID, Node: t.at})
	err := errors.Join(e.sendRelease(t, ledger.StoppedByRM), e.sendTask(a, t))
	e.logErr("cannot restore allocation", err, attrTask(t.rec.ID))
}

// emitEnding says that the core wants a task to end.
func (e *Engine) emitEnding(t *task) {
	if t.node == "" {
		e.emit(ledger.AskReleased{
			Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: t.rec.ID, Termination: t.ending, Message: t.message,
		})
		return
	}
	e.emit(ledger.Released{
		Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: t.rec.ID, Termination: t.ending, Message: t.message,
	})
}

// unknownApp begins the core's refusal of a task whose application it does not
// have.
const unknownApp = "failed to find application"

func (e *Engine) refused(r *si.RejectedAllocation) {
	t := e.tasks[r.AllocationKey]
	if t == nil {
		if e.foreign[r.AllocationKey] != nil {
			e.log.Warn("the scheduling core refused to count a pod", "pod", r.AllocationKey, "reason", r.Reason)
		}
		return
	}
	a := e.apps[t.rec.AppID]
	a.setSent(t, false)
	t.node = ""
	if strings.HasPrefix(r.Reason, unknownApp) {
		if a.stage == leaving || a.stage == checking {
			return // submitted again with it
		}
		if t.attempts++; t.attempts <= maxAttempts {
			switch a.stage {
			case gone:
				e.logErr("cannot submit application again", e.resubmit(a), attrApp(a.rec.ID))
				return
			case submitted, accepted:
				// Submitted again meanwhile, ahead of the task this answers.
				e.logErr("cannot submit task again", e.sendTask(a, t), attrTask(r.AllocationKey))
				return
			}
		}
	}
	e.log.Warn("the scheduling core refuses a task", "app", t.rec.AppID, "task", r.AllocationKey, "reason", r.Reason, "stage", int(a.stage), "attempts", t.attempts)
	e.emit(ledger.AskRejected{Stamp: e.stamp(), AppID: t.rec.AppID, TaskID: r.AllocationKey, Message: r.Reason})
	e.untrack(t)
}

// UpdateApplication implements api.ResourceManagerCallback.
func (c callback) UpdateApplication(r *si.ApplicationResponse) error {
	e := c.e
	defer e.changes.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range r.Accepted {
		e.unanswered--
		e.appAccepted(a.ApplicationID)
	}
	for _, a := range r.Rejected {
		if !e.barriers.pass(a.ApplicationID) {
			e.unanswered--
			e.appRejected(a.ApplicationID, a.Reason)
			e.expireSoon()
		}
	}
	for _, a := range r.Updated {
		e.appUpdated(a)
	}
	return nil
}

// appAccepted asks the core for the queue on our own goroutine: the answer
// takes a lock of the application, which may be held by a goroutine that waits
// for this callback to return.
func (e *Engine) appAccepted(id string) {
	a := e.apps[id]
	if a == nil || a.stage != submitted {
		return
	}
	a.stage = accepted
	e.vacant(id, a)
	e.out.put(func() { e.appPlaced(id, a) })
}

func (e *Engine) appRejected(id, reason string) {
	a := e.apps[id]
	if a == nil || a.stage != submitted {
		return // it leaves, and is submitted anew if it is wanted
	}
	a.stage, a.message = rejected, reason
	if e.refusedApp(id, a) {
		return
	}
	e.emit(ledger.AppRejected{Stamp: e.stamp(), AppID: id, Message: reason})
}

// appUpdated follows the core's own state of an application.
func (e *Engine) appUpdated(u *si.UpdatedApplication) {
	a := e.apps[u.ApplicationID]
	if a == nil || a.stage == leaving {
		return
	}
	switch u.State {
	case objects.Failing.String(), objects.Resuming.String():
		a.state, a.message = ledger.AppState(u.State), u.Message
		e.emit(ledger.AppEnded{Stamp: e.stamp(), AppID: u.ApplicationID, State: a.state, Message: u.Message})
	case objects.Completed.String(), objects.Failed.String():
		if a.stage == checking && u.State == objects.Completed.String() {
			return // check finds out by itself
		}
		a.state, a.message = ledger.AppState(u.State), u.Message
		e.awaitGone(u.ApplicationID, a)
	case objects.Completing.String():
		e.idle(u.ApplicationID, a)
	case objects.Accepted.String(), objects.Running.String():
		a.state, a.message = "", ""
		if a.vacant() { // it is our own doing: see check and completing
			e.idle(u.ApplicationID, a)
		} else {
			a.stopIdle()
		}
	}
}

// UpdateNode implements api.ResourceManagerCallback.
func (c callback) UpdateNode(r *si.NodeResponse) error {
	e := c.e
	defer e.changes.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range r.Accepted {
		e.logErr("cannot feed the node", e.nodeAccepted(n.NodeID), attrNode(n.NodeID))
	}
	for _, n := range r.Rejected {
		if e.barriers.pass(n.NodeID) {
			continue
		}
		if x := e.nodes[n.NodeID]; x != nil {
			x.refused = true
		}
		e.log.Error("the scheduling core refused a node", "node", n.NodeID, "reason", n.Reason)
	}
	return nil
}

// errHeld keeps a held core from placing anything, whatever made it try.
var errHeld = errors.New("the engine is held")

// errLeaving keeps nodes and tasks that are being removed free of decisions.
var errLeaving = errors.New("node or pod is being removed")

// Predicates implements api.ResourceManagerCallback.
func (c callback) Predicates(args *si.PredicatesArgs) error {
	defer c.e.answers.Add(1)
	if !c.e.live.Load() {
		return errHeld
	}
	if !c.e.grants.ask(args.AllocationKey, args.NodeID) {
		return errLeaving
	}
	if err := c.e.preds.Fits(args.AllocationKey, args.NodeID, args.Allocate); err != nil {
		return err
	}
	if args.Allocate && !c.e.grants.yes(args.AllocationKey, args.NodeID) {
		return errLeaving
	}
	return nil
}

// PreemptionPredicates implements api.ResourceManagerCallback.
func (c callback) PreemptionPredicates(args *si.PreemptionPredicatesArgs) *si.PreemptionPredicatesResponse {
	if !c.e.live.Load() {
		return &si.PreemptionPredicatesResponse{Index: -1}
	}
	defer c.e.answers.Add(1)
	i, err := c.e.preds.PreemptionFits(args.AllocationKey, args.NodeID, args.PreemptAllocationKeys, int(args.StartIndex))
	return &si.PreemptionPredicatesResponse{Success: err == nil, Index: int32(i)}
}

// SendEvent implements api.ResourceManagerCallback.
func (c callback) SendEvent(events []*si.EventRecord) {
	if !c.e.live.Load() {
		return
	}
	for _, r := range events {
		switch r.Type {
		case si.EventRecord_REQUEST:
			c.e.explain.heard(r)
		case si.EventRecord_APP:
			c.e.explain.heardOfApp(r)
		}
	}
}

// UpdateContainerSchedulingState implements api.ResourceManagerCallback.
func (c callback) UpdateContainerSchedulingState(r *si.UpdateContainerSchedulingStateRequest) {
	if c.e.live.Load() && r.State == si.UpdateContainerSchedulingStateRequest_FAILED {
		c.e.explain.add(r.AllocationKey)
	}
}

func (e *Engine) logErr(msg string, err error, attrs ...slog.Attr) {
	if err != nil {
		e.log.LogAttrs(context.Background(), slog.LevelError, msg, append(attrs, attrErr(err))...)
	}
}

func terminationOf(t si.TerminationType) ledger.Termination {
	switch t {
	case si.TerminationType_TIMEOUT, si.TerminationType_PREEMPTED_BY_SCHEDULER, si.TerminationType_PLACEHOLDER_REPLACED:
		return ledger.Termination(t.String())
	}
	return ledger.StoppedByRM
}
