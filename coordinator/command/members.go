package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

func (c command) members() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members (--server URL... | --lab DIR)",
		Short: "Show who is there, as gossip has it",
		Long: `Show the members that a replica knows of by gossip: role, epoch, how far each has
followed, which configuration it has in force, whether it could lead at once or what is missing, and
since when it is there or gone. The
first replica that answers is asked for all. Gossip only hints: who leads is
what the Lease says, see status.`,
		Args:                  args(cobra.NoArgs),
		DisableFlagsInUseLine: true,
	}
	asked := asking(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		want, answers, err := asked(cmd.Context())
		if err != nil {
			return err
		}
		var failed []error
		for _, a := range answers {
			if a.Status == nil {
				failed = append(failed, fmt.Errorf("%s: %s", cmp.Or(a.name, a.Server), a.Error))
				continue
			}
			if want == "json" {
				return printJSON(c.out, a.Members)
			}
			if len(a.Members) == 0 {
				return fmt.Errorf("%s knows no members: gossip.address is not configured", a.Replica)
			}
			return printMembers(c.out, a.Members, time.Now())
		}
		return errors.Join(failed...)
	}
	return cmd
}

func printMembers(w io.Writer, members []serve.Member, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "REPLICA", "INCARNATION", "ADDRESS", "STATE", "ROLE", "READY", "EPOCH", "REVISION", "LAG", "CONFIG", "MISSING")
	for _, m := range members {
		state := "here"
		if !m.Since.IsZero() {
			state = "here for " + span(now.Sub(m.Since))
		}
		if m.Gone {
			state = "gone for " + span(now.Sub(m.Since))
		}
		row(t, m.Replica, m.Incarnation, m.Address, state, cmp.Or(string(m.Role), "-"), yes(m.Ready),
			fmt.Sprint(m.Epoch), fmt.Sprint(m.Revision), fmt.Sprint(m.Lag), cmp.Or(m.Configuration, "-"), m.Missing)
	}
	return t.Flush()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
