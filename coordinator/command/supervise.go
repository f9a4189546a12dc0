package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/supervise"
	"github.com/understudy-ha/understudy/replica/failpoint"
)

func (c command) supervision() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "supervise -- run --config FILE",
		Short: "Run a replica as a child, and release the Lease should it die",
		Long: `Run a replica as a child process, and start it again whenever it ends. When it
has died as lead, the Lease is released for it at once, so that nobody has to
wait until it expires.

Signals are forwarded to the replica. After SIGTERM or SIGINT it is not started
again, and the exit status is the replica's.`,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			flags, err := supervised(args)
			if err != nil {
				return err
			}
			return c.superviseReplica(flags, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows is the replica's
	return cmd
}

// supervised returns the flags of the command line that is to be supervised.
func supervised(args []string) (*runFlags, error) {
	if len(args) == 0 || args[0] != "run" {
		return nil, usagef("want what to supervise after --, as in: understudy supervise -- run --config FILE")
	}
	flags, set := new(runFlags), pflag.NewFlagSet("run", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags.add(set)
	if err := set.Parse(args[1:]); err != nil {
		return nil, usageError{err}
	}
	if set.NArg() > 0 {
		return nil, usagef("run takes no argument, it is given %q", set.Arg(0))
	}
	return flags, flags.check()
}

func (c command) superviseReplica(flags *runFlags, args []string) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	// A configuration that cannot be read is for the replica to complain about, and
	// to be mended while it tries.
	cfg, err := flags.load()
	if err != nil {
		cfg = config.Default()
	}
	const role = "supervisor"
	log, err := telemetry.NewLogger(c.err, cfg.Log.Level, cfg.Log.Format, nil)
	if err != nil {
		return err
	}
	log = log.With("replica", cfg.Identity, "role", role)
	telemetry.Redirect(log)
	standing := telemetry.NewStanding(cfg.Identity)
	standing.Set(role, 0)
	tracing := startTracing(context.Background(), standing, log)
	defer stopTracing(context.Background(), tracing, log)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, supervise.Signals()...)
	defer signal.Stop(signals)
	finder := leaseFinder{flags: flags}
	status := c.supervise(supervise.Config{
		Path: executable, Args: args, Out: os.Stdout, Err: os.Stderr,
		Lease: finder.find, Trace: depositions{tracing}.begin, Signals: signals, Log: log,
		Careless: failpoint.Off(failpoint.ProofGuard),
	})
	if status != exitOK {
		return statusError(status)
	}
	return nil
}

// depositions begin the traces of failovers.
type depositions struct{ tracing *telemetry.Tracing }

// begin is supervise.Config's Trace. A span that is never ended is never sent.
func (d depositions) begin(ctx context.Context, died time.Time) (context.Context, func(holder string, epoch uint64)) {
	ctx, span := d.tracing.StartLinked(ctx, "failover.depose", "", died)
	return ctx, func(holder string, epoch uint64) {
		span.SetAttributes(telemetry.EpochKey.Int64(int64(epoch)), telemetry.FromKey.String(holder))
		span.End()
	}
}

// leaseFinder finds the Lease that a replica with these flags will contend for.
type leaseFinder struct {
	flags *runFlags
	at    leaseAt
	lease supervise.Lease // the one that is there
}

// leaseAt is where a Lease is.
type leaseAt struct{ kubeconfig, namespace, name string }

// find reads the configuration. It keeps the client, with its connection, unless
// that has come to name another Lease.
func (f *leaseFinder) find() (supervise.Lease, error) {
	cfg, err := f.flags.load()
	if err != nil {
		return supervise.Lease{}, err
	}
	at := leaseAt{cfg.Kubernetes.Kubeconfig, cfg.Namespace, cfg.Election.LeaseName}
	if f.lease.Client == nil || f.at != at {
		client, err := kube.NewLeaseClient(kube.ClientConfig{
			Kubeconfig: at.kubeconfig, UserAgent: "understudy-supervisor/" + buildVersion().Version,
		})
		if err != nil {
			return supervise.Lease{}, err
		}
		f.at, f.lease.Client = at, election.KubeLease(client, at.namespace, at.name)
	}
	f.lease.Duration = max(cfg.Election.LeaseDuration, cfg.Election.MaxLeaseDuration)
	return f.lease, nil
}
