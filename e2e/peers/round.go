package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// warmUp is how many pods are bound before anything is measured, and readyWithin how long
// that may take: a scheduler has to start before.
const (
	warmUp      = 20
	readyWithin = 2 * time.Minute
	pollEvery   = 50 * time.Millisecond
)

// Phase is what one load measured of one peer.
type Phase struct {
	Name string `json:"name"`
	// Rate is pods bound a second: from the first creation to the last bind, or, of pods
	// that were held, from the first bind to the last.
	Rate float64 `json:"pods_per_s"`
	// FirstBind is the time from the moment at which held pods were let go to the first bind,
	// in milliseconds.
	FirstBind float64 `json:"first_bind_ms,omitempty"`
	// Load has latencies from the creation of a pod, or from the moment it was let go.
	Load load.Result `json:"load"`
	Costs
}

// round is one peer in one lab.
type round struct {
	Options
	peer     peer
	scenario Scenario
	lab      *lab.Lab
	cluster  *history.Cluster
	kube     kubernetes.Interface
	log      *slog.Logger
	fail     context.CancelCauseFunc // of everything, if the scheduler ends
	watching sync.WaitGroup          // for that

	mu      sync.Mutex
	created []verify.Expected
	prefix  string          // of the names of the pods of the load that is on
	running map[string]bool // by UID, which of those
	phases  []Phase
}

// play measures a peer in a scenario, with a control plane of its own. The phases that were
// measured are returned even with an error.
func (o Options) play(ctx context.Context, s Scenario, p peer, dir string) (phases []Phase, err error) {
	opts := o.Lab
	opts.Dir, opts.Replicas, opts.Queues, opts.Binary = dir, p.replicas, allQueues(s.queues), cmp.Or(p.binary, opts.Binary)
	if p.replicas == 0 { // it pays nothing for Understudy's fence, admission, and mirror
		opts.NoFence, opts.Admission = true, ""
	}
	l, err := lab.Up(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Down(err != nil)) }()
	if p.replicas == 0 {
		if err := l.StopEtcd(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &round{Options: o, peer: p, scenario: s, lab: l, fail: cancel}
	defer r.watching.Wait()
	defer cancel(nil)
	r.log = slog.New(slog.NewTextHandler(o.Out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if r.kube, err = load.Client(l.RESTConfig()); err != nil {
		return nil, err
	}
	// In protobuf, as all watch: the API server encodes a change once for all of them.
	if r.cluster, err = history.WatchCluster(ctx, l.Client(), nil, r.log); err != nil {
		return nil, err
	}
	defer r.cluster.Close()
	defer r.cluster.Subscribe(r.observe)()
	if err := r.loads(ctx); err != nil {
		return r.phases, err
	}
	return r.phases, r.judge(ctx)
}

func (r *round) observe(ev history.PodEvent) {
	if ev.Pod.Phase != v1.PodRunning {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(ev.Pod.Name, r.prefix) { // it is no placeholder
		r.running[ev.Pod.UID] = true
	}
}

// late says that the peer starts after the pods were created, for it knows nothing that
// would hold them and cost no request for each pod to lift.
func (r *round) late() bool { return r.scenario.held && !r.peer.quotas }

func (r *round) loads(ctx context.Context) error {
	if !r.late() {
		if err := r.start(ctx); err != nil {
			return err
		}
		warm := r.pods("warm")
		warm.Pods, warm.Apps, warm.Timeout = warmUp, 1, readyWithin
		if _, err := r.load(ctx, warm, nil); err != nil {
			return fmt.Errorf("first pods: %w", err)
		}
	}
	for _, cfg := range r.scenario.loads(r.Options, r.pods(r.scenario.Name)) {
		phase, err := r.measure(ctx, cfg)
		if err != nil {
			return fmt.Errorf("%s: %w", cfg.Name, err)
		}
		r.phases = append(r.phases, phase)
	}
	return nil
}

// judge makes sure that what was measured was scheduling: each pod was bound once, and no
// node has more than it takes.
func (r *round) judge(ctx context.Context) error {
	if err := r.cluster.Settle(ctx); err != nil {
		return err
	}
	return judged(r.created, r.cluster.Nodes(), r.cluster.Pods(), r.cluster.Gaps())
}

// judged says what of a history was no scheduling.
func judged(created []verify.Expected, nodes []history.NodeEvent, pods []history.PodEvent, gaps []history.Gap) error {
	var errs []error
	for _, c := range []verify.Check{verify.BoundOnce(created, pods, gaps, nil), verify.Capacity(nodes, pods, gaps)} {
		if !c.OK {
			errs = append(errs, fmt.Errorf("%s: %d violations, the first: %s", c.Name, c.Violations, strings.Join(c.Examples, "; ")))
		}
	}
	return errors.Join(errs...)
}

// start starts a peer that is not Understudy, whose replicas the lab has started. Should it
// end, so does everything.
func (r *round) start(ctx context.Context) error {
	if r.peer.start == nil {
		return nil
	}
	scheduler, err := r.peer.start(r.lab)
	if err != nil {
		return err
	}
	r.watching.Go(func() {
		select {
		case <-scheduler.Ended():
			r.fail(scheduler.Err())
		case <-ctx.Done():
		}
	})
	return nil
}

// load creates pods and returns when all run, after it has let them go if they are held.
func (r *round) load(ctx context.Context, cfg load.Config, release func(context.Context, *load.Generator) error) (load.Result, error) {
	g, err := load.New(r.kube, r.cluster, cfg, r.log)
	if err != nil {
		return load.Result{}, err
	}
	r.mu.Lock()
	r.prefix, r.running = cfg.Name+"-", map[string]bool{}
	r.mu.Unlock()
	var result load.Result
	group, within := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		result, err = g.Run(within)
		return err
	})
	if release != nil {
		group.Go(func() error { return release(within, g) })
	}
	if err := group.Wait(); err != nil {
		return result, err
	}
	r.created = append(r.created, g.Created()...)
	return result, r.until(ctx, cfg.Timeout, "all pods to run", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.running) >= cfg.Pods
	})
}

