package protocol

import v1 "k8s.io/api/core/v1"

// ManagedApp is an application as the coordinator knows it. What it returns is
// the state at the time of the call.
type ManagedApp interface {
	GetApplicationID() string
	// GetTask returns a task of the application, or an error if it has no task
	// of that ID.
	GetTask(taskID string) (ManagedTask, error)
	// GetApplicationState returns the name of the state: New, Submitted,
	// Accepted, Reserving, Running, ...
	GetApplicationState() string
	// GetQueue returns the queue the engine placed the application in, and
	// until it has done so the queue asked for.
	GetQueue() string
	GetUser() string
	// SetState asks for a transition to the named state. A state that the
	// application cannot reach from where it is, is ignored.
	SetState(state string)
	// TriggerAppRecovery asks for the application to be submitted to the engine
	// again as one that already exists. It returns an error if the application
	// is no longer known, or not in a state that can be recovered.
	TriggerAppRecovery() error
}

// ManagedTask is a task as the coordinator knows it.
type ManagedTask interface {
	GetTaskID() string
	// GetTaskState returns the name of the state: New, Pending, Scheduling,
	// TaskAllocated, Bound, ...
	GetTaskState() string
	// GetTaskPod returns the pod, or nil if it is gone. It is shared and must
	// not be changed.
	GetTaskPod() *v1.Pod
}
