package v1

import "time"

// The types are what clients read: stable, and not those of the ledger. Tags say what else there
// is to a field. api:"filter" makes it a parameter that lists are filtered by; what never changes
// of an item is api:"filter,fixed". doc is its description.

// List is the body of a list.
type List[T any] struct {
	Items    []T    `json:"items"`
	Continue string `json:"continue,omitempty" doc:"the parameter continue of the next page, if there is more"`
	Revision int64  `json:"revision" doc:"of etcd: the list has everything up to it, and a watch may begin there"`
	Epoch    uint64 `json:"epoch" doc:"of the state that was read"`
}

// Resources are amounts by the names of Kubernetes, as its quantities.
type Resources map[string]string

// Application is an application, as the records have it.
type Application struct {
	ID             string         `json:"id" api:"filter,fixed"`
	Manager        string         `json:"manager,omitempty" api:"filter,fixed" doc:"the app manager that submitted it"`
	Namespace      string         `json:"namespace,omitempty" api:"filter,fixed"`
	User           string         `json:"user,omitempty" api:"filter,fixed"`
	Groups         []string       `json:"groups,omitempty"`
	Queue          string         `json:"queue,omitempty" api:"filter" doc:"where it is, or else is to be"`
	State          string         `json:"state" api:"filter"`
	Message        string         `json:"message,omitempty" doc:"why it is in that state, if there is a reason"`
	Submitted      time.Time      `json:"submitted,omitzero"`
	Started        time.Time      `json:"started,omitzero"`
	Finished       time.Time      `json:"finished,omitzero"`
	Tasks          map[string]int `json:"tasks,omitempty" doc:"how many there are in each state"`
	Used           Resources      `json:"used,omitempty" doc:"what its placed tasks request"`
	Pending        Resources      `json:"pending,omitempty" doc:"what its waiting tasks request"`
	Gang           []Gang         `json:"gang,omitempty"`
	PlaceholdersBy time.Time      `json:"placeholdersBy,omitzero" doc:"when the time of its gang is up"`
	States         []Transition   `json:"states,omitempty" doc:"the newest 16 changes of state, oldest first"`
}

// Gang counts the placeholders of a task group.
type Gang struct {
	Name     string `json:"name"`
	Wanted   int32  `json:"wanted"`
	Bound    int32  `json:"bound"`
	Replaced int32  `json:"replaced"`
	TimedOut int32  `json:"timedOut"`
}

// Transition is a change of state.
type Transition struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// Task is a pod.
type Task struct {
	ID          string    `json:"id" api:"filter,fixed" doc:"the UID of the pod"`
	Application string    `json:"application" api:"filter,fixed"`
	Namespace   string    `json:"namespace" api:"filter,fixed"`
	Name        string    `json:"name" api:"filter,fixed"`
	Queue       string    `json:"queue,omitempty" api:"filter" doc:"of its application"`
	User        string    `json:"user,omitempty" api:"filter" doc:"of its application"`
	State       string    `json:"state" api:"filter"`
	Node        string    `json:"node,omitempty" api:"filter" doc:"where it is placed"`
	Placeholder bool      `json:"placeholder,omitempty" api:"filter,fixed"`
	TaskGroup   string    `json:"taskGroup,omitempty" api:"filter,fixed"`
	Requests    Resources `json:"requests,omitempty"`
	Submitted   time.Time `json:"submitted,omitzero"`
	Allocated   time.Time `json:"allocated,omitzero"`
	Bound       time.Time `json:"bound,omitzero"`
	Termination string    `json:"termination,omitempty" doc:"why its allocation ends or ended"`
	Reason      string    `json:"reason,omitempty" doc:"one word"`
	Message     string    `json:"message,omitempty"`
	Waits       string    `json:"waits,omitempty" doc:"the last reason of the scheduling core for not placing it, from the lead; a watch does not tell when it changes"`
}

// Queue is a queue, as the scheduling core has it.
type Queue struct {
	Name        string    `json:"name" api:"filter,fixed" doc:"the full name"`
	Parent      string    `json:"parent,omitempty" api:"filter"`
	State       string    `json:"state,omitempty" api:"filter"`
	Leaf        bool      `json:"leaf" api:"filter"`
	Managed     bool      `json:"managed" api:"filter" doc:"whether it is configured, and not made when it was needed"`
	Max         Resources `json:"max,omitempty"`
	Guaranteed  Resources `json:"guaranteed,omitempty"`
	Used        Resources `json:"used,omitempty"`
	Pending     Resources `json:"pending,omitempty"`
	Preempting  Resources `json:"preempting,omitempty"`
	Running     uint64    `json:"running" doc:"applications that run"`
	MaxRunning  uint64    `json:"maxRunning,omitempty"`
	SortPolicy  string    `json:"sortPolicy,omitempty"`
	MaxPriority int32     `json:"maxPriority,omitempty" doc:"of what waits"`
}

