package command

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// What has not ended, which is shown unless somebody asks for more.
var (
	liveApps = states(ledger.AppStateNew, ledger.AppStateSubmitted, ledger.AppStateRecovering, ledger.AppStateAccepted, ledger.AppStateReserving,
		ledger.AppStateResuming, ledger.AppStateRunning, ledger.AppStateFailing, ledger.AppStateKilling)
	liveTasks = states(ledger.TaskStateNew, ledger.TaskStatePending, ledger.TaskStateScheduling, ledger.TaskStateAllocated, ledger.TaskStateBound,
		ledger.TaskStateKilling, ledger.TaskStateRejected)
)

func states[S ~string](all ...S) string {
	var names []string
	for _, s := range all {
		names = append(names, string(s))
	}
	return strings.Join(names, ",")
}

func (c command) apps() *cobra.Command {
	cmd := reading("apps [ID...]", "Show the applications, where they are and what they have", `List the applications that have not ended, or with --all or --state others too.`)
	cmd.Args = cobra.ArbitraryArgs
	return listing[apiv1.Application]{
		list: "applications", filters: []string{"queue", "user", "state", "manager", "namespace"}, argument: "id", live: liveApps, follow: true,
		order: func(a, b apiv1.Application) int {
			return cmp.Or(cmp.Compare(a.Queue, b.Queue), a.Submitted.Compare(b.Submitted), cmp.Compare(a.ID, b.ID))
		},
		name:    func(a apiv1.Application) string { return a.ID },
		columns: []string{"APPLICATION", "QUEUE", "STATE", "USER", "RUNS", "WAITS", "USED", "PENDING", "AGE"},
		row: func(a apiv1.Application) []string {
			return []string{a.ID, a.Queue, a.State, a.User, strconv.Itoa(runs(a.Tasks)), strconv.Itoa(waits(a.Tasks)), amounts(a.Used), amounts(a.Pending), age(a.Submitted)}
		},
		wideColumns: []string{"MANAGER", "NAMESPACE", "GANG", "MESSAGE"},
		wide: func(a apiv1.Application) []string {
			var gang []string
			for _, g := range a.Gang {
				gang = append(gang, fmt.Sprintf("%s=%d/%d", g.Name, g.Bound+g.Replaced, g.Wanted))
			}
			return []string{a.Manager, a.Namespace, strings.Join(gang, ","), a.Message}
		},
	}.on(c, cmd)
}

// runs and waits count tasks that have a node, and those that have none yet.
func runs(tasks map[string]int) int {
	return tasks[string(ledger.TaskStateBound)] + tasks[string(ledger.TaskStateAllocated)]
}

func waits(tasks map[string]int) int {
	return tasks[string(ledger.TaskStateNew)] + tasks[string(ledger.TaskStatePending)] + tasks[string(ledger.TaskStateScheduling)]
}

func (c command) tasks() *cobra.Command {
	cmd := reading("tasks [APP...]", "Show pods that wait or run, where, and why they wait", `List the pods that have not ended, or those of some applications; with --all or --state
others too. The reason is the last that the scheduling core had for not placing a pod.`)
	cmd.Args = cobra.ArbitraryArgs
	return listing[apiv1.Task]{
		list: "tasks", filters: []string{"queue", "user", "state", "namespace", "node"}, argument: "application", live: liveTasks, follow: true,
		name:    func(t apiv1.Task) string { return t.Namespace + "/" + t.Name },
		columns: []string{"POD", "APPLICATION", "QUEUE", "STATE", "NODE", "ASKED", "AGE", "WHY IT WAITS"},
		row: func(t apiv1.Task) []string {
			return []string{t.Namespace + "/" + t.Name, t.Application, t.Queue, t.State, t.Node, amounts(t.Requests), age(t.Submitted), t.Waits}
		},
		wideColumns: []string{"UID", "GROUP", "PLACEHOLDER", "REASON", "MESSAGE"},
		wide: func(t apiv1.Task) []string {
			return []string{t.ID, t.TaskGroup, yesNo(t.Placeholder), t.Reason, t.Message}
		},
	}.on(c, cmd)
}

