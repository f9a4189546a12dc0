package managers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"

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

// Contract is the application management protocol as one app manager speaks it to a
// lead. Each call becomes an event in the lead's mailbox; a call that reads is
// answered by the goroutine that owns the ledger, after every event the same
// caller sent before.
type Contract struct {
	ctx     context.Context // of the term: after it, calls change nothing
	manager string
	box     *loop.Mailbox
	pods    PodCache
	now     func() time.Time
	log     *slog.Logger
}

// errNotLeading is what a call returns when the term is over.
var errNotLeading = errors.New("this replica does not lead any more")

var _ protocol.ApplicationManagementProtocol = (*Contract)(nil)

// NewContract returns the contract of the manager of that name with the lead to whose
// mailbox it speaks. When ctx or the mailbox ends, every call returns and changes
// nothing.
func NewContract(
	ctx context.Context, manager string, box *loop.Mailbox, pods PodCache, now func() time.Time, log *slog.Logger,
) *Contract {
	return &Contract{ctx: ctx, manager: manager, box: box, pods: pods, now: now, log: log}
}

// send reports whether the lead will hear of the event.
func (c *Contract) send(event ledger.Event) bool {
	return c.box.Put(c.ctx, event) && c.ctx.Err() == nil
}

func (c *Contract) stamp() ledger.Stamp { return ledger.Stamp{At: ledger.At(c.now())} }

// GetApplication returns nil for an application that is not known.
func (c *Contract) GetApplication(appID string) protocol.ManagedApp {
	app := managedApp{c, appID}
	if app.record() == nil {
		return nil
	}
	return app
}

// AddApplication submits the application of request and returns a handle to it.
func (c *Contract) AddApplication(request *protocol.AddApplicationRequest) protocol.ManagedApp {
	if !c.send(AppEvent(c.stamp(), c.manager, &request.Metadata, false)) {
		return nil
	}
	return managedApp{c, request.Metadata.ApplicationID}
}

// RemoveApplication forgets an application that has no task which lives.
func (c *Contract) RemoveApplication(appID string) error {
	refused, ok := loop.Ask(c.ctx, c.box, func(l *ledger.Ledger) error {
		if l.App(appID) == nil {
			return fmt.Errorf("application %s is not known", appID)
		}
		if live := l.Live(appID); live > 0 {
			return fmt.Errorf("application %s has %d tasks that live", appID, live)
		}
		return nil
	})
	if refused != nil {
		return refused
	}
	if !ok || !c.send(ledger.RemoveApp{Stamp: c.stamp(), AppID: appID}) {
		return errNotLeading
	}
	return nil
}

// AddTask adds the pod of request, or takes over what a pod that is known says.
func (c *Contract) AddTask(request *protocol.AddTaskRequest) protocol.ManagedTask {
	meta := &request.Metadata
	if meta.Pod == nil {
		c.log.Error("task without a pod refused", "app", meta.ApplicationID, "task", meta.TaskID, "manager", c.manager)
		return nil
	}
	if meta.Pod.Spec.NodeName == "" || !failpoint.Off(failpoint.RecoveryGuard) {
		c.pods.SetPod(meta.Pod)
	}
	c.send(TaskEvent(c.stamp(), meta))
	task := managedTask{c, ledger.Key{AppID: meta.ApplicationID, TaskID: meta.TaskID}}
	if task.record() == nil {
		return nil
	}
	return task
}

// RemoveTask forgets a task; one that lives is completed first.
func (c *Contract) RemoveTask(appID, taskID string) {
	c.send(ledger.RemoveTask{Stamp: c.stamp(), AppID: appID, TaskID: taskID})
}

// NotifyApplicationComplete reports that an application has ended well.
func (c *Contract) NotifyApplicationComplete(appID string) {
	c.send(ledger.CompleteApp{Stamp: c.stamp(), AppID: appID})
}

// NotifyApplicationFail reports that an application has failed.
func (c *Contract) NotifyApplicationFail(appID string) {
	c.send(ledger.FailApp{Stamp: c.stamp(), AppID: appID, Message: "reported failed by " + c.manager})
}

// NotifyTaskComplete reports that the pod of a task has ended or is gone.
func (c *Contract) NotifyTaskComplete(appID, taskID string) {
	c.send(ledger.CompleteTask{Stamp: c.stamp(), AppID: appID, TaskID: taskID})
}

// Owner returns the application that a task belongs to, empty if it is not known.
func (c *Contract) Owner(taskID string) string {
	app, _ := loop.Ask(c.ctx, c.box, func(l *ledger.Ledger) string {
		if task := l.TaskByID(taskID); task != nil {
			return task.AppID
		}
		return ""
	})
	return app
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

// managedApp is a handle: it reads the ledger when asked.
type managedApp struct {
	c  *Contract
	id string
}

func (a managedApp) record() (app *ledger.App) {
	app, _ = loop.Ask(a.c.ctx, a.c.box, func(l *ledger.Ledger) *ledger.App { return l.App(a.id) })
	return app
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
	task := managedTask{a.c, ledger.Key{AppID: a.id, TaskID: taskID}}
	if record := task.record(); record == nil || record.AppID != a.id {
		return nil, fmt.Errorf("task %s is not known in application %s", taskID, a.id)
	}
	return task, nil
}

// SetState asks for the application to end in the given state. The other
// states follow from what happens to the application, so asking for one of
// them changes nothing.
func (a managedApp) SetState(state string) {
	stamp := a.c.stamp()
	switch ledger.AppState(state) {
	case ledger.AppStateCompleted:
		a.c.send(ledger.CompleteApp{Stamp: stamp, AppID: a.id})
	case ledger.AppStateFailing, ledger.AppStateFailed:
		a.c.send(ledger.FailApp{Stamp: stamp, AppID: a.id, Message: "set by " + a.c.manager})
	case ledger.AppStateKilling, ledger.AppStateKilled:
		a.c.send(ledger.KillApp{Stamp: stamp, AppID: a.id})
	default:
		a.c.log.Warn("state is not for app managers to set", "app", a.id, "state", state, "manager", a.c.manager)
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
	c   *Contract
	key ledger.Key
}

func (t managedTask) record() (task *ledger.Task) {
	task, _ = loop.Ask(t.c.ctx, t.c.box, func(l *ledger.Ledger) *ledger.Task { return l.TaskByID(t.key.TaskID) })
	return task
}

func (t managedTask) GetTaskID() string { return t.key.TaskID }

func (t managedTask) GetTaskState() string {
	if task := t.record(); task != nil {
		return string(task.State)
	}
	return ""
}

func (t managedTask) GetTaskPod() *v1.Pod { return t.c.pods.Pod(t.key.TaskID) }
