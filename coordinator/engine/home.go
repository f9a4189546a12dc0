package engine

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	corecommon "github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	"go.yaml.in/yaml/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// An application stays in the queue in which it was placed first, its home, until it
// ends: doc.go says why. The core does so by itself as long as it lives. A core that
// is told of the application later would place it anew, by the rules and queues of
// that day, or refuse it; then the application is astray.
//
// While the engine is held, applications that are astray are housed: they are taken
// out, the core gets a configuration in which each goes where it is sent, they are
// told again, and the core gets the configuration in force, under which their queues
// drain if they are gone. All of this is one chore. A core that schedules is left as
// it is: what it says of the queue then counts for everybody.

// placed is where the core has an application.
type placed struct {
	queue string
	// managed says that the queue is, or was, configured.
	managed bool
}

// lookUp asks the core where an application is. It may not be called from callbacks.
func (e *Engine) lookUp(id string) placed {
	if p := e.corePartition(); p != nil {
		if x := p.GetApplication(id); x != nil {
			return where(p, x)
		}
	}
	return placed{}
}

func where(p *scheduler.PartitionContext, x *objects.Application) placed {
	at := placed{queue: x.GetQueuePath()}
	if q := p.GetQueue(at.queue); q != nil {
		at.managed = q.IsManaged()
	}
	return at
}

// home is where an application belongs. Where the core has placed one that the ledger
// has no queue of yet is as good as any. e.mu is held.
func (e *Engine) home(a *app) string {
	switch {
	case a.outcast:
		return corecommon.RecoveryQueueFull
	case a.rec.PlacedQueue != "":
		return e.queues.home(a.rec.PlacedQueue)
	}
	return e.queues.home(a.at.queue)
}

// strays reports whether a held core has an application elsewhere than at home, and
// nothing has been done about it. e.mu is held.
func (e *Engine) strays(a *app) bool {
	if e.live.Load() || a.stage != accepted || a.at.queue == "" {
		return false
	}
	home := e.home(a)
	return a.tried != home && a.at != placed{home, e.queues.configured(home) || e.queues.drains(a.rec, home)}
}

// everybody is where the core has each application. It may not be called from callbacks,
// nor with e.mu held.
func (e *Engine) everybody() map[string]placed {
	p := e.corePartition()
	if p == nil || e.live.Load() {
		return nil
	}
	all := make(map[string]placed)
	for _, x := range p.GetApplications() {
		all[x.ApplicationID] = where(p, x)
	}
	return all
}

// review finds out who is astray under another configuration, under which the core has
// applications at these places. e.mu is held.
func (e *Engine) review(at map[string]placed) {
	for id, a := range e.apps {
		a.tried, a.outcast = "", false
		if now, ok := at[id]; ok && a.at.queue != "" {
			a.at = now
		}
		if e.strays(a) {
			e.astray(id, a)
		}
	}
}

// rehouse has the applications of queues taken out and in again whose account is wrong
// though theirs are right: the core takes a queue that is empty out of its tables
// without a look at who is just moving in.
func (e *Engine) rehouse(found []Mismatch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || e.live.Load() {
		return
	}
	for _, m := range found {
		for id, a := range e.apps {
			if m.App == "" && a.stage == accepted && a.at.queue == m.Queue {
				e.astray(id, a)
			}
		}
	}
}

// refusedApp has an application taken all the same that a held core has refused; it
// has pods that run. What its home refuses as well is housed with those that have no
// home. It reports false if there is nothing to be done. e.mu is held.
func (e *Engine) refusedApp(id string, a *app) bool {
	if e.live.Load() || !a.forced || a.outcast {
		return false
	}
	a.outcast = a.tried == e.home(a)
	e.astray(id, a)
	return true
}

// astray has an application housed. Whatever is sent for it waits. e.mu is held.
func (e *Engine) astray(id string, a *app) {
	a.stopIdle()
	a.tried = e.home(a)
	a.stage, a.again, a.recover = leaving, true, true
	if e.homeless = append(e.homeless, id); len(e.homeless) == 1 {
		e.chores.put(e.house)
	}
}

// unsettled reports whether applications are still to be housed.
func (e *Engine) unsettled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.stopped && (len(e.homeless) > 0 || e.housing || e.redefine || len(e.spent) > 0)
}

// house brings all home that are astray.
func (e *Engine) house() {
	what := "applications are taken to their queues"
	e.configuring.Lock()
	defer e.configuring.Unlock()
	e.mu.Lock()
	if e.live.Load() || len(e.homeless) == 0 && !e.redefine {
		e.mu.Unlock()
		return
	}
	e.addYounger()
	now, ids := e.queues, slices.DeleteFunc(e.homeless, func(id string) bool {
		return e.apps[id] == nil || e.apps[id].stage != leaving // it has been submitted meanwhile
	})
	e.homeless, e.housing, e.redefine = nil, true, false
	e.mu.Unlock()
	if !e.passed(what) || !e.takeOut(what, ids...) {
		return
	}
	e.clean()
	open, err := now.housing()
	e.logErr("applications are placed by the rules", err)
	if err == nil && !e.applied(what, open) {
		return
	}
	e.moveIn(ids)
	if !e.passed(what) || err == nil && !e.reapply(what, now) {
		return
	}
	e.mu.Lock()
	e.housing = false
	e.mu.Unlock()
}

// clean does at once what the core does every ten seconds: it takes out the queues that
// have drained, so that others of their names can be created.
func (e *Engine) clean() {
	if p := e.corePartition(); p != nil {
		clean(p.GetQueue(configs.RootQueue))
	}
}

