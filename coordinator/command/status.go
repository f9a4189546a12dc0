package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

// answer is what one replica said, or why it said nothing.
type answer struct {
	Server string `json:"server"`
	Error  string `json:"error,omitempty"`
	*serve.Status

	name string // known before it answered; may be empty
}

func (c command) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status (--server URL... | --lab DIR)",
		Short: "Show roles, epoch, lag, state counts and the history of leadership",
		Long: `Ask replicas how they are. Without --server and --lab, the replica on
http://127.0.0.1:8080 is asked: the port of the deployment, forwarded.

The status is 1 if a replica did not answer; what the others said is shown.`,
		Example: `  understudy status --lab .lab
  understudy status --server http://10.0.0.7:8080 --server http://10.0.0.8:8080 -o json`,
		Args:                  args(cobra.NoArgs),
		DisableFlagsInUseLine: true,
	}
	asked := asking(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		want, answers, err := asked(cmd.Context())
		if err != nil {
			return err
		}
		if want == "json" {
			err = printJSON(c.out, answers)
		} else {
			err = printTable(c.out, answers, time.Now())
		}
		if err != nil {
			return err
		}
		return unanswered(answers)
	}
	return cmd
}

// asking adds the flags that say which replicas to ask and how to print what they say, and
// returns what asks them.
func asking(cmd *cobra.Command) func(context.Context) (format string, answers []answer, err error) {
	var servers []string
	var lab string
	var timeout time.Duration
	cmd.Flags().StringArrayVar(&servers, "server", nil, "`URL` of a replica's HTTP endpoints; may be repeated")
	cmd.Flags().StringVar(&lab, "lab", "", "`DIR` of a local lab, whose replicas are asked")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for an answer")
	_ = cmd.MarkFlagDirname("lab")
	format := outputFlag(cmd, "table", "json")
	return func(ctx context.Context) (string, []answer, error) {
		want, err := format()
		if err != nil {
			return "", nil, err
		}
		targets, err := targetsOf(servers, lab)
		if err != nil {
			return "", nil, err
		}
		return want, ask(ctx, targets, timeout), nil
	}
}

const forwarded = "http://127.0.0.1:8080"

// targetsOf returns whom to ask how they are, as answers that have yet to come.
func targetsOf(servers []string, lab string) ([]answer, error) {
	return serversOf(servers, lab, func(p labProcess) string { return p.HTTP }, forwarded)
}

// serversOf returns whom to ask: the servers, or the replicas of a lab, of each of which at
// tells the URL. If neither is given it is otherwise.
func serversOf(servers []string, lab string, at func(labProcess) string, otherwise string) ([]answer, error) {
	switch {
	case lab != "" && len(servers) > 0:
		return nil, usagef("--server and --lab exclude each other")
	case lab != "":
		return labReplicas(lab, at)
	}
	if len(servers) == 0 {
		servers = []string{otherwise}
	}
	var targets []answer
	for _, s := range servers {
		base, err := baseURL(s)
		if err != nil {
			return nil, usageError{fmt.Errorf("--server: %w", err)}
		}
		targets = append(targets, answer{Server: base})
	}
	return targets, nil
}

// labProcess is what a lab says of one of its processes.
type labProcess struct{ Name, Kind, HTTP, REST string }

// labReplicas reads from a lab's state which replicas it runs.
func labReplicas(dir string, at func(labProcess) string) ([]answer, error) {
	file := filepath.Join(dir, "state.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("no lab in %s: %w", dir, err)
	}
	var state struct {
		Processes []labProcess
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var targets []answer
	for _, p := range state.Processes {
		if p.Kind != "replica" || at(p) == "" {
			continue
		}
		base, err := baseURL(at(p))
		if err != nil {
			return nil, fmt.Errorf("%s: replica %s: %w", file, p.Name, err)
		}
		targets = append(targets, answer{Server: base, name: p.Name})
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("%s lists no replica with HTTP endpoints", file)
	}
	return targets, nil
}

// baseURL takes a URL, or host:port alone.
func baseURL(s string) (string, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("%q is not a URL such as %s", s, forwarded)
	}
	return strings.TrimRight(s, "/"), nil
}

// ask asks all targets at once and returns their answers in the order given.
func ask(ctx context.Context, targets []answer, timeout time.Duration) []answer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var group sync.WaitGroup
	for i := range targets {
		group.Go(func() {
			status, err := fetch(ctx, client, targets[i].Server)
			if err != nil {
				targets[i].Error = err.Error()
				return
			}
			targets[i].Status = status
		})
	}
	group.Wait()
	return targets
}

// maxStatus bounds what is read from a server that is not a replica.
const maxStatus = 16 << 20

func fetch(ctx context.Context, client *http.Client, base string) (*serve.Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/statusz", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", base, resp.Status)
	}
	status := &serve.Status{}
	if err := json.Unmarshal(body, status); err != nil || status.Replica == "" {
		return nil, fmt.Errorf("%s does not answer like a replica of understudy", base)
	}
	return status, nil
}

func unanswered(answers []answer) error {
	silent := 0
	for _, a := range answers {
		if a.Status == nil {
			silent++
		}
	}
	if silent > 0 {
		return fmt.Errorf("%d of %d replicas did not answer", silent, len(answers))
	}
	return nil
}
