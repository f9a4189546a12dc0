package engine

import (
	"strings"
	"sync"
	"time"

	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
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

// explainer tells users why their pods wait. The core only says that they do;
// what each node has against a pod is found out here, off the core's
// goroutines, and reported whenever its kind changes.
//
// The core's word that a request fits its quotas and found no node is the reason
// to look, but not yet the answer: in a burst it says so of pods whose turn has
// only not come. A quota comes first: the core looks at nodes for nothing that
// is beyond one.
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
	// limited are applications that the core takes for beyond a limit.
	limited map[string]limits
}

// limits are those of running applications that keep one from beginning to run.
type limits struct{ queue, user bool }

func (l limits) String() string {
	switch {
	case l.queue:
		return "the queue, or one above it, has as many running applications as it may have"
	case l.user:
		return "the user, or a group of theirs, has as many running applications as they may have"
	}
	return ""
}

type waiting struct {
	queued bool
	// told is the kind of reason that was reported last.
	told string
	// quota is what the core said last about a quota that is in the way, ofQueue that it
	// is one of queues.
	quota   string
	ofQueue bool
}

// explainBatch bounds how many tasks are looked at again per interval: each
// costs a check of every node.
const explainBatch = 256

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

// beyondQueue is how the core says that a request is beyond what a queue, or one above
// it, has left. Of the root that is what the cluster has left.
const beyondQueue = "does not fit in queue"

// heard takes note of what the core says about a request. What it says about
// nodes is left to be found out: it knows only of those that had room.
func (x *explainer) heard(r *si.EventRecord) {
	if x.tell == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case strings.HasPrefix(r.Message, "Unschedulable request"):
		x.enqueue(r.ObjectID)
	case strings.Contains(r.Message, beyondQueue), strings.Contains(r.Message, "exceeds the available user quota"):
		w := x.enqueue(r.ObjectID)
		w.quota = strings.Replace(r.Message, " '"+r.ObjectID+"'", "", 1)
		w.ofQueue = strings.Contains(r.Message, beyondQueue)
	case strings.Contains(r.Message, "has become schedulable in queue"), strings.Contains(r.Message, "fits in the available user quota"):
		if w := x.pending[r.ObjectID]; w != nil && w.quota != "" {
			w.quota = ""
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

func (x *explainer) enqueue(taskID string) *waiting {
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
	return w
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

// again queues tasks that still wait: their reasons may have changed.
func (x *explainer) again() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, w := range x.pending {
		if len(x.queue) >= explainBatch {
			return
		}
		x.queueUp(id, w)
	}
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
	quota, ofQueue := "", false
	if w != nil {
		w.queued = false
		quota, ofQueue = w.quota, w.ofQueue
	}
	x.mu.Unlock()
	appID, waits := x.e.waits(id)
	if w == nil || !waits {
		x.forget(id)
		return true
	}
	if ofQueue && !x.e.beyondQuota(appID, id) {
		quota = "" // the cluster is full, or the quota has room again
	}
	if limit := x.limitOf(appID); limit != "" {
		quota = limit
	}
	if quota != "" {
		x.report(appID, id, kindOf(quota), Wait{Quota: true, Message: quota})
		return true
	}
	if why, err := x.e.preds.Explain(id); err == nil && why.Fits == 0 { // else the pod is gone, or its turn comes
		x.report(appID, id, "nodes: "+why.Key(), Wait{Message: why.Message()})
	}
	return true
}

// limitOf says which limit keeps an application from running, empty for none. The core
// speaks of limits also where one runs that would be beyond them if it did not yet.
func (x *explainer) limitOf(appID string) string {
	x.mu.Lock()
	l := x.limited[appID]
	x.mu.Unlock()
	if l == (limits{}) {
		return ""
	}
	if p := x.e.corePartition(); p != nil {
		if app := p.GetApplication(appID); app != nil && app.IsAccepted() {
			return l.String()
		}
	}
	return ""
}

// kindOf cuts the numbers off the core's words.
func kindOf(text string) string {
	kind, _, _ := strings.Cut(text, " (")
	return kind
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

// beyondQuota reports whether a queue of the task's application, or one above it, has
// less left than the task asks for. What the root may have is the cluster, and no quota.
func (e *Engine) beyondQuota(appID, taskID string) bool {
	p := e.corePartition()
	if p == nil {
		return false
	}
	app := p.GetApplication(appID)
	if app == nil {
		return false
	}
	wanted := resources.NewResourceFromProto(toSI(e.requested(taskID)))
	for path := app.GetQueuePath(); path != ""; path = path[:max(0, strings.LastIndexByte(path, '.'))] {
		// None is set for the root.
		q := p.GetQueue(path)
		if q != nil && !resources.SubOnlyExisting(q.GetMaxQueueSet(), q.GetAllocatedResource()).FitInMaxUndef(wanted) {
			return true
		}
	}
	return false
}

// requested is what a task counts with, nil if it is not known.
func (e *Engine) requested(taskID string) map[string]int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.tasks[taskID]; t != nil {
		return bounded(t.rec.Resources)
	}
	return nil
}

// waits reports whether the core has an ask of the task and no place for it.
func (e *Engine) waits(taskID string) (appID string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tasks[taskID]
	if t == nil || !t.waits() {
		return "", false
	}
	return t.rec.AppID, true
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
