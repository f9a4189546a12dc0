package explain

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Facts is what is known of a pod.
type Facts struct {
	Now           time.Time
	SchedulerName string
	// Pod is nil for one that is gone, Task and App for what has no record.
	Pod  *v1.Pod
	Task *ledger.Task
	App  *ledger.App
	// Stage says, in the ledger's words, for which stage of its application or task group the pod
	// waits; empty if it does not.
	Stage string
	// For is the pod for which this one was preempted, nil if that is not known.
	For *Other
	// Estimate is of how long pods of its queue wait, nil where nobody has asked for it.
	Estimate *Estimate
	// Placeholder is one of the application's placeholders that has no node: what the pod waits
	// for if its gang is not complete.
	Placeholder *Facts
	// Core is what the engine of the lead says, nil where only records are known.
	Core *Core
}

// Other is another pod, by its records. App may be nil.
type Other struct {
	Task *ledger.Task
	App  *ledger.App
}

// Core is what the engine says of an ask and of what is in its way. Amounts are in the engine's
// units.
type Core struct {
	ApplicationState string
	// Asked says that the core has the ask.
	Asked        bool
	BackoffUntil time.Time
	// Queues are those on the path, the leaf first; Users the limits of the user and of the group,
	// those of the leaf first.
	Queues []Holder
	Users  []Holder
	Nodes  *Nodes
	Order  *Order
	// Reserved is the node that is kept for the ask.
	Reserved string
}

// Holder has a limit.
type Holder struct {
	Kind, Name, Queue string
	Used, Max         map[string]int64
	Guaranteed        map[string]int64
	Running           int
	MaxRunning        uint64
}

// The kinds of holders.
const (
	KindQueue = "queue"
	KindUser  = "user"
	KindGroup = "group"
)

// figures is an explanation without a reason.
func (f *Facts) figures() Explanation {
	var x Explanation
	if f.Pod != nil {
		x.Pod = podName(f.Pod)
		x.Task = string(f.Pod.UID)
	}
	var asked map[string]int64
	if t := f.Task; t != nil {
		x.Pod, x.Task, x.TaskState = t.Namespace+"/"+t.Name, t.ID, string(t.State)
		asked = t.Resources
		x.Requests = make(map[string]string, len(asked))
		for name, amount := range asked {
			x.Requests[name] = quantity(name, amount)
		}
	}
	if a := f.App; a != nil {
		x.Application, x.ApplicationState, x.User = a.ID, string(a.State), a.User
		if x.Queue = a.PlacedQueue; x.Queue == "" {
			x.Queue = a.Queue
		}
		x.Gang = GroupsOf(a)
	}
	x.Since, x.Estimate = f.since(), f.Estimate
	if c := f.Core; c != nil {
		for _, h := range slices.Concat(c.Queues, c.Users) {
			if limit, any := h.limit(asked); any {
				x.Limits = append(x.Limits, limit)
			}
		}
		x.Nodes, x.Order, x.Reserved = c.Nodes, c.Order, c.Reserved
	}
	return x
}

// GroupsOf returns the task groups of an application, nil if it has none.
func GroupsOf(app *ledger.App) (groups []Group) {
	for _, g := range app.Gang {
		groups = append(groups, Group{g.Name, g.Wanted, g.Bound, g.Replaced, g.TimedOut})
	}
	return groups
}

// since is when the pod began to wait for what it waits for.
func (f *Facts) since() *time.Time {
	if f.Task == nil || f.Task.State.Terminal() || f.Task.State == ledger.TaskStateBound {
		return nil
	}
	at := f.Task.Submitted
	if f.Task.Node != "" {
		at = f.Task.Allocated
	}
	if at == 0 {
		return nil
	}
	since := at.Time()
	return &since
}

// limit returns the limit of a holder, and false if it has none.
func (h *Holder) limit(asked map[string]int64) (Limit, bool) {
	l := Limit{Kind: h.Kind, Name: h.Name, Queue: h.Queue, Running: h.Running, MaxRunning: h.MaxRunning}
	names := maps.Clone(h.Max)
	if names == nil {
		names = make(map[string]int64)
	}
	maps.Copy(names, h.Guaranteed)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		m := Measure{Resource: name, Used: quantity(name, h.Used[name])}
		if amount, ok := asked[name]; ok {
			m.Asked = quantity(name, amount)
		}
		if amount, ok := h.Guaranteed[name]; ok {
			m.Guaranteed = quantity(name, amount)
		}
		if most, ok := h.Max[name]; ok {
			m.Max = quantity(name, most)
			if asked[name] > 0 && asked[name] > most-h.Used[name] {
				l.Short = append(l.Short, name)
				l.never = l.never || asked[name] > most
			}
		}
		l.Resources = append(l.Resources, m)
	}
	return l, len(l.Resources) > 0 || h.MaxRunning > 0
}

// quantity returns an amount of the engine as users write it.
func quantity(name string, amount int64) string {
	switch name {
	case "vcore":
		return resource.NewMilliQuantity(amount, resource.DecimalSI).String()
	case string(v1.ResourceMemory), string(v1.ResourceEphemeralStorage):
		return resource.NewQuantity(amount, resource.BinarySI).String()
	}
	return resource.NewQuantity(amount, resource.DecimalSI).String()
}