func (r *round) until(ctx context.Context, limit time.Duration, what string, so func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%v have passed", limit))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}

// measure puts a load on. What it costs is counted until all its pods run, for the fake
// kubelets are slower than a scheduler may be.
func (r *round) measure(ctx context.Context, cfg load.Config) (Phase, error) {
	phase := Phase{Name: cfg.Name}
	before, err := read(ctx, r.lab)
	if err != nil {
		return phase, err
	}
	var released time.Time
	var release func(context.Context, *load.Generator) error
	if r.scenario.held {
		release = func(ctx context.Context, g *load.Generator) (err error) {
			released, before, err = r.release(ctx, g, cfg)
			return err
		}
	}
	result, err := r.load(ctx, cfg, release)
	if err != nil {
		return phase, err
	}
	after, err := read(ctx, r.lab)
	if err != nil {
		return phase, err
	}
	if phase.Costs, err = after.since(before, cfg.Pods); err != nil {
		return phase, err
	}
	phase.Rate, phase.Load = result.Rate, result
	if r.scenario.held {
		first, last, err := binds(result.Samples, released)
		if err != nil {
			return phase, err
		}
		phase.Load = result.Since(released)
		phase.Rate = float64(cfg.Pods-1) / last.Sub(first).Seconds()
		phase.FirstBind = float64(first.Sub(released).Microseconds()) / 1000
	}
	return phase, nil
}

// release waits until all pods are there and have been seen, and then lets them go. What
// was used until then is not counted.
func (r *round) release(ctx context.Context, g *load.Generator, cfg load.Config) (at time.Time, before reading, err error) {
	err = r.until(ctx, cfg.Timeout, "all pods to be created", func() bool {
		created, _ := g.Progress()
		return created == cfg.Pods
	})
	if err != nil {
		return at, before, err
	}
	select {
	case <-time.After(r.Settle):
	case <-ctx.Done():
		return at, before, context.Cause(ctx)
	}
	if before, err = read(ctx, r.lab); err != nil {
		return at, before, err
	}
	at = time.Now()
	if r.late() {
		return at, before, r.start(ctx)
	}
	return at, before, lift(ctx, r.lab)
}

// binds returns the first and the last bind, none of which may be before pods were let go.
func binds(samples []load.Sample, released time.Time) (first, last time.Time, err error) {
	for _, s := range samples {
		if first.IsZero() || s.Bound.Before(first) {
			first = s.Bound
		}
		if s.Bound.After(last) {
			last = s.Bound
		}
	}
	if first.Before(released) {
		return first, last, errors.New("a pod was bound that was to be held")
	}
	return first, last, nil
}
