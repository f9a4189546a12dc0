package managers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// PodCache remembers the pods that the engine will be asked to place.
type PodCache interface {
	SetPod(pod *v1.Pod)
	Pod(uid string) *v1.Pod
}

// Gate is the application management protocol as one app manager speaks it, for the life
// of the process. Each call becomes an event.
//
// While the replica leads, the gate is open: an event goes into the lead's mailbox, and a
// call that reads is answered by the goroutine that owns the ledger, after every event the
// same caller sent before. When the term ends every call returns and changes nothing.
//
// While the replica follows, the gate is closed: events are noted as long as the ledger
// that is followed does not agree with them (see notes.go), and calls that read are
// answered from that ledger and the notes. The next lead is told what is left, in order.
type Gate struct {
	cfg    GateConfig
	term   atomic.Pointer[term] // nil while closed
	opened chan struct{}        // closed once calls go through
	once   sync.Once            // closes opened

	mu    sync.Mutex // guards notes, and the change from closed to open
	notes notes
	// replays says that nothing is noted, for the manager is a Replayer.
	replays bool
	said    map[string]bool // managers of which it was said that their claim comes first
}

// GateConfig says between whom a gate stands. All of it is required but Claimed.
type GateConfig struct {
	// Manager is the name of the manager.
	Manager string
	// Read reads the ledger that this replica follows. It reports false if there is
	// none: before the replica follows, and after its ledger has become the lead's.
	Read func(func(*ledger.Ledger)) bool
	Pods PodCache
	// Suspect is told, while the gate is closed, of a task to which something has
	// happened; pod is nil where only the task is known. It must not wait.
	Suspect func(appID, taskID string, pod *v1.Pod)
	// Claimed names the manager before this one to which a pod belongs, empty for none.
	Claimed func(pod *v1.Pod) string
	// NoGangs has task groups ignored: pods are placed one by one.
	NoGangs bool
	Now     func() time.Time
	Log     *slog.Logger
}

// term is a lead that an open gate leads to.
type term struct {
	ctx      context.Context
	box      *loop.Mailbox
	replayed chan struct{} // closed once the lead has been told what was noted
}

// errNotLeading is what a call returns when there is nobody to ask: the term is over, or a
// promotion is under way.
var errNotLeading = errors.New("this replica does not lead")

var (
	_ protocol.ApplicationManagementProtocol = (*Gate)(nil)
	_ Grouper                                = (*Gate)(nil)
)

// NewGate returns a closed gate.
func NewGate(cfg GateConfig) *Gate {
	if cfg.Claimed == nil {
		cfg.Claimed = func(*v1.Pod) string { return "" }
	}
	return &Gate{cfg: cfg, opened: make(chan struct{}), notes: newNotes(), said: make(map[string]bool)}
}

// Open opens the gate to a lead, once: one behind which nothing is noted. When ctx or the
// mailbox ends, calls return.
func (g *Gate) Open(ctx context.Context, box *loop.Mailbox) {
	t := &term{ctx, box, make(chan struct{})}
	close(t.replayed)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.term.Store(t)
	g.once.Do(func() { close(g.opened) })
}

// Opened is closed once the gate is open and the lead has been told what was noted.
func (g *Gate) Opened() <-chan struct{} { return g.opened }

// Replay opens the gate to a lead whose loop runs, once: the lead is told what was noted
// and what its ledger does not agree with, and calls that come meanwhile wait for that.
// Before, nobody has to wait, so that a manager can answer what the promotion asks.
// Replay returns early when the term ends.
func (g *Gate) Replay(ctx context.Context, box *loop.Mailbox) {
	loop.Ask(ctx, box, func(l *ledger.Ledger) struct{} {
		g.Settle(l)
		return struct{}{}
	})
	t := &term{ctx, box, make(chan struct{})}
	defer g.once.Do(func() { close(g.opened) })
	defer close(t.replayed)
	g.mu.Lock()
	g.term.Store(t)
	noted := g.notes.take()
	g.mu.Unlock()
	for _, event := range noted {
		if !box.Put(ctx, event) {
			break
		}
	}
}

