package engine

import (
	"context"
	"fmt"
	"maps"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// task is an ask or allocation that the ledger wants the core to have.
type task struct {
	app *ledger.App
	rec *ledger.Task
	// restore says that the allocation, on the node at, is reported to the core
	// rather than asked for.
	restore bool
	at      string
	// sent says that the core has been told.
	sent bool
	// bare says that it was told without what only the pod knows.
	bare bool
	// node is where the core has allocated the task, empty while it has not.
	node string
	// res is what the core was told the task takes.
	res map[string]int64
	// ending is a release that the core asked for and the ledger has not
	// carried out yet.
	ending  ledger.Termination
	message string
	// swapped says that a placeholder holds, or held, its place for it.
	swapped bool
	// to is the node on which the core is about to put it in the place of a placeholder,
	// empty if it is not.
	to string
	// attempts counts submissions that the core answered with not knowing the
	// application.
	attempts int
}

// maxAttempts bounds how often a task is submitted again with its application.
const maxAttempts = 3

// Do carries out an effect on the engine; other effects are an error. It does
// not wait for the core.
func (e *Engine) Do(effect ledger.Effect) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return ErrStopped
	}
	if _, ask := effect.(ledger.Ask); !ask { // which takes nothing from others
		e.changes.Add(1)
	}
	switch x := effect.(type) {
	case ledger.SubmitApp:
		return e.submitApp(x.App, x.Recovery)
	case ledger.ForgetApp:
		return e.forgetApp(x.AppID)
	case ledger.Ask:
		return e.ask(x.App, x.Task)
	case ledger.Restore:
		return e.restore(x.App, x.Task)
	case ledger.Release:
		return e.release(x.Task, x.Termination)
	}
	return fmt.Errorf("effect %s is not the engine's", effect.Kind())
}

// disown takes out what the core has in place of a task: the pod as one that is to
// be ignored, or the task under another application. Only records that older
// versions wrote make a task another application's.
func (e *Engine) disown(rec *ledger.Task) error {
	if err := e.removeForeign(rec.ID); err != nil {
		return err
	}
	t := e.tasks[rec.ID]
	if t == nil || t.rec.AppID == rec.AppID {
		return nil
	}
	return e.release(t.rec, ledger.StoppedByRM)
}

// track returns the entry of a task, creating it if need be.
func (e *Engine) track(a *app, rec *ledger.Task) *task {
	t := e.tasks[rec.ID]
	if t == nil {
		t = &task{}
		e.tasks[rec.ID] = t
		a.tasks[rec.ID] = t
		a.stopIdle()
	}
	t.app, t.rec = a.rec, rec
	return t
}

func (e *Engine) untrack(t *task) {
	delete(e.tasks, t.rec.ID)
	e.taken(t)
	e.present(t.at, func(w *absentees) { delete(w.tasks, t.rec.ID) })
	if a := e.apps[t.rec.AppID]; a != nil {
		a.setSent(t, false)
		delete(a.tasks, t.rec.ID)
		e.vacant(t.rec.AppID, a)
	}
	e.explain.forget(t.rec.ID)
	e.preds.Avoid(t.rec.ID, nil)
	if t.rec.TaskGroup != "" {
		e.grants.member(t.rec.ID, "")
	}
}

// setSent notes whether the core has been told of a task.
func (a *app) setSent(t *task, sent bool) {
	switch {
	case sent && !t.sent:
		a.inCore++
		a.used = true
	case !sent && t.sent:
		a.inCore--
	}
	t.sent = sent
}

func (e *Engine) ask(appRec *ledger.App, rec *ledger.Task) error {
	a, err := e.ensureApp(appRec)
	if err != nil {
		return err
	}
	if err := e.disown(rec); err != nil {
		return err
	}
	t := e.track(a, rec)
	t.ending = ledger.NotTerminated
	e.preds.Avoid(rec.ID, rec.Avoids())
	if t.node != "" {
		if !maps.Equal(t.res, rec.Resources) {
			return e.sendTask(a, t)
		}
		// Decided already; the ledger cannot have heard, or would not ask.
		e.emit(ledger.Allocated{Stamp: e.stamp(), AppID: rec.AppID, TaskID: rec.ID, Node: t.node, InstanceType: e.instanceType(t.node), Swapped: t.swapped})
		return nil
	}
	if t.sent && t.bare && e.preds.Pod(rec.ID) != nil {
		// The core takes over only new resources of an ask that it has.
		if err := e.releaseSafely(t, ledger.StoppedByRM); err != nil {
			return err
		}
	}
	t.restore = false
	return e.sendTask(a, t)
}

