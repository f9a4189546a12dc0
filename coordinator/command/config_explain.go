package command

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

func (c command) explainConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain [FILE...]",
		Short: "Say of each key of YuniKorn's ConfigMaps what it is, where from, and how a change takes effect",
		Long: `Say of each key of YuniKorn's ConfigMaps its value, which ConfigMap that is from, the
default, and how a change takes effect: hot, or by a hand-over, in which the
replicas start again one after another. Then show the queues with their limits.
The ConfigMaps are those in FILEs, or without any those of the cluster.`,
		DisableFlagsInUseLine: true,
	}
	names, at := configMapFlags(cmd), addClusterFlags(cmd)
	timeout := cmd.Flags().Duration("timeout", 10*time.Second, "how long to wait for the cluster")
	format := outputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		var from sources
		var held []*v1.ConfigMap
		if len(files) > 0 {
			if err = from.read(files); err == nil {
				held, err = from.held(*names)
			}
		} else {
			ctx, cancel := contextOf(cmd, *timeout)
			defer cancel()
			held, err = at.live(ctx, *names)
		}
		if err != nil {
			return err
		}
		problems := settings.Validate(held...)
		if err := settings.Refusal(problems); err != nil {
			return err
		}
		merged, err := settings.Merge(held...)
		if err != nil {
			return err
		}
		return c.printConfig(explainKeys(merged, problems), merged.Data, want)
	}
	return cmd
}

// explainedKey is what is printed of a key.
type explainedKey struct {
	Key     string          `json:"key"`
	Value   string          `json:"value"`
	Source  string          `json:"source"`
	Default string          `json:"default,omitempty"`
	Effect  settings.Effect `json:"effect,omitempty"`
	Meaning string          `json:"meaning,omitempty"`
	Warning string          `json:"warning,omitempty"`
}

// explainKeys says of all keys what counts: those of the table, and those that nobody reads.
func explainKeys(merged settings.Merged, problems []settings.Problem) []explainedKey {
	var names []string
	for _, k := range settings.Table() {
		if _, there := merged.Data[k.Name]; there || k.Effect != settings.Gone && !strings.ContainsRune(k.Name, '<') {
			names = append(names, k.Name)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(merged.Data)) {
		if !slices.Contains(names, key) {
			names = append(names, key)
		}
	}
	var list []explainedKey
	for _, name := range names {
		k, _ := settings.Lookup(merged.Data, name)
		value, there := merged.Data[name]
		x := explainedKey{Key: name, Value: value, Source: merged.Source[name], Default: k.Default, Effect: k.Effect, Meaning: k.Meaning}
		switch {
		case there:
			x.Source = cmp.Or(x.Source, "file")
		case k.File != "":
			x.Source = "the replica's " + k.File
		default:
			x.Value, x.Source = k.Default, "default"
		}
		for _, p := range problems {
			if p.Key == name && p.Line == 0 {
				x.Warning = p.Message
			}
		}
		list = append(list, x)
	}
	return list
}

func (c command) printConfig(keys []explainedKey, data map[string]string, format string) error {
	_, queues, err := settings.Partition(data)
	if err != nil {
		return err
	}
	if format == "json" {
		return printJSON(c.out, struct {
			Keys   []explainedKey   `json:"keys"`
			Queues []settings.Queue `json:"queues"`
		}{keys, queues})
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	row(t, "KEY", "VALUE", "FROM", "DEFAULT", "A CHANGE IS")
	for _, k := range keys {
		row(t, k.Key, short(k.Value), k.Source, cmp.Or(k.Default, "-"), cmp.Or(string(k.Effect), "not read"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, k := range keys {
		if k.Warning != "" {
			fmt.Fprintf(c.out, "! %s: %s\n", k.Key, k.Warning)
		}
	}
	fmt.Fprintln(c.out)
	return printQueueTree(c.out, queues)
}

// short is a value on one line.
func short(value string) string {
	if lines := strings.Count(strings.TrimRight(value, "\n"), "\n") + 1; lines > 1 {
		return fmt.Sprintf("(%d lines)", lines)
	}
	return cmp.Or(strings.TrimSpace(value), "-")
}

func printQueueTree(w io.Writer, queues []settings.Queue) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "QUEUE", "WHAT IS SET")
	for _, q := range queues {
		name := cmp.Or(q.Name, "(partition)")
		if q.Name != "" {
			parts := strings.Split(name, ".")
			name = strings.Repeat("  ", len(parts)-1) + parts[len(parts)-1]
		}
		var set []string
		for _, field := range slices.Sorted(maps.Keys(q.Fields)) {
			set = append(set, field+"="+q.Fields[field])
		}
		row(t, name, cmp.Or(strings.Join(set, " "), "-"))
	}
	return t.Flush()
}
