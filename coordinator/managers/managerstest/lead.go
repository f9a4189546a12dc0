package managerstest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/protocol"
)

// Lead takes the calls of a manager, as a lead does whose applications are accepted at
// once and whose pods are never placed. The zero value is ready.
type Lead struct {
	mu    sync.Mutex
	calls []string
	apps  map[string]*app
}

type app struct {
	meta  protocol.ApplicationMetadata
	state string
	tasks map[string]bool // that are known, and whether they live
}

func (a *app) live() bool {
	for _, live := range a.tasks {
		if live {
			return true
		}
	}
	return false
}

func (a *app) ended() bool {
	return slices.Contains([]string{"Completed", "Rejected", "Failed", "Killed"}, a.state)
}

var (
	_ protocol.ApplicationManagementProtocol = (*Lead)(nil)
	_ managers.Grouper                       = (*Lead)(nil)
)

// Calls returns the calls that changed something or were meant to, since it was called
// last, separated by commas.
func (l *Lead) Calls() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	return strings.Join(calls, ", ")
}

// Metadata returns what an application was begun with.
func (l *Lead) Metadata(id string) protocol.ApplicationMetadata {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.apps[id]; a != nil {
		return a.meta
	}
	return protocol.ApplicationMetadata{}
}

// SetState has an application be in a state; with it come tasks that are known.
func (l *Lead) SetState(id, state string, tasks ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.apps[id]
	if a == nil {
		a = &app{tasks: make(map[string]bool)}
		l.put(id, a)
	}
	a.state = state
	for _, task := range tasks {
		a.tasks[task] = true
	}
}

func (l *Lead) put(id string, a *app) {
	if l.apps == nil {
		l.apps = make(map[string]*app)
	}
	l.apps[id] = a
}

func (l *Lead) note(format string, args ...any) {
	l.calls = append(l.calls, fmt.Sprintf(format, args...))
}

// GetApplication implements protocol.ApplicationManagementProtocol, as what follows.
func (l *Lead) GetApplication(id string) protocol.ManagedApp {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.apps[id] == nil {
		return nil
	}
	return handle{l, id}
}

// AddApplication begins what is not known or has ended, and is noted only then.
func (l *Lead) AddApplication(r *protocol.AddApplicationRequest) protocol.ManagedApp {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := r.Metadata.ApplicationID
	if a := l.apps[id]; a == nil || a.ended() {
		l.note("app %s", id)
		l.put(id, &app{meta: r.Metadata, state: "Accepted", tasks: make(map[string]bool)})
	}
	return handle{l, id}
}

// RemoveApplication refuses where a task lives.
func (l *Lead) RemoveApplication(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a := l.apps[id]; {
	case a == nil:
		return errors.New("not known")
	case a.live():
		return errors.New("tasks live")
	}
	l.note("forget %s", id)
	delete(l.apps, id)
	return nil
}

// SetGroup implements managers.Grouper.
func (l *Lead) SetGroup(id string, group managers.Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rank := ""
	if group.Priority != nil {
		rank = fmt.Sprint(" priority=", *group.Priority)
	}
	if group.Yields {
		rank += " yields"
	}
	if group.Together {
		rank += " together"
	}
	l.note("group %s of %s wants %d whole=%t%s", group.Name, id, group.Wanted, group.Whole, rank)
}

// AddTask adds a task.
func (l *Lead) AddTask(r *protocol.AddTaskRequest) protocol.ManagedTask {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("task %s/%s on %q", r.Metadata.ApplicationID, r.Metadata.TaskID, r.Metadata.Pod.Spec.NodeName)
	if a := l.apps[r.Metadata.ApplicationID]; a != nil {
		a.tasks[r.Metadata.TaskID] = true
	}
	return nil
}

// RemoveTask removes a task.
func (l *Lead) RemoveTask(id, task string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("remove %s/%s", id, task)
	for _, a := range l.apps {
		delete(a.tasks, task)
	}
}

// NotifyApplicationComplete completes an application.
func (l *Lead) NotifyApplicationComplete(id string) { l.end(id, "complete", "Completed") }

// NotifyApplicationFail fails an application; it is Failing while a task lives.
func (l *Lead) NotifyApplicationFail(id string) { l.end(id, "fail", "Failed") }

func (l *Lead) end(id, how, state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("%s %s", how, id)
	a := l.apps[id]
	if a == nil || a.ended() {
		return
	}
	if a.state = state; state == "Failed" && a.live() {
		a.state = "Failing"
	}
}

// NotifyTaskComplete ends a task.
func (l *Lead) NotifyTaskComplete(id, task string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("end %s/%s", id, task)
	for _, a := range l.apps {
		if a.tasks[task] {
			a.tasks[task] = false
			if a.state == "Failing" && !a.live() {
				a.state = "Failed"
			}
		}
	}
}

// handle is what GetApplication returns.
type handle struct {
	l  *Lead
	id string
}

func (h handle) GetApplicationID() string { return h.id }
func (h handle) GetQueue() string         { return "" }
func (h handle) GetUser() string          { return "" }
func (h handle) SetState(string)          {}

func (h handle) TriggerAppRecovery() error { return nil }

func (h handle) GetApplicationState() string {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if a := h.l.apps[h.id]; a != nil {
		return a.state
	}
	return ""
}

func (h handle) GetTask(id string) (protocol.ManagedTask, error) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if a := h.l.apps[h.id]; a != nil {
		if _, known := a.tasks[id]; known {
			return task(id), nil
		}
	}
	return nil, errors.New("not known")
}

type task string

func (t task) GetTaskID() string    { return string(t) }
func (t task) GetTaskState() string { return "" }
func (t task) GetTaskPod() *v1.Pod  { return nil }
