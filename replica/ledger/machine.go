package ledger

// appTrigger is what moves an application along its table.
type appTrigger string

const (
	submitApplication   appTrigger = "SubmitApplication"
	recoverApplication  appTrigger = "RecoverApplication"
	acceptApplication   appTrigger = "AcceptApplication"
	tryReserve          appTrigger = "TryReserve"
	updateReservation   appTrigger = "UpdateReservation"
	resumingApplication appTrigger = "ResumingApplication"
	runApplication      appTrigger = "RunApplication"
	completeApplication appTrigger = "CompleteApplication"
	rejectApplication   appTrigger = "RejectApplication"
	failApplication     appTrigger = "FailApplication"
	killApplication     appTrigger = "KillApplication"
	killedApplication   appTrigger = "KilledApplication"
)

// appTable is the application state machine of YuniKorn's shim, without the rows that
// move nothing here. One is added: a rejection while Recovering rejects, where the
// shim crashes.
var appTable = map[appTrigger]map[AppState]AppState{
	submitApplication:  {AppStateNew: AppStateSubmitted},
	recoverApplication: {AppStateNew: AppStateRecovering},
	acceptApplication:  {AppStateSubmitted: AppStateAccepted, AppStateRecovering: AppStateAccepted},
	tryReserve:         {AppStateAccepted: AppStateReserving},
	updateReservation:  {AppStateReserving: AppStateReserving},
	resumingApplication: {
		AppStateReserving: AppStateResuming,
	},
	runApplication: {
		AppStateAccepted: AppStateRunning, AppStateReserving: AppStateRunning,
		AppStateResuming: AppStateRunning, AppStateRunning: AppStateRunning,
	},
	completeApplication: {AppStateRunning: AppStateCompleted},
	rejectApplication:   {AppStateSubmitted: AppStateRejected, AppStateRecovering: AppStateRejected},
	failApplication: {
		AppStateSubmitted: AppStateFailing, AppStateAccepted: AppStateFailing,
		AppStateRunning: AppStateFailing, AppStateReserving: AppStateFailing,
		AppStateFailing: AppStateFailed, AppStateRejected: AppStateFailed,
	},
	killApplication: {
		AppStateAccepted: AppStateKilling, AppStateRunning: AppStateKilling, AppStateReserving: AppStateKilling,
	},
	killedApplication: {AppStateKilling: AppStateKilled},
}

// taskTrigger is what moves a task along its table.
type taskTrigger string

const (
	initTask      taskTrigger = "InitTask"
	submitTask    taskTrigger = "SubmitTask"
	taskAllocated taskTrigger = "TaskAllocated"
	taskBound     taskTrigger = "TaskBound"
	completeTask  taskTrigger = "CompleteTask"
	killTask      taskTrigger = "KillTask"
	taskKilled    taskTrigger = "TaskKilled"
	taskRejected  taskTrigger = "TaskRejected"
	taskFail      taskTrigger = "TaskFail"
)

// taskTable is the task state machine of YuniKorn's shim.
var taskTable = map[taskTrigger]map[TaskState]TaskState{
	initTask:      {TaskStateNew: TaskStatePending},
	submitTask:    {TaskStatePending: TaskStateScheduling},
	taskAllocated: {TaskStateScheduling: TaskStateAllocated, TaskStateCompleted: TaskStateCompleted},
	taskBound:     {TaskStateAllocated: TaskStateBound},
	completeTask: {
		TaskStateNew: TaskStateCompleted, TaskStatePending: TaskStateCompleted, TaskStateScheduling: TaskStateCompleted,
		TaskStateAllocated: TaskStateCompleted, TaskStateBound: TaskStateCompleted, TaskStateKilling: TaskStateCompleted,
		TaskStateKilled: TaskStateCompleted, TaskStateRejected: TaskStateCompleted, TaskStateFailed: TaskStateCompleted,
		TaskStateCompleted: TaskStateCompleted,
	},
	killTask: {
		TaskStatePending: TaskStateKilling, TaskStateScheduling: TaskStateKilling,
		TaskStateAllocated: TaskStateKilling, TaskStateBound: TaskStateKilling,
	},
	taskKilled: {TaskStateKilling: TaskStateKilled},
	taskRejected: {
		TaskStateNew: TaskStateRejected, TaskStatePending: TaskStateRejected, TaskStateScheduling: TaskStateRejected,
	},
	taskFail: {TaskStateRejected: TaskStateFailed, TaskStateAllocated: TaskStateFailed},
}
