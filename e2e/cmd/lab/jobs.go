package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/e2e/bench"
	"github.com/understudy-ha/understudy/e2e/demo"
	"github.com/understudy-ha/understudy/e2e/drill"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

func demoCommand() *cobra.Command {
	o := demo.Default()
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Kill the lead in the middle of a burst of pods, and judge what came of it",
		Long: `Start a lab, create a burst of pods, kill the lead in the middle, wait until
all pods are bound, and print the timeline of the failover and a verdict that is
computed from the API server and etcd alone. Exit status 0 means that every
check passed. The lab is gone afterwards.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.OutOrStdout()
			return demo.Run(cmd.Context(), o)
		},
	}
	sizeFlags(cmd, &o.Lab)
	cmd.Flags().IntVar(&o.Pods, "pods", o.Pods, "pods of the burst")
	cmd.Flags().IntVar(&o.Apps, "apps", o.Apps, "applications they belong to")
	cmd.Flags().Float64Var(&o.KillAfter, "kill-after", o.KillAfter, "part of the pods that is bound when the lead is killed")
	cmd.Flags().DurationVar(&o.Limit, "limit", o.Limit, "how long the burst may take")
	return cmd
}

func benchCommand() *cobra.Command {
	o := bench.Default()
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput, latency, the gap of a failover, and what replicas use",
		Long: `Start a lab and measure. Tables and progress go to standard error, the same
figures as JSON to standard output. Exit status 0 means that all was measured and
the verdict on the run is good, whether or not the figures are as expected.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.ErrOrStderr()
			report, err := bench.Run(cmd.Context(), o)
			if report == nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return errors.Join(err, report.Print(cmd.ErrOrStderr()), enc.Encode(report))
		},
	}
	sizeFlags(cmd, &o.Lab)
	cmd.Flags().IntVar(&o.Pods, "pods", o.Pods, "pods of the burst, which keep running")
	cmd.Flags().IntVar(&o.Apps, "apps", o.Apps, "applications they belong to")
	cmd.Flags().Float64Var(&o.Rate, "rate", o.Rate, "pods a second of the light load")
	cmd.Flags().DurationVar(&o.Duration, "duration", o.Duration, "how long the light load lasts")
	cmd.Flags().DurationVar(&o.Limit, "limit", o.Limit, "how long each load may take")
	cmd.Flags().StringVar(&o.Profiles, "profiles", "", "directory for CPU profiles of the lead")
	return cmd
}

// loadCommand is for trying things out on a lab that is up.
func loadCommand() *cobra.Command {
	var dir string
	cfg := load.Default()
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Create pods in a lab that is up, and measure how they are bound",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(dir)
			if err != nil {
				return err
			}
			defer l.Close()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			cluster, err := history.WatchCluster(cmd.Context(), l.Client(), log)
			if err != nil {
				return err
			}
			defer cluster.Close()
			kube, err := load.Client(l.RESTConfig())
			if err != nil {
				return err
			}
			g, err := load.New(kube, cluster, cfg, log)
			if err != nil {
				return err
			}
			result, err := g.Run(cmd.Context())
			return errors.Join(err, result.Print(cmd.OutOrStdout()))
		},
	}
	dirFlag(cmd, &dir)
	f := cmd.Flags()
	f.StringVar(&cfg.Name, "name", fmt.Sprintf("load-%d", time.Now().Unix()), "what the pods' names begin with")
	f.StringVar(&cfg.Namespace, "namespace", cfg.Namespace, "their namespace")
	f.IntVar(&cfg.Pods, "pods", cfg.Pods, "how many")
	f.IntVar(&cfg.Apps, "apps", cfg.Apps, "applications they belong to")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "pods a second; 0 is as fast as possible")
	f.StringVar(&cfg.CPU, "cpu", cfg.CPU, "CPU that each requests")
	f.StringVar(&cfg.Memory, "memory", cfg.Memory, "memory that each requests")
	f.StringVar(&cfg.Queue, "queue", cfg.Queue, "queue they are put into")
	return cmd
}

func drillCommand() *cobra.Command {
	o := lab.Default()
	o.Dir, o.Audit, o.Nodes = ".lab-drill", true, 20
	var rate float64
	var long strings.Builder
	long.WriteString("Start a lab, put a fault on it under load, and judge what came of it.\n\n")
	for _, s := range drill.Scenarios() {
		fmt.Fprintf(&long, "  %-11s %s\n", s.Name, s.About)
	}
	cmd := &cobra.Command{
		Use:       "drill NAME",
		Short:     "Put a fault on a lab under load, and judge what came of it",
		Long:      long.String(),
		Args:      cobra.ExactArgs(1),
		ValidArgs: names(),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			scenario, err := drill.Find(args[0])
			if err != nil {
				return err
			}
			o.Out = cmd.OutOrStdout()
			l, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, l.Down(err != nil)) }()
			fmt.Fprintf(o.Out, "drill %s: %s\n", scenario.Name, scenario.About)
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			start := time.Now()
			verdict, err := scenario.Run(cmd.Context(), l, rate, log, o.Out)
			if len(verdict.Checks) > 0 {
				err = errors.Join(err, drill.Conclude(o.Out, verdict))
			}
			fmt.Fprintf(o.Out, "took %.1fs\n", time.Since(start).Seconds())
			return err
		},
	}
	sizeFlags(cmd, &o)
	cmd.Flags().Float64Var(&rate, "rate", 40, "pods a second")
	return cmd
}

func names() []string {
	var all []string
	for _, s := range drill.Scenarios() {
		all = append(all, s.Name)
	}
	return all
}
