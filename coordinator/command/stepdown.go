package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/election"
)

// leaseFlags say where the Lease is.
type leaseFlags struct{ lab, kubeconfig, namespace, lease string }

func (c command) stepDown() *cobra.Command {
	var at leaseFlags
	var to string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "step-down [--to REPLICA]",
		Short: "Have the lead hand over, and say to whom and how fast",
		Long: `Ask the lead, through its Lease, to hand over: it finishes what is under way and
releases the Lease, to the replica named or else to the understudy that is most
caught up. It then starts afresh as an understudy. Waits until another leads.

The Lease is reached as kubectl reaches it; who may update it may ask.`,
		Example: `  understudy step-down
  understudy step-down --to understudy-7d4b9c-x2x7p
  understudy step-down --lab .lab --to understudy-2`,
		Args:                  args(cobra.NoArgs),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVar(&to, "to", "", "`REPLICA` that is to lead; the best one if empty")
	cmd.Flags().StringVar(&at.lab, "lab", "", "`DIR` of a local lab")
	cmd.Flags().StringVar(&at.kubeconfig, "kubeconfig", "", "kubeconfig `FILE`, instead of what kubectl would use")
	cmd.Flags().StringVar(&at.namespace, "namespace", config.DefaultNamespace, "`NAME` of the Lease's namespace")
	cmd.Flags().StringVar(&at.lease, "lease", config.Default().Election.LeaseName, "`NAME` of the Lease")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "how long to wait for a successor")
	_ = cmd.MarkFlagDirname("lab")
	format := outputFlag(cmd, "text", "json")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		client, err := at.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		h, err := election.StepDown(ctx, client, to)
		if err != nil {
			return err
		}
		return c.printHandOver(h, want)
	}
	return cmd
}

// handOver is what is printed of a hand-over, times in milliseconds.
type handOver struct {
	From   string  `json:"from"`
	To     string  `json:"to"`
	Epoch  uint64  `json:"epoch"`
	Took   float64 `json:"tookMs"`
	Vacant float64 `json:"vacantMs"`
}

func (c command) printHandOver(h election.HandOver, format string) error {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	if format == "json" {
		return printJSON(c.out, handOver{h.From, h.To, h.Epoch, ms(h.Taken.Sub(h.Asked)), ms(h.Vacancy())})
	}
	_, err := fmt.Fprintf(c.out, "%s handed over to %s, epoch %d\nnobody held the Lease for %.1f ms; %.1f ms in all\n",
		h.From, h.To, h.Epoch, ms(h.Vacancy()), ms(h.Taken.Sub(h.Asked)))
	return err
}

// client returns the Lease's client.
func (f leaseFlags) client() (election.LeaseClient, error) {
	if f.lab != "" {
		raw, err := os.ReadFile(filepath.Join(f.lab, "state.json"))
		if err != nil {
			return nil, fmt.Errorf("no lab in %s: %w", f.lab, err)
		}
		var state struct{ Kubeconfig, Namespace, Lease string }
		if err := json.Unmarshal(raw, &state); err != nil {
			return nil, fmt.Errorf("%s/state.json: %w", f.lab, err)
		}
		f.kubeconfig, f.namespace, f.lease = filepath.Join(f.lab, "kubeconfig"), state.Namespace, state.Lease
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	rest, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	client, err := coordinationv1client.NewForConfig(rest)
	if err != nil {
		return nil, err
	}
	return election.KubeLease(client, f.namespace, f.lease), nil
}