// Node is a node, as the scheduling core has it.
type Node struct {
	Name         string    `json:"name" api:"filter,fixed"`
	Schedulable  bool      `json:"schedulable" api:"filter"`
	Reserved     bool      `json:"reserved" api:"filter"`
	Capacity     Resources `json:"capacity,omitempty"`
	Allocated    Resources `json:"allocated,omitempty" doc:"by tasks"`
	Occupied     Resources `json:"occupied,omitempty" doc:"by pods of other schedulers"`
	Available    Resources `json:"available,omitempty"`
	Tasks        int       `json:"tasks"`
	ForeignPods  int       `json:"foreignPods"`
	Reservations []string  `json:"reservations,omitempty" doc:"for which tasks it is kept"`
}

// User is a user who has applications that have not ended.
type User struct {
	Name         string         `json:"name" api:"filter,fixed"`
	Groups       []string       `json:"groups,omitempty"`
	Queues       []string       `json:"queues,omitempty" doc:"where the applications are"`
	Applications map[string]int `json:"applications,omitempty" doc:"how many there are in each state"`
	Tasks        map[string]int `json:"tasks,omitempty" doc:"how many there are in each state"`
	Used         Resources      `json:"used,omitempty"`
	Pending      Resources      `json:"pending,omitempty"`
}

// Term is a time in which one replica led.
type Term struct {
	Epoch       uint64    `json:"epoch" api:"filter,fixed"`
	Incarnation string    `json:"incarnation" doc:"who led"`
	Began       time.Time `json:"began" doc:"when it won the Lease"`
	Ended       time.Time `json:"ended,omitzero" doc:"missing while it lasts, or where nobody knows"`
	Reason      string    `json:"reason,omitempty" api:"filter" doc:"why it began"`
	EndReason   string    `json:"endReason,omitempty" api:"filter" doc:"how it ended"`
	Steps       []Step    `json:"steps,omitempty" doc:"of its promotion"`
}

// Step is one of a promotion.
type Step struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

// Failover is the change from one term to the next.
type Failover struct {
	Epoch      uint64    `json:"epoch" api:"filter,fixed" doc:"of the new term"`
	From       string    `json:"from" doc:"the incarnation that led before"`
	To         string    `json:"to" doc:"the one that leads then"`
	EndReason  string    `json:"endReason,omitempty" api:"filter" doc:"how the term before ended"`
	Ended      time.Time `json:"ended,omitzero" doc:"when it did"`
	Leading    time.Time `json:"leading,omitzero" doc:"when the promotion was done; missing if it never was, or is under way"`
	Leaderless *float64  `json:"leaderlessSeconds,omitempty" doc:"for how long nobody led, in seconds, by the clocks of the two; missing where that is not known"`
}

// Event is something that the scheduling core of a lead has said.
type Event struct {
	ID        uint64    `json:"id" api:"filter,fixed" doc:"its number: without gap or repetition, whoever leads"`
	At        time.Time `json:"at"`
	Kind      string    `json:"kind,omitempty" api:"filter,fixed" doc:"of the object: APP, NODE, QUEUE, REQUEST or USERGROUP; missing if the event is our own"`
	Object    string    `json:"object,omitempty" api:"filter,fixed" doc:"what it is about: a pod by its UID, all else by its name"`
	Reference string    `json:"reference,omitempty" api:"filter,fixed" doc:"what else it is about"`
	Change    string    `json:"change,omitempty" api:"filter,fixed" doc:"NONE, SET, ADD or REMOVE"`
	Detail    string    `json:"detail,omitempty" api:"filter,fixed" doc:"what has happened, in the core's words"`
	Message   string    `json:"message,omitempty"`
	Resources Resources `json:"resources,omitempty"`
}

// Error is the body of all errors.
type Error struct {
	Status  int    `json:"status" doc:"that of HTTP"`
	Reason  string `json:"reason" doc:"one word"`
	Message string `json:"message"`
}

// Gone names what a watch deletes.
type Gone struct {
	ID          string `json:"id"`
	Application string `json:"application,omitempty" doc:"of a task"`
}

// Mark says up to where a watch has come.
type Mark struct {
	Revision int64  `json:"revision"`
	Epoch    uint64 `json:"epoch"`
}