func clean(q *objects.Queue) {
	for _, below := range q.GetCopyOfChildren() {
		clean(below)
	}
	if q.IsDraining() && q.IsEmpty() {
		q.RemoveQueue()
	}
}

// addYounger adds to those that are astray the applications that came after one of them
// and are in its home already: the core takes for their order that in which it is told
// of them. e.mu is held.
func (e *Engine) addYounger() {
	oldest := make(map[string]*ledger.App)
	for _, id := range e.homeless {
		if a := e.apps[id]; a != nil {
			if home := e.home(a); oldest[home] == nil || a.rec.Compare(oldest[home]) < 0 {
				oldest[home] = a.rec
			}
		}
	}
	for id, a := range e.apps {
		if first := oldest[a.at.queue]; a.stage == accepted && first != nil && a.rec.Compare(first) > 0 {
			e.astray(id, a)
		}
	}
}

// moveIn submits applications that have been taken out to their homes.
func (e *Engine) moveIn(ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	apps := make([]*app, 0, len(ids))
	for _, id := range ids {
		a := e.apps[id]
		switch {
		case a == nil || a.stage != leaving:
		case a.forgotten && !a.again:
			delete(e.apps, id)
		default:
			apps = append(apps, a)
		}
	}
	slices.SortFunc(apps, func(a, b *app) int { return a.rec.Compare(b.rec) })
	for _, a := range slices.Compact(apps) {
		queue := e.home(a)
		if queue == corecommon.RecoveryQueueFull {
			queue = "" // which fits no rule but the core's own for this
		}
		err := e.submit(a, a.recover, queue)
		if err == nil {
			err = e.resend(a)
		}
		e.logErr("cannot submit application again", err, attrApp(a.rec.ID))
	}
}

// reapply gives the core the configuration in force: first with the queues that are
// gone, so that their applications go on under their limits, then without, so that
// they drain. It reports false if the engine has been stopped.
func (e *Engine) reapply(what string, q queues) bool {
	if len(q.former.Queues) > 0 {
		text, err := q.text(q.known())
		e.logErr("queues that are gone have no limits", err)
		if err == nil && !e.applied(what, text) {
			return false
		}
	}
	return e.applied(what, e.inForce)
}

// applied gives the core queues that are valid, and reports false if the engine has
// been stopped. e.configuring is held.
func (e *Engine) applied(what, text string) bool {
	return e.insist(what, func(ctx context.Context) error { return e.apply(ctx, text, e.extra) })
}

// apply gives the core queues that are valid, and other settings, and waits for it.
// e.configuring is held.
func (e *Engine) apply(ctx context.Context, text string, extra map[string]string) error {
	conf, err := configs.LoadSchedulerConfigFromByteArray([]byte(text))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	// The core does not answer any more once it has been stopped.
	go func() {
		err := e.proxy.UpdateConfiguration(&si.UpdateConfigurationRequest{
			RmID: e.cfg.RMID, PolicyGroup: e.cfg.PolicyGroup, Config: text, ExtraConfig: extra,
		})
		if err == nil {
			err = e.settle(conf)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if e.life.Err() != nil {
			return ErrStopped
		}
		return ctx.Err()
	}
}

// Former describes the queues that are configured no more and whose applications go
// on under their limits, and says when the last of them went. It is what Learn of
// another engine takes.
func (e *Engine) Former() (text string, since ledger.Time, err error) {
	p := e.corePartition()
	if p == nil {
		return "", 0, nil
	}
	e.mu.Lock()
	former, since := e.queues.former, e.queues.since
	e.mu.Unlock()
	former = keep(former, configs.RootQueue, func(path string) bool {
		q := p.GetQueue(path)
		return q != nil && q.IsDraining() && len(q.GetCopyOfApps()) > 0
	})
	if len(former.Queues) == 0 {
		return "", 0, nil
	}
	out, err := yaml.Marshal(former)
	if err != nil {
		return "", 0, fmt.Errorf("queues that are gone: %w", err)
	}
	return string(out), since, nil
}

// Learn tells a held engine what another one knows of queues that are configured no
// more: the configuration that is in force there, and what Former says there. It takes
// the place of what this one has seen itself. An engine that has been engaged knows
// better.
func (e *Engine) Learn(data map[string]string, former string, since ledger.Time) error {
	var before configs.QueueConfig
	if err := yaml.Unmarshal([]byte(former), &before); err != nil {
		return fmt.Errorf("queues that are gone: %w", err)
	}
	text, _ := split(data, "")
	there, err := parseQueues(text, before, since)
	if err != nil {
		return fmt.Errorf("engine configuration: %w", err)
	}
	e.configuring.Lock()
	defer e.configuring.Unlock()
	at := e.everybody()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped || e.live.Load() {
		return nil
	}
	if len(minus(there.root(), e.queues.root()).Queues) > 0 {
		since = ledger.At(e.cfg.Now()) // went since that was in force
	}
	learnt := minus(there.remembered(), e.queues.root())
	if reflect.DeepEqual(learnt, e.queues.former) {
		return nil
	}
	e.queues.former, e.queues.since = learnt, max(since, e.queues.since)
	e.review(at)
	if e.redefine = true; len(e.homeless) == 0 {
		e.chores.put(e.house) // with nobody to house, it has the limits of the queues put right
	}
	return nil
}

// appPlaced takes note of where the core has placed an application.
func (e *Engine) appPlaced(id string, a *app) {
	at := e.lookUp(id)
	e.mu.Lock()
	a.at = at
	if e.apps[id] == a && e.strays(a) {
		e.astray(id, a)
	}
	event := ledger.AppAccepted{Stamp: e.stamp(), AppID: id, PlacedQueue: at.queue}
	e.mu.Unlock()
	if e.live.Load() {
		e.sink(event)
	}
}
