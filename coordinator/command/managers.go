package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/serve"
)

func (c command) appManagers() *cobra.Command {
	return group("managers", "Work with app managers", c.listManagers(), c.explain(), c.rbac())
}

func (c command) listManagers() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list (--server URL... | --lab DIR)",
		Short: "Show the app managers of each replica",
		Long: `Show the app managers that each replica has enabled, in the order in which they
claim pods: the resources that they follow, whether the API server has these and how
many objects of each, how many applications of the manager have not ended, what waits for
the replica to lead (NOTED), and the last problem.`,
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
			list := make(map[string][]serve.Manager)
			for _, a := range answers {
				if a.Status != nil {
					list[a.Replica] = a.Managers
				}
			}
			err = printJSON(c.out, list)
		} else {
			err = managersTable(c.out, answers)
		}
		return errors.Join(err, unanswered(answers))
	}
	return cmd
}

func managersTable(w io.Writer, answers []answer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "REPLICA", "MANAGER", "RESOURCE", "SERVED", "OBJECTS", "APPLICATIONS", "NOTED", "PROBLEM")
	for _, a := range answers {
		if a.Status == nil {
			row(t, cmp.Or(a.name, a.Server), "no answer", "-", "-", "-", "-", "-", a.Error)
			continue
		}
		for _, m := range a.Managers {
			problem, _, _ := strings.Cut(m.Problem, "\n")
			if len(m.Resources) == 0 {
				row(t, a.Replica, m.Name, "-", "-", "-", fmt.Sprint(m.Applications), fmt.Sprint(m.Noted), cmp.Or(problem, "-"))
			}
			for _, r := range m.Resources {
				row(t, a.Replica, m.Name, r.Name, yesNo(r.Served), fmt.Sprint(r.Objects), fmt.Sprint(m.Applications),
					fmt.Sprint(m.Noted), cmp.Or(problem, r.LastError, "-"))
			}
		}
	}
	return t.Flush()
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func (c command) rbac() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "rbac --config FILE",
		Short: "Print the ClusterRole that the app managers of a configuration need",
		Long: `Print, as a ClusterRole, what the enabled app managers of a configuration file have
to be allowed besides what every replica is.`,
		Args:                  args(cobra.NoArgs),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE`")
	role := cmd.Flags().String("cluster-role", "understudy-managers", "`NAME` of the ClusterRole")
	cmd.RunE = func(*cobra.Command, []string) error {
		if file == "" {
			return usagef("--config is missing: name a configuration file")
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		cfg, err := config.Parse(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		rules, err := c.rulesOf(cfg)
		if err != nil {
			return err
		}
		text, err := yaml.Marshal(rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
			ObjectMeta: metav1.ObjectMeta{Name: *role}, Rules: rules,
		})
		if err != nil {
			return err
		}
		_, err = c.out.Write(text)
		return err
	}
	return cmd
}

// rulesOf makes the managers that are enabled, far from any cluster, and returns what they
// have to be allowed.
func (c command) rulesOf(cfg config.Config) ([]rbacv1.PolicyRule, error) {
	var entries []managers.Entry
	for _, m := range cfg.Managers {
		entries = append(entries, managers.Entry{Name: m.Name, Type: m.Type, Settings: m.Decode})
	}
	if err := c.managers.Check(entries); err != nil {
		return nil, err
	}
	var rules []rbacv1.PolicyRule
	var errs []error
	for _, entry := range entries {
		manager, err := c.managers.Make(entry, managers.Deps{
			SchedulerName: cfg.SchedulerName, UserLabel: cfg.Workload.UserLabel,
			Claimed: func(*v1.Pod) string { return "" }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			errs = append(errs, mistakesOf(err)...)
			continue
		}
		if ruled, ok := manager.(interface{ Rules() []rbacv1.PolicyRule }); ok {
			for _, rule := range ruled.Rules() {
				rules = merged(rules, rule)
			}
		}
		manager.Stop()
	}
	return rules, errors.Join(errs...)
}

// mistakesOf takes the error of one manager apart. Each mistake in a definition names it.
func mistakesOf(err error) []error {
	if all := flatten(errors.Unwrap(err)); len(all) > 1 {
		return all
	}
	return []error{err}
}

// merged adds a rule to others: the verbs on the same resources are one rule.
func merged(rules []rbacv1.PolicyRule, more rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for i := range rules {
		rule := &rules[i]
		if slices.Equal(rule.APIGroups, more.APIGroups) && slices.Equal(rule.Resources, more.Resources) &&
			len(rule.ResourceNames)+len(more.ResourceNames)+len(rule.NonResourceURLs)+len(more.NonResourceURLs) == 0 {
			rule.Verbs = slices.Compact(slices.Sorted(slices.Values(slices.Concat(rule.Verbs, more.Verbs))))
			return rules
		}
	}
	return append(rules, more)
}
