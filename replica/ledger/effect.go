package ledger

import "time"

// Effect is work that a step asks for. Each kind is a struct below. The ledger
// never does the work, and asks for it again through Due until an event
// confirms it, so every effect may be carried out more than once.
type Effect interface {
	// External reports whether the effect leaves the process. An external
	// effect waits until the changes of its step are durable; an effect on the
	// engine does not, for the engine dies with the process.
	External() bool
	// Kind is the name of the kind, for logs.
	Kind() string
}

type internal struct{}

func (internal) External() bool { return false }

type external struct{}

func (external) External() bool { return true }

// Effects on the engine.
type (
	// SubmitApp gives the engine a new application, or with Recovery one that
	// must be taken whatever its queue's limits say.
	SubmitApp struct {
		internal
		App      *App
		Recovery bool
	}
	// ForgetApp removes the application from the engine.
	ForgetApp struct {
		internal
		AppID string
	}
	// Ask requests an allocation for a task, or updates the request.
	Ask struct {
		internal
		App  *App
		Task *Task
	}
	// Restore tells the engine of an allocation that exists: the task is
	// assigned to Task.Node.
	Restore struct {
		internal
		App  *App
		Task *Task
	}
	// Release gives an allocation, or a pending ask, back to the engine.
	Release struct {
		internal
		Task        *Task
		Termination Termination
	}
)

// Effects on the cluster.
type (
	// Bind assigns the pod of Task to Task.Node.
	Bind struct {
		external
		Task *Task
	}
	// AssessGang tells the pod of Originator if the cluster, as it is, can never hold
	// the gang of App.
	AssessGang struct {
		external
		App        *App
		Originator *Task
	}
	// CreatePlaceholder creates the pod Name for member Index of group Group, to be
	// gone when Originator is, but not before Pause has passed. A pod of that name
	// that exists confirms it.
	CreatePlaceholder struct {
		external
		App        *App
		Originator *Task
		Group      string
		Index      int32
		Name       string
		Pause      time.Duration
	}
	// CancelPlaceholders takes back the creations for an application that have not
	// been carried out.
	CancelPlaceholders struct {
		external
		AppID string
	}
	// DeletePod deletes the pod of Task, with its UID as precondition.
	DeletePod struct {
		external
		Task *Task
	}
	// FailPod writes phase Failed with Reason, and the task's Message, to the
	// unassigned pod of Task.
	FailPod struct {
		external
		Task   *Task
		Reason string
	}
	// ReportTask puts a Kubernetes Event on the pod of Task. Action may be empty, and so
	// may Condition: the reason of the pod's condition PodScheduled=False, which gives
	// the same Message. What the condition says already is not told again.
	ReportTask struct {
		external
		Task      *Task
		Warning   bool
		Reason    string
		Action    string
		Message   string
		Condition string
	}
)

// Delta is what one step did: the records it changed, each key once, and the
// work it asks for, in order.
type Delta struct {
	Changes []Change
	Effects []Effect
	// Refused says why the event had no effect; empty if it had, or if there
	// was nothing to do. It is for logs and counters.
	Refused string
}
