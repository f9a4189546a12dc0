package command

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election/supervise"
)

// flushGrace is how long the last spans may take to be delivered.
const flushGrace = 3 * time.Second

// replica is what a replica is started with.
type replica struct {
	config   config.Config
	log      *slog.Logger
	standing *telemetry.Standing
	tracing  *telemetry.Tracing
	version  string
	tie      *supervise.Tie
	managers coordinator.ManagerRegistry
}

func (c command) run() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run a replica",
		Long: `Run a replica until it is told to stop.

SIGTERM or SIGINT ends it in order: a lead finishes what is under way, releases
the Lease, and exits with status 0. A lead that has lost its term exits with
status 1, to be started again as an understudy.

Everything but the flags below is in the configuration file. Traces are
configured by the standard OTEL_* environment variables.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			cfg, err := flags.load()
			if err != nil {
				return err
			}
			return c.start(cmd.Context(), cfg)
		},
	}
	flags.add(cmd.Flags())
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// runFlags are the flags of run. Its supervisor reads them too.
type runFlags struct{ file, identity, level string }

func (f *runFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "config", "", "configuration `FILE` (required)")
	flags.StringVar(&f.identity, "identity", "", "`NAME` of this replica, instead of the one in the file")
	flags.StringVar(&f.level, "log-level", "", "log `LEVEL` (debug, info, warn, error), instead of the one in the file")
}

func (f *runFlags) check() error {
	if f.file == "" {
		return usagef("--config is missing: name a configuration file")
	}
	return nil
}

// load reads the file, with what the flags say in place of what it says.
func (f *runFlags) load() (config.Config, error) {
	cfg, err := config.Load(f.file)
	if err != nil {
		return cfg, err
	}
	if f.identity != "" {
		cfg.Identity = f.identity
	}
	if f.level != "" {
		cfg.Log.Level = f.level
	}
	if err := cfg.Validate(); err != nil { // The file is valid: it must be a flag.
		return cfg, usageError{err}
	}
	return cfg, nil
}

func (c command) start(ctx context.Context, cfg config.Config) error {
	standing := telemetry.NewStanding(cfg.Identity)
	log, err := telemetry.NewLogger(c.err, cfg.Log.Level, cfg.Log.Format, standing)
	if err != nil {
		return err
	}
	telemetry.Redirect(log)
	tie, err := supervise.Hold()
	if err != nil {
		log.Warn("the supervisor will learn late of a crash", "error", err)
	}

	version := buildVersion().Version
	tracing := startTracing(ctx, standing, log)
	log.Info("starting", "version", version, "namespace", cfg.Namespace, "scheduler", cfg.SchedulerName,
		"etcd", cfg.Etcd.Endpoints, "tracing", tracing.Enabled())

	failed := c.launch(ctx, replica{config: cfg, log: log, standing: standing, tracing: tracing, version: version, tie: tie, managers: c.managers})

	stopTracing(ctx, tracing, log)
	if failed != nil {
		log.Error("stopped", "error", failed)
		return reportedError{failed}
	}
	log.Info("stopped")
	return nil
}

func startTracing(ctx context.Context, standing *telemetry.Standing, log *slog.Logger) *telemetry.Tracing {
	tracing, err := telemetry.StartTracing(ctx, standing, buildVersion().Version)
	if err != nil {
		log.Warn("traces are not as configured", "enabled", tracing.Enabled(), "error", err)
	}
	return tracing
}

// stopTracing sends what is left, also when ctx has ended.
func stopTracing(ctx context.Context, tracing *telemetry.Tracing, log *slog.Logger) {
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushGrace)
	defer cancel()
	if err := tracing.Shutdown(flush); err != nil {
		log.Warn("the last spans are lost", "error", err)
	}
}
