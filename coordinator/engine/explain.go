package engine

import (
	"strings"
	"sync"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/explain"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Wait is why a task has no node yet.
type Wait struct {
	// Quota says that a quota of its queue or user holds it, or their limit of running
	// applications, whatever room there is. Otherwise the nodes do, and more of them
	// would help.
	Quota bool
	// Message is a sentence for people.
	Message string
}

// explainer tells users why their pods wait: in the very words of package explain, so that an Event
// says what a question is answered with. It looks when the core says that a request fits nowhere or
// is beyond a quota, off the core's goroutines, and later whenever something has changed; it tells
// whenever what is in the way is of another kind. What the core says of the reason is not used: in a
// burst it says that a pod has found no node whose turn has only not come, and a quota comes first,
// since the core looks at nodes for nothing that is beyond one.
type explainer struct {
	e    *Engine
	tell func(appID, taskID string, why Wait)
	wake chan struct{}
	quit chan struct{}
	done chan struct{}

	mu sync.Mutex
	// queue are tasks to look at, in order; pending are all that wait.
	queue   []string
	pending map[string]*waiting
	// limited are applications that the core takes for beyond a limit of running applications.
	limited map[string]limits

	// look is how tasks are looked at until renewal, seen what had changed by when all were
	// looked at again, and settled that nothing had since the time before. They are run's.
	look    func(appID, taskID string) *explain.Core
	renewal time.Time
	seen    uint64
	settled bool
}

// limits are those of running applications that keep one from beginning to run.
type limits struct{ queue, user bool }

type waiting struct {
	queued bool
	// told is the kind of reason that was reported last.
	told string
}

const (
	// explainBatch bounds how many tasks are looked at again per interval.
	explainBatch = 256
	// lookFor is for how long what tasks share is not looked up again.
	lookFor = 100 * time.Millisecond
)

func newExplainer(e *Engine) *explainer {
	x := &explainer{
		e: e, tell: e.cfg.OnWait,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		pending: make(map[string]*waiting), limited: make(map[string]limits),
	}
	if x.tell == nil {
		close(x.done)
		return x
	}
	go x.run()
	return x
}

func (x *explainer) stop() {
	close(x.quit)
	<-x.done
}

// add has a task looked at.
func (x *explainer) add(taskID string) {
	if x.tell == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.enqueue(taskID)
}

// heard has a request looked at of which the core says that something is, or is no more, in its
// way.
func (x *explainer) heard(r *si.EventRecord) {
	if x.tell == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case strings.HasPrefix(r.Message, "Unschedulable request"),
		strings.Contains(r.Message, "does not fit in queue"), strings.Contains(r.Message, "exceeds the available user quota"):
		x.enqueue(r.ObjectID)
	case strings.Contains(r.Message, "has become schedulable in queue"), strings.Contains(r.Message, "fits in the available user quota"):
		if x.pending[r.ObjectID] != nil {
			x.enqueue(r.ObjectID)
		}
	}
}

// heardOfApp takes note of what the core says about the limits of an application, and
// has its tasks looked at.
func (x *explainer) heardOfApp(r *si.EventRecord) {
	if x.tell == nil {
		return
	}
	tasks := x.e.unplaced(r.ObjectID)
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.limited[r.ObjectID]
	switch r.EventChangeDetail {
	case si.EventRecord_APP_CANNOTRUN_QUEUE, si.EventRecord_APP_RUNNABLE_QUEUE:
		l.queue = r.EventChangeDetail == si.EventRecord_APP_CANNOTRUN_QUEUE
	case si.EventRecord_APP_CANNOTRUN_QUOTA, si.EventRecord_APP_RUNNABLE_QUOTA:
		l.user = r.EventChangeDetail == si.EventRecord_APP_CANNOTRUN_QUOTA
	default:
		return
	}
	if l == (limits{}) {
		delete(x.limited, r.ObjectID)
		return
	}
	x.limited[r.ObjectID] = l
	for _, id := range tasks {
		x.enqueue(id)
	}
}

// asked is called when a task is asked for: of one whose application does not run the
// core says nothing.
func (x *explainer) asked(appID, taskID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.limited[appID]; ok {
		x.enqueue(taskID)
	}
}

