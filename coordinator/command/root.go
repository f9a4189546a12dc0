package command

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (c command) root() *cobra.Command {
	root := group("understudy", "Highly available coordinator for YuniKorn scheduling on Kubernetes",
		c.run(), c.supervision(), c.status(), c.members(), c.apps(), c.tasks(), c.queues(), c.nodes(), c.users(),
		c.explanation(), c.history(), c.coreEvents(),
		c.stepDown(), c.config(), c.appManagers(), c.admission(), c.migrate(), c.version())
	root.Long = `Understudy runs YuniKorn scheduling in several replicas. One leads: it schedules
and mirrors the state of every application and task to etcd. The others follow
live, and step in when the lead is gone.`
	// Errors are printed by execute, once and without the usage text.
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return root
}

// group returns a command that only has others below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs, // RunE says what is wrong with them.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := ""
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
		},
	}
	g.SuggestionsMinimumDistance = 2
	g.AddCommand(commands...)
	return g
}

// args makes a wrong number of arguments an error of usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// outputFlag adds -o, and returns a function that gives its checked value.
func outputFlag(cmd *cobra.Command, formats ...string) func() (string, error) {
	value := cmd.Flags().StringP("output", "o", formats[0], "output format: "+strings.Join(formats, " or "))
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return func() (string, error) {
		if !slices.Contains(formats, *value) {
			return "", usagef("output format %q: want %s", *value, strings.Join(formats, " or "))
		}
		return *value, nil
	}
}
