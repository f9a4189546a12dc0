package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/standby"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/coordinator/term"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/supervise"
	"github.com/understudy-ha/understudy/internal/gather"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/roster"
	"github.com/understudy-ha/understudy/replica/view"
)

// Options are what a replica is given besides its configuration.
type Options struct {
	Log      *slog.Logger
	Standing *telemetry.Standing
	Tracing  *telemetry.Tracing
	Version  string
	// Renewed is given the Lease whenever this replica has written it as its holder;
	// it may be nil. See election.Config.
	Renewed func(*coordinationv1.Lease)
	// CompleteAfter is for how long an application must have had no pods to have
	// completed; zero selects the engine's default, which is YuniKorn's.
	CompleteAfter time.Duration
	// Tie is told whether this replica leads, and that it is alive while it does; it
	// may be nil.
	Tie Tie
	// Managers are the app managers that the configuration may enable: those that
	// Managers returns, and what this binary adds. Nil means the former.
	Managers managers.Registry
	// Exit ends the process at once; it is called when work has outlived its
	// term. Nil means os.Exit.
	Exit func(code int)
}

// exitOutlived is the exit code of a process that the watchdog ended.
const exitOutlived = 70

const (
	// exitHung is that of a process of which a part hangs.
	exitHung = 71
	// exitWithin is how long a replica that has played its roles may take to end.
	exitWithin = 5 * time.Second
)

// replica is what a process holds in every role.
type replica struct {
	cfg         config.Config
	opts        Options
	log         *slog.Logger
	incarnation string
	started     time.Time
	now         func() time.Time

	metrics *prometheus.Registry
	etcd    *clientv3.Client
	kube    *kube.Clients
	cluster *kube.Cluster
	view    *view.View
	elector *election.Elector
	warmup  *warmup
	standby *standby.Standby
	// gatherer is on while what API server and etcd tell may gather; warm is closed when this
	// replica is ready to lead for the first time.
	gatherer *gather.Gatherer
	warm     chan struct{}
	roster   *roster.Roster // nil without gossip
	// restListens is where /ws/v1 is served, empty if it is not.
	restListens string
	fence       *fence
	chronicler  *chronicler

	changes  *changes.Log // of records: what this replica has followed, or has made durable
	accounts *accounts
	about    *kube.Recorder // tells of this replica, whether it leads or not

	leads chan uint64 // the epoch: see marks
	past  supervise.Past

	// steppedBack says that this replica leaves the Lease to others for a while.
	steppedBack atomic.Bool

	role atomic.Pointer[serve.Role]
	lead atomic.Pointer[term.Lead] // while it holds the Lease, and after it has led

	events, refusals *prometheus.CounterVec
}

// Run is a replica from its start to its end. It follows, campaigns, and once
// it has the Lease recovers and leads. It returns nil after ctx has ended and
// the Lease, if it was held, has been handed over; an error if a term was lost:
// the process has to be started afresh then, because the scheduling engine can
// not be reset in place.
func Run(ctx context.Context, cfg config.Config, opts Options) error {
	r, err := newReplica(cfg, opts)
	if err != nil {
		return err
	}
	defer r.etcd.Close()
	if r.chronicler, err = r.newChronicler(); err != nil {
		return err
	}
	r.leaveName()

	// What serves every role outlives ctx until the term has been wound up.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	r.about = kube.NewRecorder(r.kube.Own, kube.RecorderConfig{Instance: r.incarnation}, r.log)
	defer r.about.Stop()
	defer r.endWith(running.Wait)
	defer stop()
	failed := make(chan error, 1)
	start := func(name string, run func(context.Context) error) {
		running.Go(func() {
			if err := run(background); err != nil && background.Err() == nil {
				select {
				case failed <- fmt.Errorf("%s: %w", name, err):
				default:
				}
			}
		})
	}

	server, err := serve.New(serve.Config{Address: cfg.HTTP.Address, Profiling: cfg.HTTP.Profiling}, r, r.metrics, r.log)
	if err != nil {
		return err
	}
	start("http", server.Serve)
	if err := r.serveREST(start); err != nil {
		return err
	}
	if err := r.serveAdmission(start); err != nil {
		return err
	}
	// What is above has been made for as many processors as there are.
	r.warmup.look(r.elector.Observed())
	defer r.warmup.set(false)
	start("garbage", collectLess)
	start("view", r.view.Run)
	start("informers", r.cluster.Run)
	start("standby", r.standby.Run)
	if r.roster != nil {
		start("gossip", r.gossip)
	}
	start("elector", r.elector.Run)
	start("gatherer", r.gatherWhileFollowing)
	start("fence", r.fence.run)
	start("marks", r.marks)
	start("accounts", r.accounts.run)
	start("past", r.tellPast)
	start("chronicle", r.keepChronicle)
	start("settings", r.takeTurn)

	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running.Go(func() {
		select {
		case err := <-failed:
			cancel(err)
		case <-background.Done():
		}
	})
	err = r.play(work)
	r.setRole(serve.Exiting, 0)
	if cause := context.Cause(work); cause != nil && ctx.Err() == nil && !errors.Is(cause, term.ErrSettings) {
		return cause
	}
	return err
}

