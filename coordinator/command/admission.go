package command

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/understudy-ha/understudy/coordinator/admission"
	"github.com/understudy-ha/understudy/coordinator/config"
)

func (c command) admission() *cobra.Command {
	return group("admission", "Work with what decides which pods are scheduled here", c.explainAdmission())
}

func (c command) explainAdmission() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain FILE --as USER",
		Short: "Say what becomes of the pods and workloads in a manifest, and by which rule",
		Long: `Say what would become of each pod, workload and ConfigMap in FILE if the user created it: what
is refused, what is changed, and which rule decides. Nothing is asked of a cluster. What the
decision rests on is read from FILE as well: the ConfigMaps yunikorn-defaults and
yunikorn-configs, Namespaces for their annotations, PriorityClasses. FILE may be - for the
standard input.`,
		Args:                  args(cobra.ExactArgs(1)),
		DisableFlagsInUseLine: true,
	}
	who := authenticationv1.UserInfo{}
	defaults := config.Default()
	cfg := admission.Config{
		SchedulerName: defaults.SchedulerName, ServiceAccount: defaults.Admission.ServiceAccount,
		ConfigMaps: []string{defaults.Engine.DefaultsConfigMap, defaults.Engine.ConfigMap},
		Workloads:  append(admission.BuiltIn(), admission.Custom()...),
	}
	cmd.Flags().StringVar(&who.Username, "as", "", "`USER` who creates the objects (required)")
	cmd.Flags().StringSliceVar(&who.Groups, "as-group", []string{"system:authenticated"}, "`GROUP` of the user; may be repeated")
	cmd.Flags().StringVar(&cfg.Namespace, "replicas", config.DefaultNamespace, "`NAMESPACE` of the replicas")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if who.Username == "" {
			return usagef("--as is missing: name the user")
		}
		objects, err := objectsIn(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		manifest, err := admission.NewManifest(cfg, objects)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		list, err := manifest.Explain(cmd.Context(), who)
		if err != nil {
			return err
		}
		return printAdmission(c.out, list)
	}
	return cmd
}

func printAdmission(w io.Writer, list []admission.Explained) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, x := range list {
		if i > 0 {
			fmt.Fprintln(t)
		}
		outcome := "as it is"
		switch {
		case x.Refusal != "":
			outcome = "refused"
		case len(x.Patch) > 0:
			outcome = "changed"
		}
		row(t, x.Object, outcome)
		for _, s := range x.Steps {
			row(t, "  "+s.Rule, s.Outcome)
		}
		for _, warning := range x.Warnings {
			row(t, "  warning", warning)
		}
		for _, o := range x.Patch {
			value, err := json.Marshal(o.Value)
			if err != nil {
				return err
			}
			row(t, "  "+o.Op+" "+o.Path, string(value))
		}
	}
	return t.Flush()
}
