package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// leadership is the history of it, oldest first.
type leadership struct {
	Terms     []apiv1.Term     `json:"terms"`
	Failovers []apiv1.Failover `json:"failovers"`
}

func (c command) history() *cobra.Command {
	cmd := reading("history", "Show who led from when to when, how it ended, and for how long nobody led", `Show the terms of leadership that are kept, oldest first. NOBODY LED is from the end of the
term before to the end of the promotion, by the clocks of the two leads. Any replica
knows this, also when nobody leads.`)
	flags := addRESTFlags(cmd, "table", "wide", "json", "yaml", "name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		want, targets, err := flags.read()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
		defer cancel()
		terms, err := readAs[apiv1.List[apiv1.Term]](ctx, targets, apiv1.Prefix+"terms")
		if err != nil {
			return err
		}
		failovers, err := readAs[apiv1.List[apiv1.Failover]](ctx, targets, apiv1.Prefix+"failovers")
		if err != nil {
			return err
		}
		return printHistory(c.out, leadership{terms.Items, failovers.Items}, want, time.Now())
	}
	return cmd
}

func printHistory(w io.Writer, known leadership, format string, now time.Time) error {
	switch format {
	case "json":
		return printJSON(w, known)
	case "yaml":
		return printYAML(w, known)
	case "name":
		for _, t := range known.Terms {
			fmt.Fprintln(w, t.Epoch)
		}
		return nil
	}
	before := make(map[uint64]apiv1.Failover) // by the epoch that came of it
	for _, f := range known.Failovers {
		before[f.Epoch] = f
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	titles := []string{"EPOCH", "LEAD", "BEGAN", "LASTED", "WHY", "ENDED", "NOBODY LED"}
	if format == "wide" {
		titles = append(titles, "PROMOTION")
	}
	row(t, titles...)
	for _, term := range known.Terms {
		end, lasts := term.Ended, ""
		if end.IsZero() {
			end, lasts = now, "+" // as far as is known
		}
		nobody := "-"
		if gap := before[term.Epoch].Leaderless; gap != nil {
			nobody = millis(*gap * 1000)
		}
		cells := []string{
			fmt.Sprint(term.Epoch), term.Incarnation, term.Began.Local().Format(time.DateTime), span(end.Sub(term.Began)) + lasts,
			cmp.Or(term.Reason, "-"), cmp.Or(term.EndReason, "-"), nobody,
		}
		if format == "wide" {
			promotion := "-"
			if led := before[term.Epoch].Leading; !led.IsZero() {
				promotion = millis(float64(led.Sub(term.Began).Microseconds()) / 1000)
			}
			cells = append(cells, promotion)
		}
		row(t, cells...)
	}
	return t.Flush()
}