// endWith waits for what is still running, and ends the process if some of it hangs.
func (r *replica) endWith(wait func()) {
	defer time.AfterFunc(exitWithin, func() {
		r.log.Error("a part of this process hangs, ending the process")
		r.opts.Exit(exitHung)
	}).Stop()
	wait()
}

// play goes through the roles once.
func (r *replica) play(ctx context.Context) error {
	r.log.Info("following", "incarnation", r.incarnation, "version", r.opts.Version)
	if !r.awaitReady(ctx) {
		return nil
	}
	close(r.warm)
	r.log.Info("ready to lead", "revision", r.view.Status().Revision, "pods", r.cluster.PodCount())
	pause := stepBackPause()
	if r.cluster.Marked() {
		r.unmark(ctx) // as the lead that this pod had, which has died
	}
	for {
		won, err := r.elector.Campaign(ctx)
		switch {
		case ctx.Err() != nil && won == nil:
			return nil // Asked to stop before there was a term.
		case err != nil:
			return fmt.Errorf("campaign: %w", err)
		}
		lead := term.New(r.termDeps())
		r.lead.Store(lead)
		rest := r.showLife()
		err = lead.Serve(ctx, won)
		rest()
		r.unmark(ctx)
		if !errors.Is(err, term.ErrStepBack) {
			return err
		}
		// Nothing has been taken over: what is warm stays so, for a better moment.
		r.lead.Store(nil)
		r.setRole(serve.Understudy, 0)
		r.steppedBack.Store(true)
		wait := pause.Step()
		r.log.Error("stepping back, for another to lead", "for", wait, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		r.steppedBack.Store(false)
	}
}

// stepBackPause says for how long a replica that could not get a promotion begun leaves
// the Lease to others: growing, for what is in its way may be in everybody's.
func stepBackPause() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 30 * time.Second}
}

// readyPeriod is how often readiness is looked at until it is reached.
const readyPeriod = 20 * time.Millisecond

// awaitReady waits until the view and the informers are synced and the engine is
// fed, saying now and then what is missing. It reports false when ctx ended first.
func (r *replica) awaitReady(ctx context.Context) bool {
	ticker := time.NewTicker(readyPeriod)
	defer ticker.Stop()
	defer r.warmup.set(false)
	reported := r.now()
	for {
		r.warmup.look(r.elector.Observed())
		missing := r.missing()
		if len(missing) == 0 {
			return true
		}
		if r.now().Sub(reported) > 5*time.Second {
			reported = r.now()
			r.log.Warn("waiting before this replica can lead", "missing", missing)
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
}

func newReplica(cfg config.Config, opts Options) (*replica, error) {
	r := &replica{
		cfg:         cfg,
		opts:        opts,
		log:         opts.Log,
		incarnation: supervise.Incarnation(cfg.Identity),
		started:     time.Now(),
		now:         time.Now,
		metrics:     prometheus.NewRegistry(),
		leads:       make(chan uint64, 1), changes: changes.New(changes.Limit),
	}
	if r.opts.Exit == nil {
		r.opts.Exit = os.Exit
	}
	r.setRole(serve.Understudy, 0) // before anybody asks for it
	r.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "understudy_ledger_events_total", Help: "Events stepped by the lead.",
	}, []string{"event"})
	r.refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "understudy_ledger_refused_total", Help: "Events that did not fit the state and changed nothing.",
	}, []string{"event"})
	r.metrics.MustRegister(r.events, r.refusals)
	r.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	r.warmup = newWarmup(r.now, r.log)
	r.gatherer, r.warm = gather.New(gatherFor), make(chan struct{})
	entries := enabled(cfg.Managers)
	if opts.Managers == nil {
		opts.Managers = Managers()
	}
	err := opts.Managers.Check(entries)
	if err != nil {
		return nil, err
	}
	r.knowPast()
	if r.etcd, err = r.dialEtcd(); err != nil {
		return nil, err
	}
	if r.kube, err = kube.NewClients(r.clientConfig()); err != nil {
		return nil, err
	}
	r.cluster = kube.New(r.kube, kube.ClusterConfig{
		Namespace:     cfg.Namespace,
		SchedulerName: cfg.SchedulerName,
		PodName:       os.Getenv("POD_NAME"),
		ConfigMaps:    []string{cfg.Engine.DefaultsConfigMap, cfg.Engine.ConfigMap}, ConfigMapNamespace: cfg.Engine.ConfigMapNamespace,
	}, r.log)
	r.fence = newFence(func(ctx context.Context) (bool, error) {
		return kube.ProbeFence(ctx, r.kube.DryRuns, cfg.Namespace)
	}, r.metrics, r.log)
	following := view.Default()
	// The standby is there before the view runs.
	following.OnChange = func(l *ledger.Ledger, c ledger.Change) { r.standby.Apply(l, c) }
	following.OnConfiguration = func(c record.Configuration) { r.standby.Recall(c) }
	following.Prefix, following.RequestTimeout, following.OnApplied = cfg.Etcd.Prefix, cfg.Etcd.RequestTimeout, r.noteApplied
	following.Yields = r.warmup.rests
	if opts.Tracing.Enabled() {
		following.OnLeader = r.followed
	}
	if r.view, err = view.New(r.etcd, following, r.log, r.metrics); err != nil {
		return nil, err
	}
	r.standby = standby.New(standby.Config{
		Cluster: r.cluster, Writes: r.kube.Writes, View: r.view, Registry: opts.Managers, Managers: entries,
		Dynamic: r.kube.Dynamic, DynamicWrites: r.kube.DynamicWrites, Discovery: r.kube.Discovery,
		SchedulerName: cfg.SchedulerName, UserLabel: cfg.Workload.UserLabel, EngineLogLevel: cfg.Engine.LogLevel,
		CompleteAfter: opts.CompleteAfter, Version: opts.Version, Settled: r.settled, Configured: r.configured, Now: r.now, Log: r.log,
	})
	r.measure()
	if r.elector, err = r.newElector(); err != nil {
		return nil, err
	}
	if err := r.cluster.OnDeath(r.elector.ProvenDead); err != nil {
		return nil, err
	}
	r.roster, err = r.newRoster()
	return r, err
}

