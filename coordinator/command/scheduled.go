package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/spf13/cobra"
)

// What is scheduled is read from YuniKorn's REST interface, which every replica serves.

// restForwarded is who is asked without --server and --lab: the port of yunikorn-service,
// forwarded.
const restForwarded = "http://127.0.0.1:9080"

const partition = "/ws/v1/partition/default"

func (c command) apps() *cobra.Command {
	cmd := reading("apps", "Show the applications, where they are and what they have", `List the applications that are active, or with --state those that have ended.`)
	queue := cmd.Flags().String("queue", "", "full `NAME` of a queue, whose applications are shown")
	state := cmd.Flags().String("state", "active", "active, completed or rejected")
	return show(c, cmd, func([]string) string {
		if *queue != "" {
			return partition + "/queue/" + escape(*queue) + "/applications/" + url.PathEscape(*state)
		}
		return partition + "/applications/" + url.PathEscape(*state)
	}, printApps)
}

func (c command) tasks() *cobra.Command {
	cmd := reading("tasks [APP]", "Show pods that wait or run, where, and why they wait", `List the pods of all active applications, or of one. The reason is the last that the
scheduling core had for not placing a pod.`)
	cmd.Args = args(cobra.MaximumNArgs(1))
	return show(c, cmd, func(args []string) string {
		if len(args) == 1 {
			return partition + "/application/" + url.PathEscape(args[0])
		}
		return partition + "/applications/active"
	}, printTasks)
}

func (c command) queues() *cobra.Command {
	cmd := reading("queues", "Show the queues, what they may have and what they have", "List all queues, each below the one that it is part of.")
	return show(c, cmd, func([]string) string { return partition + "/queues" }, printQueues)
}

func (c command) nodes() *cobra.Command {
	cmd := reading("nodes", "Show the nodes, what they have and what is left", `List the nodes as the scheduling core counts them. What other schedulers' pods take is
occupied.`)
	return show(c, cmd, func([]string) string { return partition + "/nodes" }, printNodes)
}

// escape writes a name of which the interface undoes the escaping twice.
func escape(name string) string { return url.PathEscape(url.QueryEscape(name)) }

func reading(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		Long: long + `

The first replica that answers is asked; an understudy has the lead answer. Without
--server and --lab, that is ` + restForwarded + `: the port of
yunikorn-service, forwarded.`,
		Args: args(cobra.NoArgs),
	}
}

// show completes a command that reads a path and prints what it finds there.
func show[T any](c command, cmd *cobra.Command, path func(args []string) string, print func(io.Writer, T) error) *cobra.Command {
	var servers []string
	var lab string
	var timeout time.Duration
	cmd.Flags().StringArrayVar(&servers, "server", nil, "`URL` of a replica's rest.address; may be repeated")
	cmd.Flags().StringVar(&lab, "lab", "", "`DIR` of a local lab, whose replicas are asked")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	_ = cmd.MarkFlagDirname("lab")
	format := outputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		targets, err := serversOf(servers, lab, func(p labProcess) string { return p.REST }, restForwarded)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		body, err := firstOf(ctx, targets, path(args))
		if err != nil {
			return err
		}
		var found T
		if err := json.Unmarshal(body, &found); err != nil {
			return fmt.Errorf("what came is no answer of YuniKorn's REST interface: %w", err)
		}
		if want == "json" {
			return printJSON(c.out, found)
		}
		return print(c.out, found)
	}
	return cmd
}

