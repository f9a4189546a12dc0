package ledger

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// Time is wall time in nanoseconds since the Unix epoch, UTC. Zero means not
// known or not set. The ledger never reads a clock: time arrives in events.
type Time int64

// At converts a time.Time; its zero value becomes the zero Time.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixNano())
}

// Time converts back, in UTC; the zero Time becomes time.Time's zero value.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(t)).UTC()
}

// Add returns t plus d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// App is the record of one application. Records are immutable once they have
// left the ledger: every step replaces a record it changes by a new copy, so
// that mirror, status and effects may hold one without a lock.
type App struct {
	ID string
	// Manager is the Name of the app manager that submitted the application.
	Manager string
	// Queue is the queue asked for; PlacedQueue the one the engine put it in.
	Queue       string
	PlacedQueue string
	User        string
	Groups      []string
	Tags        map[string]string

	TaskGroups      []v1alpha1.TaskGroup
	OwnerReferences []metav1.OwnerReference
	// PlaceholderTimeout is in seconds; zero selects the default of 15 minutes.
	PlaceholderTimeout int64
	Style              GangStyle

	// Originator is the ID of the task that the application began with, empty while
	// there is none.
	Originator string

	// Submitted is the application's own creation time, which orders it in its
	// queue; it survives the deletion of the pod it was taken from.
	Submitted Time
	State     AppState
	// StateLog holds the newest StateLogLimit transitions, oldest first.
	StateLog []Transition
	// PlaceholderDeadline is absolute: a failover does not extend it. It is set
	// when the first placeholder is allocated.
	PlaceholderDeadline Time
	// Gang counts placeholders, in the order of TaskGroups.
	Gang []GroupCount
	// Replacements counts how often a placeholder was made anew, by group and index:
	// "<group>/<index>". It makes the name of each a new one.
	Replacements map[string]uint32
	// Crews are the task groups without placeholders.
	Crews []Crew

	// Asked is the state in which the manager, or the engine, says that the application
	// has ended, Completed, Failed or Killed, until the application can take it; AskedMessage says
	// why.
	Asked        AppState
	AskedMessage string

	Message  string
	Started  Time
	Finished Time
	// Idle is since when it has run without a task, or did so when it ended; zero while it has any.
	Idle Time
	// MostUsed is the most that its allocations had taken at one time when one of them last
	// gave something back: Ledger.MostUsed has what it is now.
	MostUsed map[string]int64
	// Consumed is what allocations took that have ended, by kind and type of instance.
	Consumed []Consumption
	// Trace is the W3C traceparent of the newest span of the application.
	Trace string
	// Unknown keeps encoded fields of a newer schema, so that a rolling upgrade
	// in either direction loses nothing.
	Unknown []byte
}

// StateLogLimit bounds App.StateLog.
const StateLogLimit = 16

// Transition is one entry of an application's state log.
type Transition struct {
	State AppState
	At    Time
}

// GangStyle says what happens to a gang whose placeholders time out.
type GangStyle string

// The gang styles; an empty one means Soft.
const (
	Soft GangStyle = "Soft"
	Hard GangStyle = "Hard"
)

// GroupCount counts the placeholders of one task group.
type GroupCount struct {
	Name     string
	Wanted   int32
	Bound    int32
	Replaced int32
	TimedOut int32
}

// Task is the record of one pod. Its ID is the pod's UID, which is also its
// allocation key in the engine.
type Task struct {
	AppID       string
	ID          string
	Namespace   string
	Name        string
	State       TaskState
	Placeholder bool
	TaskGroup   string
	// Resources is what the pod requests in the engine's units: vcore in
	// millicores, memory in bytes, everything else in its own unit.
	Resources map[string]int64

	// Submitted orders tasks within their application.
	Submitted Time
	// Node is the allocation intent, durable before Bind is sent. It is empty
	// while the task has no allocation.
	Node      string
	Allocated Time
	Bound     Time
	// InstanceType is that of the node as the engine knows it, empty if it did not choose it.
	InstanceType string
	// Swapped says that the allocation is the place that a placeholder held for it.
	Swapped bool
	// Holder is the ID of that placeholder while it is on its way out. The task is bound
	// once it is gone, and takes nothing until then: the placeholder does.
	Holder string
	// GivenUpFor is, of a placeholder, the ID of the task for which it was given up.
	GivenUpFor string
	// Elsewhere says, of both, that the task's place is on another node than the
	// placeholder's. Such a task takes it at once.
	Elsewhere bool
	// Termination says why the allocation ends or ended.
	Termination Termination
	// DeletePod asks for the pod's deletion until the pod is seen to be gone.
	DeletePod bool
	// FailPod asks for phase Failed to be written to the unassigned pod, with Reason
	// and Message, until it is confirmed.
	FailPod bool
	// Reason is one word in CamelCase, as in the status of a pod.
	Reason string
	// Retries counts failed attempts (bind, delete) since the last success;
	// NextAttempt is when the next one is due, zero for at once.
	Retries     uint32
	NextAttempt Time
	// Avoid names the nodes that have refused the pod for good, the newest last, at
	// most AvoidLimit. A task that is Scheduling keeps off them until NextAttempt.
	Avoid []string

	Message string
	// Trace is the W3C traceparent of the newest span of the task.
	Trace   string
	Unknown []byte
}

// Placed reports whether the task has an allocation, be its pod bound yet or not. The
// place that a placeholder still holds for it is the placeholder's.
func (t *Task) Placed() bool {
	return t.Node != "" && !t.State.Terminal() && (t.Holder == "" || t.Elsewhere)
}

// Termination says why an allocation was released; the names are the engine's.
type Termination string

// The ways in which an allocation ends.
const (
	NotTerminated       Termination = ""
	StoppedByRM         Termination = "STOPPED_BY_RM"
	Timeout             Termination = "TIMEOUT"
	PreemptedByEngine   Termination = "PREEMPTED_BY_SCHEDULER"
	PlaceholderReplaced Termination = "PLACEHOLDER_REPLACED"
)

// Key names a record: an application, or with TaskID a task of it.
type Key struct {
	AppID  string
	TaskID string
}

// Change is the new content of one record. With App and Task nil the record
// has been deleted.
type Change struct {
	Key  Key
	App  *App
	Task *Task
}

// Deleted reports whether the change removes its record.
func (c Change) Deleted() bool { return c.App == nil && c.Task == nil }
