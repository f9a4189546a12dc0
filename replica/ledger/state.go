package ledger

// AppState is the state of an application; the table in machine.go says which
// event leads from which state to which.
type AppState string

// The application states.
const (
	AppStateNew        AppState = "New"
	AppStateSubmitted  AppState = "Submitted"
	AppStateRecovering AppState = "Recovering"
	AppStateAccepted   AppState = "Accepted"
	AppStateReserving  AppState = "Reserving"
	AppStateResuming   AppState = "Resuming"
	AppStateRunning    AppState = "Running"
	AppStateCompleted  AppState = "Completed"
	AppStateRejected   AppState = "Rejected"
	AppStateFailing    AppState = "Failing"
	AppStateFailed     AppState = "Failed"
	AppStateKilling    AppState = "Killing"
	AppStateKilled     AppState = "Killed"
)

// Terminal reports whether the application has ended for good.
func (s AppState) Terminal() bool {
	switch s {
	case AppStateCompleted, AppStateRejected, AppStateFailed, AppStateKilled:
		return true
	}
	return false
}

// TaskState is the state of a task.
type TaskState string

// The task states.
const (
	TaskStateNew        TaskState = "New"
	TaskStatePending    TaskState = "Pending"
	TaskStateScheduling TaskState = "Scheduling"
	TaskStateAllocated  TaskState = "TaskAllocated"
	TaskStateBound      TaskState = "Bound"
	TaskStateKilling    TaskState = "Killing"
	TaskStateKilled     TaskState = "Killed"
	TaskStateRejected   TaskState = "Rejected"
	TaskStateFailed     TaskState = "Failed"
	TaskStateCompleted  TaskState = "Completed"
)

// Terminal reports whether the task has ended for good.
func (s TaskState) Terminal() bool {
	switch s {
	case TaskStateKilled, TaskStateFailed, TaskStateCompleted:
		return true
	}
	return false
}