func (e *Engine) restore(appRec *ledger.App, rec *ledger.Task) error {
	a, err := e.ensureApp(appRec)
	if err != nil {
		return err
	}
	if err := e.disown(rec); err != nil {
		return err
	}
	t := e.track(a, rec)
	e.preds.Avoid(rec.ID, nil)
	e.preds.Assume(rec.ID, rec.Node)
	if t.sent && t.to != "" && t.to == rec.Node {
		// The core puts it there by itself, once it hears that the placeholder is gone.
		t.restore, t.at = true, rec.Node
		e.explain.forget(rec.ID)
		return nil
	}
	again := t.bare && !e.live.Load() && e.preds.Pod(rec.ID) != nil // as in ask
	if t.sent && t.node == rec.Node && maps.Equal(t.res, rec.Resources) && !again {
		e.spend(t)
		return nil
	}
	if t.node != "" && (t.node != rec.Node || again) {
		// Elsewhere than the core thinks: the pod is what counts.
		if err := e.releaseSafely(t, ledger.StoppedByRM); err != nil {
			return err
		}
		a.setSent(t, false)
		t.node = ""
	}
	t.restore, t.at = true, rec.Node
	return e.sendTask(a, t)
}

// sendTask tells the core of an ask, or of an allocation that exists. It waits
// if the core cannot be told yet.
func (e *Engine) sendTask(a *app, t *task) error {
	if a.stage == leaving || a.stage == checking {
		a.setSent(t, false)
		return nil // sent by flush
	}
	if t.restore {
		if n := e.nodes[t.at]; n == nil || !n.accepted {
			a.setSent(t, false)
			e.absent(t.at).tasks[t.rec.ID] = t
			return nil // sent by nodeAccepted
		}
	}
	if e.deferred[t.rec.ID] > 0 {
		a.setSent(t, false)
		e.chores.put(func() {
			e.insist("task "+t.rec.ID+" is submitted", func(context.Context) error { return e.sendLater(t) })
		})
		return nil
	}
	if !t.rec.Placeholder && t.rec.TaskGroup != "" {
		e.grants.member(t.rec.ID, groupOf(t.rec))
	}
	pod, rank := e.preds.Pod(t.rec.ID), t.app.RankOf(t.rec)
	alloc := &si.Allocation{
		AllocationKey:    t.rec.ID,
		ApplicationID:    t.rec.AppID,
		ResourcePerAlloc: toSI(bounded(t.rec.Resources)),
		TaskGroupName:    t.rec.TaskGroup,
		Placeholder:      t.rec.Placeholder,
		Originator:       a.rec.Originator == t.rec.ID,
		AllocationTags:   tagsOf(t.rec, pod),
		Priority:         priorityIn(rank, pod),
		PreemptionPolicy: e.preemptionIn(rank, pod),
	}
	if t.restore {
		alloc.NodeID, t.node = t.at, t.at
		e.spend(t)
	}
	a.setSent(t, true)
	t.bare, t.res = pod == nil, t.rec.Resources
	if !t.restore {
		e.explain.asked(t.rec.AppID, t.rec.ID)
	}
	return e.sendAllocations(&si.AllocationRequest{RmID: e.cfg.RMID, Allocations: []*si.Allocation{alloc}})
}

// sendLater sends a task that had to wait for its own release, if it is still
// wanted.
func (e *Engine) sendLater(t *task) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || e.tasks[t.rec.ID] != t || t.sent {
		return nil
	}
	return e.sendTask(e.apps[t.rec.AppID], t)
}

func (e *Engine) send(req *si.ApplicationRequest) error {
	if err := e.proxy.UpdateApplication(req); err != nil {
		return fmt.Errorf("scheduling core: %w", err)
	}
	return nil
}

func (e *Engine) sendAllocations(req *si.AllocationRequest) error {
	if err := e.proxy.UpdateAllocation(req); err != nil {
		return fmt.Errorf("scheduling core: %w", err)
	}
	return nil
}