// ready waits until calls may go through. It reports false once the term is over.
func (t *term) ready() bool {
	select {
	case <-t.replayed:
	case <-t.ctx.Done():
	}
	return t.ctx.Err() == nil
}

// send reports whether the lead will hear of the event.
func (g *Gate) send(event ledger.Event) bool {
	t := g.term.Load()
	if t == nil {
		if g.note(event) {
			return true
		}
		t = g.term.Load() // it has been opened meanwhile
	}
	return t.ready() && t.box.Put(t.ctx, event) && t.ctx.Err() == nil
}

// read answers a question from the ledger; false if there is none to ask.
func read[T any](g *Gate, question func(*ledger.Ledger) T) (answer T, ok bool) {
	if t := g.term.Load(); t != nil {
		if !t.ready() {
			return answer, false
		}
		return loop.Ask(t.ctx, t.box, question)
	}
	ok = g.cfg.Read(func(l *ledger.Ledger) { answer = question(l) })
	return answer, ok
}

func (g *Gate) stamp() ledger.Stamp { return ledger.Stamp{At: ledger.At(g.cfg.Now())} }

// GetApplication returns nil for an application that is not known.
func (g *Gate) GetApplication(appID string) protocol.ManagedApp {
	app := managedApp{g, appID}
	if app.record() == nil {
		return nil
	}
	return app
}

// AddApplication submits the application of request and returns a handle to it.
func (g *Gate) AddApplication(request *protocol.AddApplicationRequest) protocol.ManagedApp {
	if !g.send(g.AppEvent(g.stamp(), &request.Metadata, false)) {
		return nil
	}
	return managedApp{g, request.Metadata.ApplicationID}
}

// RemoveApplication forgets an application that has no task which lives.
func (g *Gate) RemoveApplication(appID string) error {
	if (managedApp{g, appID}).record() == nil {
		return fmt.Errorf("application %s is not known", appID)
	}
	live, ok := read(g, func(l *ledger.Ledger) int { return l.Live(appID) })
	if live > 0 {
		return fmt.Errorf("application %s has %d tasks that live", appID, live)
	}
	if !ok || !g.send(ledger.RemoveApp{Stamp: g.stamp(), AppID: appID}) {
		return errNotLeading
	}
	return nil
}

// SetGroup says how a task group is whose tasks are bound all or none.
func (g *Gate) SetGroup(appID string, group Group) {
	rank := ledger.Rank{Ranked: group.Priority != nil, Yields: group.Yields, Together: group.Together}
	if rank.Ranked {
		rank.Priority = *group.Priority
	}
	g.send(ledger.SetCrew{
		Stamp: g.stamp(), AppID: appID, Name: group.Name, UID: group.UID, Wanted: group.Wanted, Whole: group.Whole, Rank: rank,
	})
}

// AddTask adds the pod of request, or takes over what a pod that is known says.
func (g *Gate) AddTask(request *protocol.AddTaskRequest) protocol.ManagedTask {
	if !g.Report(request) {
		return nil
	}
	task := managedTask{g, ledger.Key{AppID: request.Metadata.ApplicationID, TaskID: request.Metadata.TaskID}}
	if task.record() == nil {
		return nil
	}
	return task
}

// Report does what AddTask does for a manager that does not ask what came of it: it puts
// no question to the lead, of which there would be one for each pod. It reports false
// for a task that is refused at once.
func (g *Gate) Report(request *protocol.AddTaskRequest) bool {
	meta := &request.Metadata
	if meta.Pod == nil || meta.TaskID != string(meta.Pod.UID) {
		g.cfg.Log.Error("task that is not the one of its pod refused", "app", meta.ApplicationID, "task", meta.TaskID)
		return false
	}
	if by := g.cfg.Claimed(meta.Pod); by != "" {
		g.disowned(meta.Pod, by)
		return false
	}
	if g.term.Load() == nil {
		g.cfg.Suspect(meta.ApplicationID, meta.TaskID, meta.Pod)
	} else if meta.Pod.Spec.NodeName == "" || !failpoint.Off(failpoint.RecoveryGuard) {
		g.cfg.Pods.SetPod(meta.Pod)
	}
	return g.send(TaskEvent(g.stamp(), meta))
}

