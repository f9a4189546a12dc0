package command

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/coordinator/explain"
)

func (c command) explanation() *cobra.Command {
	return group("explain", "Say what a pod or an application waits for, and what would help", c.explainPod(), c.explainApp(), c.explainQueue())
}

func (c command) explainPod() *cobra.Command {
	cmd := reading("pod NAMESPACE/NAME", "Say why a pod has no node, or how it ended", `Say what is in the way of a pod: the pod itself, its application, its gang, limits of queues
and users, the nodes, or that others come first. All limits on its way are shown with what is used.`)
	cmd.Args = args(cobra.ExactArgs(1))
	return show(c, cmd, func(args []string) string {
		return api.PathExplain + "?" + url.Values{"pod": args}.Encode()
	}, printExplanation)
}

func (c command) explainApp() *cobra.Command {
	cmd := reading("app ID", "Say what the pods of an application wait for", `Say how an application is, and what its pods wait for: those with the same reason together, with
the oldest of them.`)
	cmd.Args = args(cobra.ExactArgs(1))
	return show(c, cmd, func(args []string) string {
		return api.PathExplain + "?" + url.Values{"application": args}.Encode()
	}, printApplication)
}

func (c command) explainQueue() *cobra.Command {
	cmd := reading("queue NAME", "Say what the pods of a queue wait for", `Say what all pods wait for that are in a queue, or in one below it: those with the same reason
together, with the oldest of them. The queue root has them all.`)
	cmd.Args = args(cobra.ExactArgs(1))
	return show(c, cmd, func(args []string) string {
		return api.PathExplain + "?" + url.Values{"queue": args}.Encode()
	}, printQueue)
}

func printExplanation(w io.Writer, x explain.Explanation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "Pod", x.Pod)
	row(t, "Application", strings.Join(present(x.Application, x.ApplicationState, in("queue", x.Queue), in("user", x.User)), ", "))
	if x.TaskState != "" {
		row(t, "Task", x.TaskState)
	}
	if len(x.Requests) > 0 {
		row(t, "Requests", requested(x.Requests))
	}
	why(t, x)
	for _, g := range x.Gang {
		row(t, "Gang", fmt.Sprintf("%s: %d of %d bound, %d replaced, %d timed out", g.Name, g.Bound, g.Wanted, g.Replaced, g.TimedOut))
	}
	if o := x.Order; o != nil {
		row(t, "Order", fmt.Sprintf("%s, priority %d; %d applications of the queue and %d pods of its own come first",
			cmp.Or(o.Policy, "-"), o.Priority, o.Applications, o.Pods))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := printLimits(w, x.Limits); err != nil {
		return err
	}
	return printReasons(w, x.Nodes)
}

// why says what the pod waits for, and what would help.
func why(w io.Writer, x explain.Explanation) {
	reason := string(x.Reason)
	if x.Since != nil {
		reason += ", waits " + since(x.Since.UnixNano())
	}
	row(w, "Reason", reason)
	row(w, "", x.Message)
	if x.Deadline != nil {
		row(w, "", "until "+x.Deadline.Format(time.RFC3339))
	}
	if holder := x.Placeholder; holder != nil {
		row(w, "", fmt.Sprintf("placeholder %s waits: %s", holder.Pod, holder.Message))
	}
	if by := x.For; by != nil {
		row(w, "For", strings.Join(present("pod "+by.Pod, in("application", by.Application), in("queue", by.Queue), in("user", by.User)), ", "))
	}
	for i, helps := range x.Unblock {
		title := ""
		if i == 0 {
			title = "What helps"
		}
		row(w, title, helps)
	}
	if x.Estimate != nil {
		row(w, "Estimate", x.Estimate.Message)
	}
}

func printLimits(w io.Writer, limits []explain.Limit) error {
	if len(limits) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "LIMIT", "IN QUEUE", "OF", "ASKED", "USED", "MAX", "GUARANTEED", "")
	for _, l := range limits {
		who := strings.Join(present(l.Kind, l.Name), " ")
		for _, m := range l.Resources {
			short := ""
			if slices.Contains(l.Short, m.Resource) {
				short = "not enough"
			}
			row(t, who, l.Queue, m.Resource, cmp.Or(m.Asked, "-"), m.Used, cmp.Or(m.Max, "-"), cmp.Or(m.Guaranteed, "-"), short)
		}
		if l.MaxRunning > 0 {
			row(t, who, l.Queue, "running applications", "-", strconv.Itoa(l.Running), strconv.FormatUint(l.MaxRunning, 10), "-", "")
		}
	}
	return t.Flush()
}

func printReasons(w io.Writer, nodes *explain.Nodes) error {
	if nodes == nil || len(nodes.Reasons) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "NODES", "REASON", "SUCH AS")
	for _, r := range nodes.Reasons {
		row(t, fmt.Sprintf("%d of %d", r.Nodes, nodes.Total), r.Reason, r.Example)
	}
	return t.Flush()
}

func printApplication(w io.Writer, x api.ApplicationExplanation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "Application", strings.Join(present(x.Application, in("queue", x.Queue), in("user", x.User)), ", "))
	state := x.State
	if x.Since != nil {
		state += ", for " + since(x.Since.UnixNano())
	}
	row(t, "State", state)
	if x.Message != "" {
		row(t, "", x.Message)
	}
	var counts []string
	for _, name := range slices.Sorted(maps.Keys(x.Tasks)) {
		counts = append(counts, fmt.Sprintf("%d %s", x.Tasks[name], name))
	}
	row(t, "Pods", cmp.Or(strings.Join(counts, ", "), "none"))
	printWaiting(t, x.WaitingFor)
	return t.Flush()
}

func printQueue(w io.Writer, x api.QueueExplanation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "Queue", x.Queue)
	if len(x.Waiting) == 0 {
		row(t, "", "no pod waits")
	}
	printWaiting(t, x.WaitingFor)
	return t.Flush()
}

func printWaiting(t io.Writer, x api.WaitingFor) {
	for _, waiting := range x.Waiting {
		row(t, "", "")
		row(t, strconv.Itoa(waiting.Pods)+" wait", "such as "+waiting.Pod+": "+requested(waiting.Requests))
		why(t, waiting.Explanation)
	}
	if x.More > 0 {
		row(t, "", "")
		row(t, strconv.Itoa(x.More)+" more", "wait for other reasons")
	}
}

// present returns the texts that are not empty.
func present(texts ...string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

func in(what, name string) string {
	if name == "" {
		return ""
	}
	return what + " " + name
}

func requested(of map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if name != "pods" {
			parts = append(parts, name+"="+of[name])
		}
	}
	return strings.Join(parts, ", ")
}
