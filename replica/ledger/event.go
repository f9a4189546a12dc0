package ledger

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// Event is something that happened outside the ledger. Each kind is a struct
// below. An event about a task finds it by TaskID; AppID is what its sender takes
// for the task's application. When says at what time, and Step reads no other clock.
type Event interface {
	When() Time
	// Kind is the name of the kind, for logs and metrics.
	Kind() string
}

// Stamp is the part that all events share.
type Stamp struct {
	// At is when it happened.
	At Time
	// Trace is the traceparent of the span that describes it; where it is not
	// empty it becomes the Trace of the task that the event is about, or of the
	// application if it is about none.
	Trace string
}

// When returns the time of the event.
func (s Stamp) When() Time { return s.At }

// Events from app managers, through the application management protocol.
type (
	// AddApp submits an application, or with Recovery restores one that ran
	// before this coordinator knew it. An application that is known and live is
	// left as it is; one that has ended is replaced, and takes over those of its
	// pods that still live, which makes it a recovery.
	AddApp struct {
		Stamp
		ID                 string
		Manager            string
		Queue              string
		User               string
		Groups             []string
		Tags               map[string]string
		TaskGroups         []v1alpha1.TaskGroup
		OwnerReferences    []metav1.OwnerReference
		PlaceholderTimeout int64
		Style              GangStyle
		Submitted          Time
		Recovery           bool
	}

	// AddTask adds a pod to its application, unless it belongs to another one
	// already: that it keeps. A pod that is already assigned
	// starts as bound to Node, one that has terminated as completed. A task that
	// is known is not added again, but what the pod says is taken over: an
	// assignment confirms or overrides the intent, requests replace what was
	// known. What brings no news changes nothing.
	AddTask struct {
		Stamp
		AppID       string
		ID          string
		Namespace   string
		Name        string
		Placeholder bool
		TaskGroup   string
		Resources   map[string]int64
		Submitted   Time
		Node        string
		Terminated  bool
	}

	// SetCrew says of a task group that its tasks, which are real, are bound all or none,
	// and how many of them it takes: see Crew. Zero says that it is not known any more.
	// With Whole it has been whole already, as the manager knows from elsewhere. One with
	// another UID is another one. Rank does not count with zero.
	SetCrew struct {
		Stamp
		AppID  string
		Name   string
		UID    string
		Wanted int32
		Whole  bool
		Rank   Rank
	}

	// CompleteTask says that the pod has terminated or is gone.
	CompleteTask struct {
		Stamp
		AppID, TaskID string
	}
	// RemoveTask forgets a task; a live one is completed first.
	RemoveTask struct {
		Stamp
		AppID, TaskID string
	}
	// CompleteApp says that the application as a whole has completed. Pods that
	// have a node go on, the others are given up. An application that can not take it
	// yet does so later; FailApp and KillApp are kept alike.
	CompleteApp struct {
		Stamp
		AppID string
	}
	// FailApp says that the application has failed.
	FailApp struct {
		Stamp
		AppID   string
		Message string
	}
	// KillApp asks for the application to be ended.
	KillApp struct {
		Stamp
		AppID string
	}
	// RemoveApp forgets an application and its tasks. Placeholders that are left
	// are deleted, but as nothing is left to remember a failure by, once only.
	RemoveApp struct {
		Stamp
		AppID string
	}
)

// Events from the engine.
type (
	// AppAccepted says that the engine took the application into PlacedQueue.
	AppAccepted struct {
		Stamp
		AppID       string
		PlacedQueue string
	}
	// AppRejected says that the engine did not take it.
	AppRejected struct {
		Stamp
		AppID   string
		Message string
	}
	// AppEnded says that the engine has seen the application through: State is
	// AppStateCompleted, AppStateFailing, AppStateFailed or
	// AppStateResuming.
	AppEnded struct {
		Stamp
		AppID   string
		State   AppState
		Message string
	}
	// Allocated says that the engine chose Node, of InstanceType, for the task; Swapped, that a
	// placeholder held that place for it.
	Allocated struct {
		Stamp
		AppID, TaskID      string
		Node, InstanceType string
		Swapped            bool
	}
	// Released says that the engine wants, or has confirmed, the end of an
	// allocation. For is the task that takes the place of a placeholder which is
	// replaced, on Node; empty if that is not known.
	Released struct {
		Stamp
		AppID, TaskID string
		Termination   Termination
		Message       string
		For, Node     string
	}
	// AskReleased says that the engine dropped a pending ask, as it does with
	// the placeholders of a gang that timed out before they were allocated. A
	// real task asks again.
	AskReleased struct {
		Stamp
		AppID, TaskID string
		Termination   Termination
		Message       string
	}
	// AskRejected says that the engine refused the ask. The task fails; a
	// placeholder takes its gang with it.
	AskRejected struct {
		Stamp
		AppID, TaskID string
		Message       string
	}
)

// Events from the executors of effects, and from the clock.
type (
	// BindDone confirms a Bind effect: the pod is assigned to Node, even if that
	// is not where the task is wanted by now.
	BindDone struct {
		Stamp
		AppID, TaskID string
		Node          string
	}
	// BindFailed reports an attempt that did not succeed and may be repeated; Refused
	// says that the API server would refuse it again. Node is where the pod was to be
	// bound, empty for where the task is: another decision may have been made since.
	BindFailed struct {
		Stamp
		AppID, TaskID string
		Message       string
		Refused       bool
		Node          string
	}
	// NodeLost says that the node of an allocation not yet bound is gone or, with
	// a message for the user, cannot take the pod any more: the allocation is
	// given back and the task asks anew. Node is which node, empty for that of the task:
	// engine and binder may both notice, and the second to tell means no other node.
	NodeLost struct {
		Stamp
		AppID, TaskID string
		Message       string
		Node          string
	}
	// PlaceholderFailed reports that a placeholder pod can not be created; the gang is
	// cleaned up, and the application runs without it or, if its style is Hard, fails.
	PlaceholderFailed struct {
		Stamp
		AppID   string
		Message string
	}
	// PlaceholderDelayed reports that a placeholder pod can not be created for now; it
	// is tried again, until the time for the gang is up.
	PlaceholderDelayed struct {
		Stamp
		AppID   string
		Message string
	}
	// DeleteFailed reports a pod deletion to be repeated; Refused says that the API
	// server would refuse it again as things are.
	DeleteFailed struct {
		Stamp
		AppID, TaskID string
		Message       string
		Refused       bool
	}
	// PodNotFailed reports an attempt at failing a pod that is to be repeated, with
	// Refused as in DeleteFailed.
	PodNotFailed struct {
		Stamp
		AppID, TaskID string
		Message       string
		Refused       bool
	}
	// PodFailed confirms a FailPod effect; the task has failed.
	PodFailed struct {
		Stamp
		AppID, TaskID string
	}
	// RemoveDoubles deletes the records of tasks that are other applications', as
	// every step does; it does nothing else.
	RemoveDoubles struct{ Stamp }
	// Continue goes on with what a lead that has gone may have written in part: see
	// Ledger.Halfway.
	Continue struct {
		Stamp
		AppID string
	}
	// Tick lets deadlines that are due at its time take effect.
	Tick struct{ Stamp }
)
