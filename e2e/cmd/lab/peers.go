package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/e2e/peers"
)

const nullBinderCommand = "null-binder"

// nullBinder is what `bench peers` starts to know what the machine can do.
func nullBinder() *cobra.Command {
	return &cobra.Command{
		Use:    nullBinderCommand,
		Short:  "Bind the pods of the cluster in $KUBECONFIG to one node after another",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return peers.NullBinder(cmd.Context(), os.Getenv("KUBECONFIG"))
		},
	}
}

func benchPeers() *cobra.Command {
	o := peers.Default()
	var format, results string
	var long strings.Builder
	long.WriteString("Put the same load on each peer in turn, each time with a control plane of its own, and compare\n" +
		"throughput, latency and the CPU time that each process takes for a pod. Peers are:\n\n" +
		"  null            sends Bindings and does nothing else: what the machine can do\n" +
		"  kube-scheduler  with its default profile\n" +
		"  exec            the command of --exec, with $KUBECONFIG\n" +
		"  understudy      with --replicas; understudy-N with N of them; understudy-N@FILE with another executable\n\nScenarios are:\n\n")
	for _, s := range peers.Scenarios() {
		fmt.Fprintf(&long, "  %-8s%s\n", s.Name, s.About)
	}
	long.WriteString("\nProgress goes to standard error, the result to standard output. Exit status 0 means that all was\nmeasured, whatever the figures.")
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Compare Understudy with a null binder, kube-scheduler, and an external scheduler",
		Long:  long.String(),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if format != "table" && format != "json" {
				return fmt.Errorf("output format %q: want table or json", format)
			}
			o.Out, o.NullBinder = cmd.ErrOrStderr(), []string{self, nullBinderCommand}
			reports, err := peers.Run(cmd.Context(), o, func(r *peers.Report) error { return keepReport(results, r) })
			if format == "json" {
				return errors.Join(err, encode(cmd.OutOrStdout(), reports))
			}
			for _, r := range reports {
				err = errors.Join(err, r.Print(cmd.OutOrStdout()))
			}
			return err
		},
	}
	sizeFlags(cmd, &o.Lab)
	f := cmd.Flags()
	f.StringSliceVar(&o.Peers, "peers", o.Peers, "whom to measure")
	f.StringSliceVar(&o.Bases, "bases", o.Bases, "those of the peers to which all are compared")
	f.StringSliceVar(&o.Scenarios, "scenario", o.Scenarios, "what to measure")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "how often each peer is measured in each scenario")
	f.IntVar(&o.Pods, "pods", o.Pods, "pods of a scenario")
	f.IntVar(&o.Apps, "apps", o.Apps, "applications they belong to")
	f.Float64SliceVar(&o.Rates, "rates", o.Rates, "pods a second of the scenario steady, one rate after another")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long each of these rates lasts")
	f.DurationVar(&o.Settle, "settle", o.Settle, "how long all pods wait before they are let go, in the scenario drain")
	f.DurationVar(&o.Limit, "limit", o.Limit, "how long each load may take")
	f.StringVar(&o.Exec, "exec", o.Exec, "`COMMAND` of the peer exec, which must become the scheduler's process")
	f.BoolVar(&o.ExecQueues, "exec-queues", o.ExecQueues, "the peer exec follows the queue configuration in $NAMESPACE, as YuniKorn does")
	f.StringVar(&results, "results", "", "`DIR` in which each scenario's report is written to peer-SCENARIO.json as well")
	f.StringVarP(&format, "output", "o", "table", "table or json")
	return cmd
}

// keepReport writes a report to its file in dir, if there is one.
func keepReport(dir string, r *peers.Report) error {
	if dir == "" {
		return nil
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "peer-"+r.Scenario+".json"), append(raw, '\n'), 0o644)
}
