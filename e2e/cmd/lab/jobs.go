package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
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
			return errors.Join(err, printMeasured(cmd, report))
		},
	}
	sizeFlags(cmd, &o.Lab)
	cmd.Flags().IntVar(&o.Pods, "pods", o.Pods, "pods of the burst, which keep running")
	cmd.Flags().IntVar(&o.Apps, "apps", o.Apps, "applications they belong to")
	cmd.Flags().Float64Var(&o.Rate, "rate", o.Rate, "pods a second of the light load")
	cmd.Flags().DurationVar(&o.Duration, "duration", o.Duration, "how long the light load lasts")
	cmd.Flags().DurationVar(&o.Limit, "limit", o.Limit, "how long each load may take")
	cmd.Flags().StringVar(&o.Profiles, "profiles", "", "directory for CPU profiles of the replicas")
	cmd.AddCommand(benchManagers(), benchReaders(), benchPeers(), benchGangs())
	return cmd
}

// printMeasured prints a report as tables, and as JSON.
func printMeasured(cmd *cobra.Command, report interface{ Print(w io.Writer) error }) error {
	return errors.Join(report.Print(cmd.ErrOrStderr()), encode(cmd.OutOrStdout(), report))
}

// encode writes what is to be read by programs.
func encode(w io.Writer, report any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}

func benchManagers() *cobra.Command {
	o := bench.DefaultManagers()
	cmd := &cobra.Command{
		Use:   "managers",
		Short: "Measure app managers of custom resources under status updates",
		Long: `Start a lab with SparkApplications and RayJobs, update their statuses at a steady
rate, and measure the memory of lead and understudies, what an update costs each, and how
long it takes until the record says what the status does. Tables and progress go to
standard error, the same figures as JSON to standard output.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.ErrOrStderr()
			report, err := bench.Managers(cmd.Context(), o)
			if report == nil {
				return err
			}
			return errors.Join(err, printMeasured(cmd, report))
		},
	}
	sizeFlags(cmd, &o.Lab)
	cmd.Flags().IntVar(&o.Objects, "objects", o.Objects, "objects of each kind")
	cmd.Flags().IntVar(&o.Updates, "updates", o.Updates, "status updates in all, of each object as many")
	cmd.Flags().Float64Var(&o.Rate, "rate", o.Rate, "status updates a second")
	cmd.Flags().DurationVar(&o.Idle, "idle", o.Idle, "how long nothing happens before")
	cmd.Flags().DurationVar(&o.Limit, "limit", o.Limit, "how long it may take until all applications are there, and until they have ended")
	return cmd
}

func benchGangs() *cobra.Command {
	o := bench.DefaultGangs()
	cmd := &cobra.Command{
		Use:   "gangs",
		Short: "Measure how soon gangs start, and that a failover costs none",
		Long: `Start a lab, create gangs at once, and measure how long it takes from the creation of a
gang's first pod until all its pods are bound, what the mirror writes for that, and what it
costs. With --kill the lead is killed in the middle. Tables and progress go to standard
error, the same figures as JSON to standard output.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.ErrOrStderr()
			report, err := bench.Gangs(cmd.Context(), o)
			if report == nil {
				return err
			}
			return errors.Join(err, printMeasured(cmd, report))
		},
	}
	sizeFlags(cmd, &o.Lab)
	cmd.Flags().IntVar(&o.Gangs, "gangs", o.Gangs, "how many gangs there are")
	cmd.Flags().IntVar(&o.Members, "members", o.Members, "pods of each")
	cmd.Flags().BoolVar(&o.Kill, "kill", o.Kill, "kill the lead when a third of the pods are bound")
	cmd.Flags().DurationVar(&o.Limit, "limit", o.Limit, "how long all of it may take")
	return cmd
}