func (c command) queues() *cobra.Command {
	cmd := reading("queues [NAME...]", "Show the queues, what they may have and what they have", "List queues by their full names.")
	cmd.Args = cobra.ArbitraryArgs
	return listing[apiv1.Queue]{
		list: "queues", filters: []string{"parent", "state", "leaf"}, argument: "name", follow: true,
		name:    func(q apiv1.Queue) string { return q.Name },
		columns: []string{"QUEUE", "STATE", "RUNS", "MOST", "USED", "PENDING", "GUARANTEED", "MAX"},
		row: func(q apiv1.Queue) []string {
			most := ""
			if q.MaxRunning > 0 {
				most = fmt.Sprint(q.MaxRunning)
			}
			return []string{q.Name, q.State, fmt.Sprint(q.Running), most, amounts(q.Used), amounts(q.Pending), amounts(q.Guaranteed), amounts(q.Max)}
		},
		wideColumns: []string{"LEAF", "MANAGED", "SORTED BY", "PREEMPTING"},
		wide: func(q apiv1.Queue) []string {
			return []string{yesNo(q.Leaf), yesNo(q.Managed), q.SortPolicy, amounts(q.Preempting)}
		},
	}.on(c, cmd)
}

func (c command) nodes() *cobra.Command {
	cmd := reading("nodes [NAME...]", "Show the nodes, what they have and what is left", `List the nodes as the scheduling core counts them. What other schedulers' pods take is
occupied.`)
	cmd.Args = cobra.ArbitraryArgs
	return listing[apiv1.Node]{
		list: "nodes", filters: []string{"schedulable", "reserved"}, argument: "name", follow: true,
		name:    func(n apiv1.Node) string { return n.Name },
		columns: []string{"NODE", "SCHEDULABLE", "PODS", "ALLOCATED", "OCCUPIED", "AVAILABLE", "RESERVED"},
		row: func(n apiv1.Node) []string {
			return []string{n.Name, yesNo(n.Schedulable), strconv.Itoa(n.Tasks), amounts(n.Allocated), amounts(n.Occupied), amounts(n.Available), yesNo(n.Reserved)}
		},
		wideColumns: []string{"CAPACITY", "FOREIGN PODS", "RESERVED FOR"},
		wide: func(n apiv1.Node) []string {
			return []string{amounts(n.Capacity), strconv.Itoa(n.ForeignPods), strings.Join(n.Reservations, ",")}
		},
	}.on(c, cmd)
}

func (c command) users() *cobra.Command {
	cmd := reading("users [NAME...]", "Show the users who have applications, and what these have", "List the users of applications that have not ended.")
	cmd.Args = cobra.ArbitraryArgs
	return listing[apiv1.User]{
		list: "users", argument: "name",
		name:    func(u apiv1.User) string { return u.Name },
		columns: []string{"USER", "APPLICATIONS", "RUNS", "WAITS", "USED", "PENDING"},
		row: func(u apiv1.User) []string {
			apps := 0
			for _, n := range u.Applications {
				apps += n
			}
			return []string{u.Name, strconv.Itoa(apps), strconv.Itoa(runs(u.Tasks)), strconv.Itoa(waits(u.Tasks)), amounts(u.Used), amounts(u.Pending)}
		},
		wideColumns: []string{"GROUPS", "QUEUES"},
		wide: func(u apiv1.User) []string {
			return []string{strings.Join(u.Groups, ","), strings.Join(u.Queues, ",")}
		},
	}.on(c, cmd)
}

// amounts writes resources by name. Pods are counted elsewhere.
func amounts(of apiv1.Resources) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] != "0" && name != "pods" {
			parts = append(parts, name+"="+of[name])
		}
	}
	return strings.Join(parts, ",")
}

// age is for how long something is there.
func age(from time.Time) string {
	if from.IsZero() {
		return ""
	}
	return since(from.UnixNano())
}

// since is for how long something is there, given when it began in nanoseconds.
func since(nanos int64) string {
	if nanos <= 0 {
		return "-"
	}
	return span(time.Since(time.Unix(0, nanos)))
}

// query writes the parameters of a list.
func query(filters map[string]string, more ...string) string {
	values := url.Values{}
	for name, value := range filters {
		if value != "" {
			values.Set(name, value)
		}
	}
	for i := 0; i < len(more); i += 2 {
		values.Set(more[i], more[i+1])
	}
	return values.Encode()
}
