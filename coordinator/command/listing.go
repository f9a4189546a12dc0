package command

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// restForwarded is who is asked without --server and --lab: the port of yunikorn-service,
// forwarded.
const restForwarded = "http://127.0.0.1:9080"

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

// restFlags say whom to ask, for how long to wait, and how to print what comes.
type restFlags struct {
	servers []string
	lab     string
	timeout time.Duration
	format  func() (string, error)
}

func addRESTFlags(cmd *cobra.Command, formats ...string) *restFlags {
	f := &restFlags{format: outputFlag(cmd, formats...)}
	cmd.Flags().StringArrayVar(&f.servers, "server", nil, "`URL` of a replica's rest.address; may be repeated")
	cmd.Flags().StringVar(&f.lab, "lab", "", "`DIR` of a local lab, whose replicas are asked")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	_ = cmd.MarkFlagDirname("lab")
	return f
}

// read returns how to print, and whom to ask.
func (f *restFlags) read() (format string, targets []answer, err error) {
	if format, err = f.format(); err == nil {
		targets, err = serversOf(f.servers, f.lab, func(p labProcess) string { return p.REST }, restForwarded)
	}
	return format, targets, err
}

// show completes a command that reads a path and prints what it finds there.
func show[T any](c command, cmd *cobra.Command, path func(args []string) string, print func(io.Writer, T) error) *cobra.Command {
	flags := addRESTFlags(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		want, targets, err := flags.read()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
		defer cancel()
		found, err := readAs[T](ctx, targets, path(args))
		if err != nil {
			return err
		}
		if want == "json" {
			return printJSON(c.out, found)
		}
		return print(c.out, found)
	}
	return cmd
}

// readAs returns the first answer that one of the replicas gives.
func readAs[T any](ctx context.Context, targets []answer, path string) (found T, err error) {
	body, err := firstOf(ctx, targets, path)
	if err == nil {
		if err = json.Unmarshal(body, &found); err != nil {
			err = fmt.Errorf("what came is no answer of a replica: %w", err)
		}
	}
	return found, err
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
	again, err = refusedBy(resp, body)
	return nil, again, err
}

// refusedBy says why there is no answer, and whether another replica may know better.
func refusedBy(resp *http.Response, body []byte) (again bool, err error) {
	var why dao.YAPIError // our own errors have their message in the same place
	if json.Unmarshal(body, &why) != nil || why.Message == "" {
		return true, errors.New(resp.Status)
	}
	return resp.StatusCode == http.StatusServiceUnavailable, errors.New(why.Message)
}

// listing is a command that shows a list of /api/v1, with its filters as flags.
type listing[T any] struct {
	list    string
	filters []string
	// argument is the field of which the arguments are values.
	argument string
	// live are the states of what has not ended, empty if all are shown.
	live string
	// follow says that the list can be watched.
	follow bool
	order  func(a, b T) int // nil for that of the list
	name   func(T) string
	// columns and wideColumns are the titles of what row and wide write.
	columns, wideColumns []string
	row, wide            func(T) []string
}

// listPage is how many items are asked for at once.
const listPage = 1000

func (l listing[T]) on(c command, cmd *cobra.Command) *cobra.Command {
	flags := addRESTFlags(cmd, "table", "wide", "json", "yaml", "name")
	values := make(map[string]*string)
	for _, name := range l.filters {
		values[name] = cmd.Flags().String(name, "", "show only those with one of these `VALUES`, which commas separate")
	}
	all, watch := new(bool), new(bool)
	if l.live != "" {
		cmd.Flags().BoolVar(all, "all", false, "show those that have ended too")
	}
	if l.follow {
		cmd.Flags().BoolVarP(watch, "watch", "w", false, "go on with what changes, until interrupted")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		want, targets, err := flags.read()
		if err != nil {
			return err
		}
		chosen := map[string]string{l.argument: strings.Join(args, ",")}
		for name, value := range values {
			chosen[name] = *value
		}
		if l.live != "" && !*all && chosen["state"] == "" && (l.argument != "id" || len(args) == 0) {
			chosen["state"] = l.live
		}
		if *watch {
			if want == "yaml" {
				return usagef("--watch has no output format yaml")
			}
			return l.watch(cmd.Context(), c, targets, chosen, want, flags.timeout)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
		defer cancel()
		items, err := l.items(ctx, targets, chosen)
		if err != nil {
			return err
		}
		return l.print(c.out, items, want)
	}
	return cmd
}

// items reads the whole list, page by page, from any replica.
func (l listing[T]) items(ctx context.Context, targets []answer, chosen map[string]string) ([]T, error) {
	items := []T{}
	more := []string{"limit", fmt.Sprint(listPage)}
	for {
		page, err := readAs[apiv1.List[T]](ctx, targets, apiv1.Prefix+l.list+"?"+query(chosen, more...))
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Continue == "" {
			break
		}
		more = append(more[:2:2], "continue", page.Continue)
	}
	if l.order != nil {
		slices.SortFunc(items, l.order)
	}
	return items, nil
}

func (l listing[T]) print(w io.Writer, items []T, format string) error {
	switch format {
	case "json":
		return printJSON(w, items)
	case "yaml":
		return printYAML(w, items)
	case "name":
		for _, item := range items {
			fmt.Fprintln(w, l.name(item))
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, l.titles(format)...)
	for _, item := range items {
		row(t, l.cells(item, format)...)
	}
	return t.Flush()
}

func (l listing[T]) titles(format string) []string {
	if format == "wide" {
		return append(slices.Clone(l.columns), l.wideColumns...)
	}
	return l.columns
}

// cells are those of an item; none is empty.
func (l listing[T]) cells(item T, format string) []string {
	cells := l.row(item)
	if format == "wide" {
		cells = append(cells, l.wide(item)...)
	}
	for i := range cells {
		cells[i] = cmp.Or(cells[i], "-")
	}
	return cells
}

func printYAML(w io.Writer, v any) error {
	body, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(body))
	return err
}
