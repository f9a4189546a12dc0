package protocol

// ApplicationManagementProtocol is what an AppManager reports to. The
// coordinator implements it.
type ApplicationManagementProtocol interface {
	// GetApplication returns the application, or nil if it is not known.
	GetApplication(appID string) ManagedApp

	// AddApplication makes an application known and returns it. One that is
	// known and has not ended is returned unchanged; one that has ended is
	// begun anew. It returns nil where the coordinator no longer leads.
	AddApplication(request *AddApplicationRequest) ManagedApp

	// RemoveApplication forgets an application and its tasks. It returns an
	// error if the application is not known, or still has tasks that live.
	RemoveApplication(appID string) error

	// AddTask makes a pod known as a task of its application and returns it. A
	// task that is known is not added twice, but what its pod says by now (that
	// it is assigned, that its requests were resized) is taken over. It returns
	// nil if the application is not known.
	AddTask(request *AddTaskRequest) ManagedTask

	// RemoveTask forgets a task; one that still lives is completed first.
	// Nothing happens if the application or the task is not known.
	RemoveTask(appID, taskID string)

	// NotifyApplicationComplete reports that the application as a whole has
	// ended well. Nothing happens if it is not known.
	NotifyApplicationComplete(appID string)

	// NotifyApplicationFail reports that the application as a whole has failed:
	// its pods that are not yet assigned will not be scheduled any more.
	// Nothing happens if it is not known.
	NotifyApplicationFail(appID string)

	// NotifyTaskComplete reports that the pod of a task has ended, well or not,
	// or is gone; the resources it held are given back. Nothing happens if the
	// application or the task is not known.
	NotifyTaskComplete(appID, taskID string)
}

// AddApplicationRequest is the argument of AddApplication.
type AddApplicationRequest struct {
	Metadata ApplicationMetadata
}

// AddTaskRequest is the argument of AddTask.
type AddTaskRequest struct {
	Metadata TaskMetadata
}