// firstOf returns the first answer that one of the replicas gives.
func firstOf(ctx context.Context, targets []answer, path string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var failed []error
	for _, target := range targets {
		body, again, err := readREST(ctx, client, target.Server+path)
		if err == nil {
			return body, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", cmp.Or(target.name, target.Server), err))
		if !again {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// readREST returns an answer, or why there is none, and whether another replica may know
// better.
func readREST(ctx context.Context, client *http.Client, url string) (body []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, true, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode == http.StatusOK {
		return body, true, err
	}
	var why dao.YAPIError
	if json.Unmarshal(body, &why) != nil || why.Message == "" {
		return nil, true, errors.New(resp.Status)
	}
	return nil, resp.StatusCode == http.StatusServiceUnavailable, errors.New(why.Message)
}

func printApps(w io.Writer, apps []dao.ApplicationDAOInfo) error {
	slices.SortFunc(apps, func(a, b dao.ApplicationDAOInfo) int {
		return cmp.Or(cmp.Compare(a.QueueName, b.QueueName), cmp.Compare(a.SubmissionTime, b.SubmissionTime), cmp.Compare(a.ApplicationID, b.ApplicationID))
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "APPLICATION", "QUEUE", "STATE", "USER", "RUNS", "WAITS", "USED", "PENDING", "AGE")
	for _, a := range apps {
		row(t, a.ApplicationID, a.QueueName, a.State, cmp.Or(a.User, "-"), strconv.Itoa(len(a.Allocations)), strconv.Itoa(len(a.Requests)),
			amounts(a.UsedResource), amounts(a.PendingResource), since(a.SubmissionTime))
	}
	return t.Flush()
}

// oneOrMore reads a list, or one that is alone.
type oneOrMore[T any] []T

func (l *oneOrMore[T]) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		return json.Unmarshal(raw, (*[]T)(l))
	}
	*l = make([]T, 1)
	return json.Unmarshal(raw, &(*l)[0])
}

func printTasks(w io.Writer, apps oneOrMore[dao.ApplicationDAOInfo]) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "POD", "APPLICATION", "QUEUE", "NODE", "ASKED", "AGE", "WHY IT WAITS")
	for _, a := range apps {
		for _, x := range a.Requests {
			why := "-"
			if n := len(x.AllocationLog); n > 0 {
				why = x.AllocationLog[n-1].Message
			}
			row(t, podOf(x.AllocationTags, x.AllocationKey), a.ApplicationID, a.QueueName, "-", amounts(x.ResourcePerAlloc), since(x.RequestTime), why)
		}
		for _, x := range a.Allocations {
			row(t, podOf(x.AllocationTags, x.AllocationKey), a.ApplicationID, a.QueueName, x.NodeID, amounts(x.ResourcePerAlloc), since(x.RequestTime), "")
		}
	}
	return t.Flush()
}

// podOf is the pod's name with its namespace, or the UID where nobody says the name.
func podOf(tags map[string]string, uid string) string {
	if name := tags["kubernetes.io/meta/podName"]; name != "" {
		return tags["kubernetes.io/meta/namespace"] + "/" + name
	}
	return uid
}

func printQueues(w io.Writer, root dao.PartitionQueueDAOInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "QUEUE", "STATUS", "RUNS", "MOST", "USED", "PENDING", "GUARANTEED", "MAX")
	queueRows(t, root)
	return t.Flush()
}

func queueRows(w io.Writer, q dao.PartitionQueueDAOInfo) {
	most := "-"
	if q.MaxRunningApps > 0 {
		most = fmt.Sprint(q.MaxRunningApps)
	}
	row(w, q.QueueName, q.Status, fmt.Sprint(q.RunningApps), most, amounts(q.AllocatedResource), amounts(q.PendingResource),
		amounts(q.GuaranteedResource), amounts(q.MaxResource))
	slices.SortFunc(q.Children, func(a, b dao.PartitionQueueDAOInfo) int { return cmp.Compare(a.QueueName, b.QueueName) })
	for _, child := range q.Children {
		queueRows(w, child)
	}
}

func printNodes(w io.Writer, nodes []dao.NodeDAOInfo) error {
	slices.SortFunc(nodes, func(a, b dao.NodeDAOInfo) int { return cmp.Compare(a.NodeID, b.NodeID) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "NODE", "SCHEDULABLE", "PODS", "ALLOCATED", "OCCUPIED", "AVAILABLE", "RESERVED")
	for _, n := range nodes {
		row(t, n.NodeID, yes(n.Schedulable), strconv.Itoa(len(n.Allocations)), amounts(n.Allocated), amounts(n.Occupied), amounts(n.Available), yes(n.IsReserved))
	}
	return t.Flush()
}

// amounts writes resources in the units of Kubernetes, by name.
func amounts(of map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		switch n := of[name]; {
		case n == 0 || name == "pods":
		case name == "vcore":
			parts = append(parts, "cpu="+inThousands(n))
		case name == "memory" && n%(1<<20) == 0:
			parts = append(parts, fmt.Sprintf("memory=%dMi", n>>20))
		default:
			parts = append(parts, fmt.Sprintf("%s=%d", name, n))
		}
	}
	return cmp.Or(strings.Join(parts, ","), "-")
}

// inThousands writes millicores.
func inThousands(n int64) string {
	if n%1000 == 0 {
		return strconv.FormatInt(n/1000, 10)
	}
	return strconv.FormatInt(n, 10) + "m"
}

// since is for how long something is there, given when it began in nanoseconds.
func since(nanos int64) string {
	if nanos <= 0 {
		return "-"
	}
	return span(time.Since(time.Unix(0, nanos)))
}