func (r *replica) newElector() (*election.Elector, error) {
	cfg, electing := r.cfg, election.Default()
	electing.Namespace, electing.Name, electing.Identity = cfg.Namespace, cfg.Election.LeaseName, r.incarnation
	electing.LeaseDuration, electing.RenewDeadline = cfg.Election.LeaseDuration, cfg.Election.RenewDeadline
	electing.MaxLeaseDuration = cfg.Election.MaxLeaseDuration
	electing.RetryPeriod, electing.Metrics = cfg.Election.RetryPeriod, r.metrics
	electing.Renewed = r.opts.Renewed
	electing.First = func(previous string) bool { return r.roster == nil || roster.First(r.roster.Members(), previous) }
	electing.Expired = func(cause error) {
		if failpoint.Off(failpoint.TermGuard) {
			return
		}
		r.log.Error("work has outlived its term, ending the process", "cause", cause)
		r.opts.Exit(exitOutlived)
	}
	lease := election.KubeLease(r.kube.Lease.CoordinationV1(), cfg.Namespace, cfg.Election.LeaseName)
	return election.New(electing, lease, func(ctx context.Context) (uint64, error) {
		if failpoint.Off(failpoint.EpochFloor) {
			return 0, nil
		}
		return mirror.KnownEpoch(ctx, r.etcd, cfg.Etcd.Prefix)
	}, r.log)
}

// Windows of flow control: room for a page of the view's load, and no more than gRPC
// would come to by itself. For that it would estimate the bandwidth, by a ping and its
// answer for each event of a watch that does not come among others.
const (
	etcdStreamWindow = 4 << 20
	etcdWindow       = 16 << 20
)

// etcdPingTimeout is how long etcd may take to answer a ping, or to acknowledge what was sent to it.
const etcdPingTimeout = 3 * time.Second

func (r *replica) dialEtcd() (*clientv3.Client, error) {
	tls, err := r.cfg.Etcd.TLSConfig()
	if err != nil {
		return nil, err
	}
	password, err := r.cfg.Etcd.Password()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            r.cfg.Etcd.Endpoints,
		DialTimeout:          r.cfg.Etcd.DialTimeout,
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: etcdPingTimeout,
		TLS:                  tls,
		Username:             r.cfg.Etcd.Username,
		Password:             password,
		Logger:               telemetry.Zap(r.log),
		DialOptions: slices.Concat(r.opts.Tracing.EtcdDialOptions(), etcdDialOptions(r.cfg.Etcd.Endpoints, r.dialEtcdMember), []grpc.DialOption{
			grpc.WithStaticStreamWindowSize(etcdStreamWindow), grpc.WithStaticConnWindowSize(etcdWindow),
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client: %w", err)
	}
	return client, nil
}

// measure makes known what is not measured where it happens.
func (r *replica) measure() {
	r.measureConfiguration()
	r.accounts = newAccounts(r.lookAtAccounts, r.tellDrift, r.metrics)
}

// guard is what the transport for writes asks before every request.
func (r *replica) guard() (ctx context.Context, deadline time.Time, ok bool) {
	if l := r.lead.Load(); l != nil {
		return l.Guard()
	}
	return nil, time.Time{}, false
}

func (r *replica) setRole(role serve.Role, epoch uint64) {
	r.role.Store(&role)
	if role == serve.Exiting {
		r.chronicler.finish()
	}
	r.opts.Standing.Set(string(role), epoch)
}
