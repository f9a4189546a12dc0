package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

func (c command) diffConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff OLD NEW | --live NEW",
		Short: "Say what a change of YuniKorn's ConfigMaps would do",
		Long: `Compare two configurations: the keys that change and how each takes effect, the
queues that come, go and change. With --live the old one is that of the cluster,
and NEW is laid over it: a ConfigMap that NEW does not have stays as it is. A
replica is asked then which queues would be over their new limits, which
applications are in them, and whose pods could be preempted.`,
		DisableFlagsInUseLine: true,
	}
	live := cmd.Flags().Bool("live", false, "compare with the ConfigMaps of the cluster")
	offline := cmd.Flags().Bool("offline", false, "with --live, do not ask a replica what runs")
	names, at := configMapFlags(cmd), addClusterFlags(cmd)
	rest := addRESTFlags(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		if want := 2; len(files) != want && !*live || len(files) != 1 && *live {
			return usagef("want OLD and NEW, or --live and NEW")
		}
		format, targets, err := rest.read()
		if err != nil {
			return err
		}
		ctx, cancel := contextOf(cmd, rest.timeout)
		defer cancel()
		before, after, err := diffSides(ctx, *at, *names, files, *live)
		if err != nil {
			return err
		}
		d := configDiff{Keys: settings.Changes(before, after)}
		if d.Queues, err = settings.QueueChanges(before, after); err != nil {
			return err
		}
		if *live && !*offline {
			if d.Impact, err = impactOf(ctx, targets, after); err != nil {
				return fmt.Errorf("what runs is not known (--offline leaves it out): %w", err)
			}
		}
		if format == "json" {
			return printJSON(c.out, d)
		}
		return d.print(c.out)
	}
	return cmd
}

func contextOf(cmd *cobra.Command, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), timeout)
}

// diffSides reads what is compared. The new side has to be valid, the old one only readable.
func diffSides(ctx context.Context, at clusterFlags, names, files []string, live bool) (before, after map[string]string, err error) {
	var next sources
	if err := next.read(files[len(files)-1:]); err != nil {
		return nil, nil, err
	}
	if !live {
		var old sources
		if err := old.read(files[:1]); err != nil {
			return nil, nil, err
		}
		was, err := old.merged(names)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", files[0], err)
		}
		is, err := next.merged(names)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", files[1], err)
		}
		return was.Data, is.Data, nil
	}
	held, err := at.live(ctx, names)
	if err != nil && !errors.Is(err, settings.ErrNoConfiguration) {
		return nil, nil, err
	}
	was, err := settings.Merge(held...)
	if err != nil {
		return nil, nil, err
	}
	over, err := next.held(names)
	if err != nil {
		return nil, nil, err
	}
	for i, cm := range held {
		if over[i] == nil {
			over[i] = cm
		}
	}
	if err := settings.Refusal(settings.Validate(over...)); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", files[0], err)
	}
	is, err := settings.Merge(over...)
	return was.Data, is.Data, err
}

// configDiff is what is printed of a difference.
type configDiff struct {
	Keys   []settings.Change      `json:"keys"`
	Queues []settings.QueueChange `json:"queues"`
	Impact []overQueue            `json:"impact,omitempty"`
}

func (d configDiff) print(w io.Writer) error {
	if len(d.Keys) == 0 && len(d.Queues) == 0 {
		_, err := fmt.Fprintln(w, "nothing changes")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(d.Keys) > 0 {
		row(t, "KEY", "OLD", "NEW", "THE CHANGE IS")
	}
	for _, k := range d.Keys {
		effect := cmp.Or(string(k.Effect), "not read")
		if k.Why != "" {
			effect += ": " + k.Why
		}
		row(t, k.Key, side(k.Old), side(k.New), effect)
	}
	for i, q := range d.Queues {
		if i == 0 {
			row(t)
			row(t, "QUEUE", "CHANGE", "FIELD", "OLD", "NEW")
		}
		name := cmp.Or(q.Queue, "(partition)")
		if len(q.Fields) == 0 {
			row(t, name, q.Change, "-", "-", "-")
		}
		for _, f := range q.Fields {
			row(t, name, q.Change, f.Field, cmp.Or(f.Old, "-"), cmp.Or(f.New, "-"))
		}
	}
	for i, over := range d.Impact {
		if i == 0 {
			row(t)
			row(t, "QUEUE", "WHAT WOULD BE", "APPLICATION", "USER", "USED", "PODS THAT COULD BE PREEMPTED")
		}
		if len(over.Applications) == 0 {
			row(t, over.Queue, over.Why, "-", "-", "-", "-")
		}
		for _, a := range over.Applications {
			row(t, over.Queue, over.Why, a.ID, a.User, amounts(a.Used), cmp.Or(strings.Join(a.Preemptable, ","), "-"))
		}
	}
	return t.Flush()
}

// side is a value of one side.
func side(value *string) string {
	if value == nil {
		return "-"
	}
	return short(*value)
}