func benchReaders() *cobra.Command {
	o := bench.DefaultReaders()
	cmd := &cobra.Command{
		Use:   "readers",
		Short: "Measure how much clients that list applications delay the binding of pods",
		Long: `Start a lab, fill it with applications, and bind pods at a steady rate, in turns with
and without clients that list all applications over YuniKorn's REST interface, with streams
of events open of which every other one is never read. Tables and progress go to standard
error, the same figures as JSON to standard output.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out = cmd.ErrOrStderr()
			report, err := bench.Readers(cmd.Context(), o)
			if report == nil {
				return err
			}
			return errors.Join(err, printMeasured(cmd, report))
		},
	}
	sizeFlags(cmd, &o.Lab)
	cmd.Flags().IntVar(&o.Apps, "apps", o.Apps, "applications that are listed")
	cmd.Flags().Float64Var(&o.Rate, "rate", o.Rate, "pods a second that are bound meanwhile")
	cmd.Flags().DurationVar(&o.Duration, "duration", o.Duration, "how long each half of a round lasts")
	cmd.Flags().IntVar(&o.Rounds, "rounds", o.Rounds, "rounds of two halves")
	cmd.Flags().IntVar(&o.Clients, "clients", o.Clients, "clients that list")
	cmd.Flags().IntVar(&o.Streams, "streams", o.Streams, "streams of events, every other one of which is never read")
	cmd.Flags().DurationVar(&o.Limit, "limit", o.Limit, "how long each load may take")
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
			cluster, err := history.WatchCluster(cmd.Context(), l.Client(), nil, log)
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
	o.Dir, o.Nodes = ".lab-drill", 50
	sr := drill.Series{Repeat: 1, Running: 2000, Rate: 50, Lasts: 6 * time.Second}
	var format string
	var long strings.Builder
	long.WriteString("Put faults on labs under a steady load of new pods, with many running, and judge\n" +
		"what came of it. Each scenario has a lab of its own; without a name all are done\n" +
		"but the long ones.\n\n")
	for _, s := range drill.Scenarios() {
		fmt.Fprintf(&long, "  %-19s %s\n", s.Name, s.About)
	}
	long.WriteString("\nProgress goes to standard error, the result to standard output. Exit status 0\n" +
		"means that every round was done and every check of every verdict passed.")
	cmd := &cobra.Command{
		Use:       "drill [SCENARIO...]",
		Short:     "Put faults on a lab under load, measure, and judge what came of it",
		Long:      long.String(),
		Args:      cobra.OnlyValidArgs,
		ValidArgs: names(func(drill.Scenario) bool { return true }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"table", "json", "junit"}, format) {
				return fmt.Errorf("output format %q: want table, json or junit", format)
			}
			if len(args) == 0 {
				args = names(func(s drill.Scenario) bool { return !s.Long })
			}
			o.Out = cmd.ErrOrStderr()
			reports, err := drills(cmd.Context(), args, o, sr)
			return errors.Join(err, printReports(cmd.OutOrStdout(), format, reports))
		},
	}
	sizeFlags(cmd, &o)
	f := cmd.Flags()
	f.IntVar(&sr.Repeat, "repeat", sr.Repeat, "how often, on one lab")
	f.IntVar(&sr.Running, "pods", sr.Running, "pods that run before the first fault")
	f.Float64Var(&sr.Rate, "rate", sr.Rate, "new pods a second")
	f.DurationVar(&sr.Lasts, "lasts", sr.Lasts, "how long new pods come in each round, unless the scenario says more")
	f.StringVarP(&format, "output", "o", "table", "table, json or junit")
	return cmd
}

// drills does the scenarios one after the other, whatever becomes of each.
func drills(ctx context.Context, names []string, o lab.Options, sr drill.Series) ([]*drill.SeriesReport, error) {
	log := slog.New(slog.NewTextHandler(o.Out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var reports []*drill.SeriesReport
	var failed []error
	for _, name := range names {
		scenario, err := drill.Find(name)
		if err != nil {
			return nil, err
		}
		with := o
		if scenario.Lab != nil {
			scenario.Lab(&with)
		}
		sr.Scenario = scenario
		fmt.Fprintf(o.Out, "drill %s: %s\n", scenario.Name, scenario.About)
		report, err := sr.Run(ctx, with, log, o.Out)
		if report != nil {
			reports = append(reports, report)
			if err == nil && !report.Verdict.OK {
				err = drill.ErrVerdict
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("drill %s: %w", name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return reports, errors.Join(failed...)
}

func printReports(w io.Writer, format string, reports []*drill.SeriesReport) error {
	switch format {
	case "json":
		return encode(w, reports)
	case "junit":
		return drill.JUnit(w, reports)
	}
	var errs []error
	for _, r := range reports {
		errs = append(errs, r.Print(w))
	}
	return errors.Join(errs...)
}

func names(wanted func(drill.Scenario) bool) []string {
	var all []string
	for _, s := range drill.Scenarios() {
		if wanted(s) {
			all = append(all, s.Name)
		}
	}
	return all
}