// disowned says, once for each manager, that this one reports pods which belong to that.
func (g *Gate) disowned(pod *v1.Pod, by string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.said[by] {
		g.said[by] = true
		g.cfg.Log.Warn("a pod that is reported belongs to a manager that comes before in the configuration; so do others of its kind",
			"pod", cache.MetaObjectToName(pod).String(), "belongs to", by)
	}
}

// RemoveTask forgets a task; one that lives is completed first.
func (g *Gate) RemoveTask(appID, taskID string) {
	g.suspect(appID, taskID)
	g.send(ledger.RemoveTask{Stamp: g.stamp(), AppID: appID, TaskID: taskID})
}

// NotifyApplicationComplete reports that an application has ended well.
func (g *Gate) NotifyApplicationComplete(appID string) {
	g.send(ledger.CompleteApp{Stamp: g.stamp(), AppID: appID})
}

// NotifyApplicationFail reports that an application has failed.
func (g *Gate) NotifyApplicationFail(appID string) {
	g.send(ledger.FailApp{Stamp: g.stamp(), AppID: appID, Message: "reported failed by " + g.cfg.Manager})
}

// NotifyTaskComplete reports that the pod of a task has ended or is gone.
func (g *Gate) NotifyTaskComplete(appID, taskID string) {
	g.suspect(appID, taskID)
	g.send(ledger.CompleteTask{Stamp: g.stamp(), AppID: appID, TaskID: taskID})
}

func (g *Gate) suspect(appID, taskID string) {
	if g.term.Load() == nil {
		g.cfg.Suspect(appID, taskID, nil)
	}
}

// Owner returns the application that a task belongs to, empty if it is not known.
func (g *Gate) Owner(taskID string) string {
	app, _ := read(g, func(l *ledger.Ledger) string {
		if task := l.TaskByID(taskID); task != nil {
			return task.AppID
		}
		return ""
	})
	return app
}

// AppEvent translates the metadata that the app manager gives.
func (g *Gate) AppEvent(stamp ledger.Stamp, meta *protocol.ApplicationMetadata, recovery bool) ledger.AddApp {
	event := AppEvent(stamp, g.cfg.Manager, meta, recovery)
	if g.cfg.NoGangs {
		event.TaskGroups = nil
	}
	return event
}

// AppEvent translates the metadata that an app manager gives.
func AppEvent(stamp ledger.Stamp, manager string, meta *protocol.ApplicationMetadata, recovery bool) ledger.AddApp {
	event := ledger.AddApp{
		Stamp:           stamp,
		ID:              meta.ApplicationID,
		Manager:         manager,
		Queue:           meta.QueueName,
		User:            meta.User,
		Groups:          workload.Groups(meta.Tags),
		Tags:            meta.Tags,
		TaskGroups:      meta.TaskGroups,
		OwnerReferences: meta.OwnerReferences,
		Submitted:       ledger.At(time.Unix(meta.CreationTime, 0)),
		Recovery:        recovery,
	}
	if meta.CreationTime == 0 {
		event.Submitted = stamp.At
	}
	if policy := meta.SchedulingPolicyParameters; policy != nil {
		event.PlaceholderTimeout = policy.GetPlaceholderTimeout()
		event.Style = ledger.GangStyle(policy.GetGangSchedulingStyle())
	}
	return event
}

// TaskEvent translates a pod.
func TaskEvent(stamp ledger.Stamp, meta *protocol.TaskMetadata) ledger.AddTask {
	pod := meta.Pod
	return ledger.AddTask{
		Stamp:       stamp,
		AppID:       meta.ApplicationID,
		ID:          meta.TaskID,
		Namespace:   pod.Namespace,
		Name:        pod.Name,
		Placeholder: meta.Placeholder,
		TaskGroup:   meta.TaskGroupName,
		Resources:   engine.ResourcesOf(pod),
		Submitted:   submitted(stamp, pod),
		Node:        pod.Spec.NodeName,
		Terminated:  workload.Terminated(pod),
	}
}