// unlimited is called for an application that the core does not have, or is given anew:
// of that it has said nothing yet.
func (x *explainer) unlimited(appID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.limited, appID)
}

func (x *explainer) enqueue(taskID string) {
	w := x.pending[taskID]
	if w == nil {
		w = &waiting{}
		x.pending[taskID] = w
	}
	x.queueUp(taskID, w)
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *explainer) queueUp(taskID string, w *waiting) {
	if !w.queued {
		w.queued = true
		x.queue = append(x.queue, taskID)
	}
}

// forget is called when a task waits no more.
func (x *explainer) forget(taskID string) {
	x.mu.Lock()
	delete(x.pending, taskID)
	x.mu.Unlock()
}

func (x *explainer) run() {
	defer close(x.done)
	tick := time.NewTicker(x.e.cfg.ExplainInterval)
	defer tick.Stop()
	for {
		select {
		case <-x.quit:
			return
		case <-x.wake:
		case <-tick.C:
			x.again()
		}
		for x.next() {
		}
	}
}

// again queues tasks that still wait and whose reasons may have changed: none as long as nothing
// has, but those with volumes, of whose changes nobody tells. The core may be about to do what it
// was told: after a change they are looked at twice.
func (x *explainer) again() {
	now := x.e.changes.Load() + x.e.preds.Changes() // neither ever falls
	changed := now != x.seen || !x.settled
	if changed {
		x.renewal = time.Time{}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, w := range x.pending {
		if len(x.queue) >= explainBatch {
			x.settled = false // the others come next time
			return
		}
		if changed || x.e.preds.HasClaims(id) {
			x.queueUp(id, w)
		}
	}
	x.seen, x.settled = now, now == x.seen
}

// next looks at one task and reports whether there may be more.
func (x *explainer) next() bool {
	select {
	case <-x.quit:
		return false
	default:
	}
	x.mu.Lock()
	if len(x.queue) == 0 {
		x.mu.Unlock()
		return false
	}
	id := x.queue[0]
	x.queue = x.queue[1:]
	w := x.pending[id]
	if w != nil {
		w.queued = false
	}
	x.mu.Unlock()
	app, rec, waits := x.e.waits(id)
	if w == nil || !waits {
		x.forget(id)
		return true
	}
	if now := time.Now(); now.After(x.renewal) {
		x.look, x.renewal = x.e.Explaining(), now.Add(lookFor)
	}
	core := x.look(rec.AppID, id)
	if core == nil || core.Nodes == nil {
		return true // its application or its pod is on its way out, or in
	}
	why := explain.Unplaced(explain.Facts{Now: x.e.cfg.Now(), Task: rec, App: app, Core: core})
	if why.Reason == explain.Turn { // nobody is told of that: in a burst it is so of most
		return true
	}
	x.report(rec.AppID, id, string(why.Reason)+" "+explain.Kind(why.Message), Wait{Quota: why.Reason != explain.NoNode, Message: why.Message})
	return true
}

func (x *explainer) report(appID, taskID, kind string, why Wait) {
	x.mu.Lock()
	w := x.pending[taskID]
	news := w != nil && w.told != kind
	if news {
		w.told = kind
	}
	x.mu.Unlock()
	if news && x.e.live.Load() {
		x.tell(appID, taskID, why)
	}
}

// waits returns the records of a task of which the core has an ask and for which it has no place.
func (e *Engine) waits(taskID string) (app *ledger.App, rec *ledger.Task, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tasks[taskID]
	if t == nil || !t.waits() {
		return nil, nil, false
	}
	if a := e.apps[t.rec.AppID]; a != nil {
		app = a.rec
	}
	return app, t.rec, app != nil
}

// unplaced returns the tasks of an application of which the core has an ask and for
// which it has no place.
func (e *Engine) unplaced(appID string) (tasks []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.apps[appID]; a != nil {
		for id, t := range a.tasks {
			if t.waits() {
				tasks = append(tasks, id)
			}
		}
	}
	return tasks
}

func (t *task) waits() bool { return t.node == "" && t.sent }
