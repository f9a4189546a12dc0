package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/migrate"
)

func (c command) migrate() *cobra.Command {
	return group("migrate", "Prepare a migration from YuniKorn, or back", c.checkMigration())
}

// Where the manifests keep the configuration of the replicas.
const (
	replicasConfigMap = "understudy-config"
	replicasConfigKey = "config.yaml"
)

func (c command) checkMigration() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what blocks a migration from YuniKorn, what has to be configured, and what differs",
		Long: `Look at a cluster that runs YuniKorn, or did, and say what blocks a migration, what has to
be configured, what differs, and what is taken over as it is. Nothing is changed. The
replicas will have the configuration in --config; without it, that of the ConfigMap
` + replicasConfigMap + ` counts, and if there is none, what the manifests ship.

It also asks the API server whether the replicas may do their work, as the service
account of --config or as --user.

The status is 1 if something blocks. As long as YuniKorn's scheduler runs, that does.`,
		Args:                  args(cobra.NoArgs),
		DisableFlagsInUseLine: true,
	}
	at := kubeconfigFlag(cmd)
	namespace := cmd.Flags().String("namespace", "", "`NAME` of the namespace of YuniKorn's ConfigMaps, instead of where its scheduler reads them")
	file := cmd.Flags().String("config", "", "configuration `FILE` that the replicas will have")
	replicas := cmd.Flags().String("replicas", config.DefaultNamespace, "`NAMESPACE` of the replicas")
	user := cmd.Flags().String("user", "", "`NAME` of the user as whom the replicas ask the API server, instead of their service account")
	limit := cmd.Flags().Int("limit", 20, "how many findings of one kind to show; 0 shows all")
	timeout := cmd.Flags().Duration("timeout", 2*time.Minute, "how long to read")
	format := outputFlag(cmd, "table", "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		server, err := restConfig(*at)
		if err != nil {
			return err
		}
		server.QPS, server.Burst = 50, 100
		client, err := kubernetes.NewForConfig(server)
		if err != nil {
			return err
		}
		objects, err := dynamic.NewForConfig(server)
		if err != nil {
			return err
		}
		ctx, cancel := contextOf(cmd, *timeout)
		defer cancel()
		cfg, err := replicasConfig(ctx, client, *file, *replicas)
		if err != nil {
			return err
		}
		cluster := migrate.Read(ctx, client, objects, cfg)
		if err := c.askRights(ctx, client, cluster, cfg, *user); err != nil {
			return err
		}
		findings := migrate.Check(cluster, cfg, *namespace)
		if err := printFindings(c.out, migrate.Bounded(findings, *limit), want); err != nil {
			return err
		}
		if n := migrate.Count(findings, migrate.Blocks); n > 0 {
			return fmt.Errorf("blocked by %d of %d findings", n, len(findings))
		}
		return nil
	}
	return cmd
}

// askRights asks what the replicas may do. Whose the rights of a kubeconfig are is not known here.
func (c command) askRights(ctx context.Context, client kubernetes.Interface, cluster *migrate.Cluster, cfg config.Config, user string) error {
	if user == "" && cfg.Kubernetes.Kubeconfig != "" {
		return nil
	}
	rules, err := c.rulesOf(cfg)
	if err != nil {
		return err
	}
	needs, err := migrate.Needs(cfg, rules)
	if err != nil {
		return err
	}
	cluster.Ask(ctx, client, cmp.Or(user, migrate.Account(cfg)), needs)
	return nil
}

// replicasConfig is the configuration that replicas have or will have.
func replicasConfig(ctx context.Context, client kubernetes.Interface, file, namespace string) (config.Config, error) {
	text, from := []byte(nil), file
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return config.Config{}, err
		}
	} else {
		from = "ConfigMap " + namespace + "/" + replicasConfigMap
		cm, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, replicasConfigMap, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return config.Config{}, fmt.Errorf("%s (--config names a file instead): %w", from, err)
		}
		if err == nil {
			text = []byte(cm.Data[replicasConfigKey])
		}
	}
	cfg := config.Default()
	if len(text) > 0 {
		var err error
		if cfg, err = config.Parse(text); err != nil {
			return cfg, fmt.Errorf("%s: %w", from, err)
		}
	}
	cfg.Namespace = cmp.Or(cfg.Namespace, namespace)
	return cfg, nil
}

func printFindings(w io.Writer, findings []migrate.Finding, format string) error {
	switch format {
	case "json":
		return printJSON(w, findings)
	case "yaml":
		return printYAML(w, findings)
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintln(w, "there is nothing of YuniKorn's")
		return err
	}
	for _, f := range findings {
		fmt.Fprintf(w, "%-10s %s %s\n", f.Severity, f.Kind, f.Object)
		fmt.Fprintf(w, "%-10s %s\n", "", f.Message)
		if f.Do != "" {
			fmt.Fprintf(w, "%-10s to do: %s\n", "", f.Do)
		}
	}
	_, err := fmt.Fprintf(w, "\n%d block, %d to configure, %d differ\n", migrate.Count(findings, migrate.Blocks),
		migrate.Count(findings, migrate.Configure), migrate.Count(findings, migrate.Differs))
	return err
}