// submitted orders pods. The API server stamps whole seconds only, so a pod that
// is seen within its second is stamped with the time it was seen.
func submitted(stamp ledger.Stamp, pod *v1.Pod) ledger.Time {
	created := ledger.At(pod.CreationTimestamp.Time)
	if stamp.At-created < ledger.Time(time.Second) {
		return stamp.At
	}
	return created
}

// stateNew is that of what has been reported to a replica that only follows, and what no
// lead has heard of yet.
const stateNew = "New"

// Ended reports whether an application does not leave the state of that name by itself.
func Ended(state string) bool { return ledger.AppState(state).Terminal() }

// managedApp is a handle: it reads the ledger when asked.
type managedApp struct {
	g  *Gate
	id string
}

func (a managedApp) record() *ledger.App {
	if app, _ := read(a.g, func(l *ledger.Ledger) *ledger.App { return l.App(a.id) }); app != nil {
		return app
	}
	if noted, ok := a.g.NotedApp(a.id); ok {
		return &ledger.App{ID: a.id, State: stateNew, Queue: noted.Queue, User: noted.User}
	}
	return nil
}

func (a managedApp) GetApplicationID() string { return a.id }

func (a managedApp) GetApplicationState() string {
	if app := a.record(); app != nil {
		return string(app.State)
	}
	return ""
}

func (a managedApp) GetQueue() string {
	if app := a.record(); app != nil {
		return cmp.Or(app.PlacedQueue, app.Queue)
	}
	return ""
}

func (a managedApp) GetUser() string {
	if app := a.record(); app != nil {
		return app.User
	}
	return ""
}

func (a managedApp) GetTask(taskID string) (protocol.ManagedTask, error) {
	task := managedTask{a.g, ledger.Key{AppID: a.id, TaskID: taskID}}
	if record := task.record(); record == nil || record.AppID != a.id {
		return nil, fmt.Errorf("task %s is not known in application %s", taskID, a.id)
	}
	return task, nil
}

// SetState asks for the application to end in the given state. The other
// states follow from what happens to the application, so asking for one of
// them changes nothing.
func (a managedApp) SetState(state string) {
	stamp := a.g.stamp()
	switch ledger.AppState(state) {
	case ledger.AppStateCompleted:
		a.g.send(ledger.CompleteApp{Stamp: stamp, AppID: a.id})
	case ledger.AppStateFailing, ledger.AppStateFailed:
		a.g.send(ledger.FailApp{Stamp: stamp, AppID: a.id, Message: "set by " + a.g.cfg.Manager})
	case ledger.AppStateKilling, ledger.AppStateKilled:
		a.g.send(ledger.KillApp{Stamp: stamp, AppID: a.id})
	default:
		a.g.cfg.Log.Warn("state is not for app managers to set", "app", a.id, "state", state)
	}
}

// TriggerAppRecovery has nothing to do for an application that lives: the engine of
// every lead is told of it before it may schedule. One that has ended can not be
// recovered, only begun anew.
func (a managedApp) TriggerAppRecovery() error {
	app := a.record()
	switch {
	case app == nil:
		return fmt.Errorf("application %s is not known", a.id)
	case app.State.Terminal():
		return fmt.Errorf("application %s is %s", a.id, app.State)
	}
	return nil
}

// managedTask is a handle like managedApp.
type managedTask struct {
	g   *Gate
	key ledger.Key
}

func (t managedTask) record() *ledger.Task {
	task, _ := read(t.g, func(l *ledger.Ledger) *ledger.Task { return l.TaskByID(t.key.TaskID) })
	if _, noted := t.g.Noted(t.key.TaskID); task == nil && noted {
		return &ledger.Task{AppID: t.key.AppID, ID: t.key.TaskID, State: stateNew}
	}
	return task
}

func (t managedTask) GetTaskID() string { return t.key.TaskID }

func (t managedTask) GetTaskState() string {
	if task := t.record(); task != nil {
		return string(task.State)
	}
	return ""
}

func (t managedTask) GetTaskPod() *v1.Pod { return t.g.cfg.Pods.Pod(t.key.TaskID) }
