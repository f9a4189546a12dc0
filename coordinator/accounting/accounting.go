// Package accounting compares who has how much: by the pods of the API server, by the ledger, and by
// the engine. The three are kept apart from each other and have to agree.
//
// They change all the time, and are read one after the other. So a difference counts if it is there
// a second time, and the same (Again).
package accounting

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// Sums are amounts in the engine's units, by holder and resource. A holder without any may be there.
type Sums map[string]map[string]int64

// Add adds what a holder has.
func (s Sums) Add(holder string, what map[string]int64) {
	if s[holder] == nil {
		s[holder] = make(map[string]int64, len(what))
	}
	for name, amount := range what {
		s[holder][name] = requests.Sum(s[holder][name], amount)
	}
}

// Account is who has how much. What queues below a queue have is not its own.
type Account struct{ Nodes, Queues, Users Sums }

// NewAccount returns an account of nothing.
func NewAccount() Account { return Account{Sums{}, Sums{}, Sums{}} }

func (a Account) add(t *ledger.Task, app *ledger.App, what map[string]int64) {
	a.Nodes.Add(t.Node, what)
	a.Queues.Add(cmp.Or(app.PlacedQueue, app.Queue), what)
	a.Users.Add(cmp.Or(app.User, "nobody"), what) // as the engine calls who is not known
}

// Placed is a task that has a place.
type Placed struct {
	Task *ledger.Task
	App  *ledger.App
}

// World is what is compared.
type World struct {
	// Pods are all pods that are known, Tasks the placed tasks of the ledger by their ID.
	Pods  []*v1.Pod
	Tasks map[string]Placed
	// Core is the engine's account. Its nodes are all that it has: what is on others is not its to
	// count.
	Core Account
	// Takes is what a pod takes.
	Takes func(*v1.Pod) map[string]int64
}

// Drift is a difference between the pods and another account.
type Drift struct {
	// Kind is node, queue or user, Name its name.
	Kind, Name string
	Resource   string
	// In is ledger or core, Pods what the pods take, and Says what the other account says.
	In         string
	Pods, Says int64
}

func (d Drift) String() string {
	return fmt.Sprintf("%s %s: pods take %s %d, the %s says %d", d.Kind, d.Name, d.Resource, d.Pods, d.In, d.Says)
}

// Compare returns where ledger and core say something else than the pods, in order.
func Compare(w World) []Drift {
	pods, records := NewAccount(), NewAccount()
	for _, t := range w.Tasks {
		if w.counts(t.Task.Node) {
			records.add(t.Task, t.App, t.Task.Resources)
		}
	}
	seen := make(map[string]bool, len(w.Tasks))
	for _, pod := range w.Pods {
		t, ours := w.Tasks[string(pod.UID)]
		switch {
		case workload.Terminated(pod):
		case pod.Spec.NodeName == "":
			continue // its task, if it has one, is about to be bound
		case !w.counts(pod.Spec.NodeName):
		case ours:
			at := *t.Task
			at.Node = pod.Spec.NodeName
			pods.add(&at, t.App, w.Takes(pod))
		default: // no task: it only takes room, for the ledger and for the core
			pods.Nodes.Add(pod.Spec.NodeName, w.Takes(pod))
			records.Nodes.Add(pod.Spec.NodeName, w.Takes(pod))
		}
		seen[string(pod.UID)] = true
	}
	for id, t := range w.Tasks {
		if !seen[id] && t.Task.State == ledger.TaskStateAllocated && w.counts(t.Task.Node) {
			pods.add(t.Task, t.App, t.Task.Resources)
		}
	}
	return slices.Concat(pods.against(records, "ledger"), pods.against(w.Core, "core"))
}

func (w World) counts(node string) bool {
	_, known := w.Core.Nodes[node]
	return known
}

func (a Account) against(b Account, in string) []Drift {
	return slices.Concat(
		differences("node", in, a.Nodes, b.Nodes), differences("queue", in, a.Queues, b.Queues), differences("user", in, a.Users, b.Users),
	)
}

func differences(kind, in string, pods, other Sums) (found []Drift) {
	for _, name := range keysOf(pods, other) {
		for _, resource := range keysOf(pods[name], other[name]) {
			if a, b := pods[name][resource], other[name][resource]; a != b {
				found = append(found, Drift{Kind: kind, Name: name, Resource: resource, In: in, Pods: a, Says: b})
			}
		}
	}
	return found
}

func keysOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Again returns those of a second look by which the same is missing, or too much, as in the first.
func Again(first, second []Drift) []Drift {
	type key struct {
		kind, name, resource, in string
		by                       int64
	}
	of := func(d Drift) key { return key{d.Kind, d.Name, d.Resource, d.In, d.Says - d.Pods} }
	before := make(map[key]bool, len(first))
	for _, d := range first {
		before[of(d)] = true
	}
	return slices.DeleteFunc(slices.Clone(second), func(d Drift) bool { return !before[of(d)] })
}
