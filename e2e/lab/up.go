package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/understudy-ha/understudy/coordinator/config"
)

// progress tells a person what is being done and how long it took.
type progress struct {
	mu  sync.Mutex
	out io.Writer
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// done reports a step that began at start.
func (p *progress) done(start time.Time, format string, args ...any) {
	p.say("  %6.2fs  %s", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
}

// Up starts a lab and waits until it answers. When it fails, or ctx ends before,
// it ends what it has started and leaves only the logs.
func Up(ctx context.Context, opts Options) (*Lab, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	if err := vacate(opts.Dir); err != nil {
		return nil, err
	}
	plan, err := newPlan(opts)
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: opts.Dir, plan: plan, starter: newStarter(opts.Detached), keepers: map[string]*keeper{}}
	if err := l.up(ctx, &progress{out: opts.Out}); err != nil {
		return nil, errors.Join(err, l.Down(true))
	}
	return l, nil
}

// vacate makes sure that dir can be used: nothing of an earlier lab runs there,
// and nothing else is in it.
func vacate(dir string) error {
	state, err := ReadState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() != "logs" && e.Name() != "audit.log" {
				return fmt.Errorf("%s holds %s, which is no lab's: choose another directory", dir, e.Name())
			}
		}
		return clean(dir, false)
	case err != nil:
		return err
	}
	if state.Boot == bootID() {
		for _, p := range state.Processes {
			if p.Running() {
				return fmt.Errorf("a lab is up in %s (%s, pid %d): end it with `lab down --dir %s`",
					dir, p.Name, p.PID, dir)
			}
		}
	}
	return clean(dir, false)
}

func (l *Lab) up(ctx context.Context, out *progress) error {
	began := time.Now()
	o := l.plan.opts
	out.say("lab in %s: replicas %d, nodes %d (cpu %s, memory %s, pods %s), etcd members %d",
		o.Dir, o.Replicas, o.Nodes, o.Node.CPU, o.Node.Memory, o.Node.Pods, o.EtcdMembers)
	keys, err := l.prepare()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := l.startEtcds(ctx); err != nil {
		return err
	}
	out.done(start, "etcd answers: the API server's and the mirror's (%s)", l.plan.etcd[0].url())

	start = time.Now()
	state, err := l.State()
	if err != nil {
		return err
	}
	if err := l.connect(state); err != nil {
		return err
	}
	if err := l.startAPIServer(ctx, keys); err != nil {
		return err
	}
	out.done(start, "kube-apiserver is ready: %s", l.plan.apiserverURL())
	if err := l.furnish(ctx, keys, out); err != nil {
		return err
	}
	if o.Replicas > 0 {
		if err := l.startReplicas(ctx, keys, out); err != nil {
			return err
		}
	}
	out.done(began, "in all; kubeconfig %s", state.Kubeconfig)
	return nil
}

// prepare makes the directories, the keys and the first state.
func (l *Lab) prepare() (*pki, error) {
	for _, dir := range []string{l.dir, l.path("logs"), l.path("data")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	def := config.Default()
	state := State{
		APIServer: l.plan.apiserverURL(), Kubeconfig: l.path("kubeconfig"),
		KubernetesEtcd: Endpoints{Endpoints: []string{l.plan.kubeEtcd.url()}},
		Namespace:      config.DefaultNamespace, Lease: def.Election.LeaseName, Prefix: def.Etcd.Prefix,
		Detached: l.plan.opts.Detached, Boot: bootID(), Created: time.Now(),
	}
	for _, m := range l.plan.etcd {
		state.Etcd.Endpoints = append(state.Etcd.Endpoints, m.url())
	}
	if l.plan.opts.Audit {
		state.AuditLog = l.path("audit.log")
	}
	if !state.Detached {
		state.Owner = os.Getpid()
	}
	if err := updateState(l.dir, func(s *State) { *s = state }); err != nil {
		return nil, err
	}
	keys, err := newPKI(l.path("pki"))
	if err != nil {
		return nil, err
	}
	if err := l.plan.writeKubeconfig(state.Kubeconfig, keys, "lab-admin", l.plan.adminToken); err != nil {
		return nil, err
	}
	if err := l.plan.writeAPIServerFiles(); err != nil {
		return nil, err
	}
	return keys, l.plan.writeKwokFiles(keys)
}

// run adds a process to the state and starts it.
func (l *Lab) run(p Process) (*child, error) {
	if err := updateState(l.dir, func(s *State) { s.put(p) }); err != nil {
		return nil, err
	}
	return launch(l.starter, l.dir, p.Name, nil)
}

func (l *Lab) startEtcds(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("30s have passed"))
	defer cancel()
	kube := l.plan.kubeEtcd
	processes := []Process{l.plan.etcdProcess(kube, []member{kube})}
	for _, m := range l.plan.etcd {
		processes = append(processes, l.plan.etcdProcess(m, l.plan.etcd))
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range processes {
		c, err := l.run(p)
		if err != nil {
			return err
		}
		g.Go(func() error {
			return until(ctx, c, p.Name, answers200(http.DefaultClient, p.HTTP+"/readyz"))
		})
	}
	return g.Wait()
}

func (l *Lab) startAPIServer(ctx context.Context, keys *pki) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("90s have passed"))
	defer cancel()
	c, err := l.run(l.plan.apiserverProcess(keys))
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(l.config)
	if err != nil {
		return err
	}
	return until(ctx, c, c.Name, answers200(client, l.plan.apiserverURL()+"/readyz"))
}

// furnish puts into the empty cluster what a lab needs.
func (l *Lab) furnish(ctx context.Context, keys *pki, out *progress) error {
	o := l.plan.opts
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, errors.New("60s have passed"))
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		start := time.Now()
		c, err := l.run(l.plan.kwokProcess())
		if err != nil {
			return err
		}
		if err := until(ctx, c, "kwok", answers200(http.DefaultClient, c.HTTP+"/healthz")); err != nil {
			return err
		}
		out.done(start, "kwok answers")
		return nil
	})
	g.Go(func() error {
		start := time.Now()
		if err := createNodes(ctx, l.client, o.Nodes, o.Node); err != nil {
			return fmt.Errorf("create nodes: %w", err)
		}
		out.done(start, "%d nodes exist, played by kwok", o.Nodes)
		return nil
	})
	g.Go(func() error {
		start := time.Now()
		base := filepath.Join(o.Root, "deploy", "base")
		if o.Admission != "" {
			base = filepath.Join(o.Root, "deploy", "admission")
		}
		if _, err := os.Stat(base); errors.Is(err, fs.ErrNotExist) && o.Replicas == 0 {
			return nil // a cluster only
		}
		applied, checked, err := l.applyManifests(ctx, base, keys)
		if err != nil {
			return err
		}
		out.done(start, "deploy/%s: %d objects applied, %d workloads validated", filepath.Base(base), applied, checked)
		return nil
	})
	return g.Wait()
}

func (l *Lab) applyManifests(ctx context.Context, base string, keys *pki) (applied, checked int, err error) {
	objects, err := render(base)
	if err != nil {
		return 0, 0, err
	}
	who, err := identityIn(objects)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", base, err)
	}
	if l.plan.opts.NoFence {
		objects = withoutFence(objects)
	}
	a, err := newObjects(l.config)
	if err != nil {
		return 0, 0, err
	}
	if err := a.ensureNamespace(ctx, who.namespace); err != nil {
		return 0, 0, err
	}
	for _, path := range l.plan.opts.CRDs {
		kinds, err := ReadManifests(path)
		if err != nil {
			return 0, 0, err
		}
		objects = append(objects, kinds...)
	}
	if applied, checked, err = a.deploy(ctx, objects, runsPods); err != nil {
		return applied, checked, err
	}
	if err := l.createQueues(ctx, who.namespace); err != nil {
		return applied, checked, err
	}
	shipped, err := shippedConfig(objects)
	if err != nil {
		return applied, checked, fmt.Errorf("%s: %w", base, err)
	}
	if err := l.writeReplicaFiles(ctx, keys, who, shipped); err != nil {
		return applied, checked, err
	}
	if len(l.plan.opts.Managers) > 0 && l.plan.opts.Replicas > 0 {
		if err := l.allowManagers(ctx, a, who); err != nil {
			return applied, checked, err
		}
	}
	if l.plan.opts.NoFence {
		return applied, checked, nil
	}
	return applied, checked, l.awaitFence(ctx, who)
}

func (l *Lab) startReplicas(ctx context.Context, keys *pki, out *progress) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 60*time.Second, errors.New("60s have passed"))
	defer cancel()
	start := time.Now()
	if err := l.startProxies(keys); err != nil {
		return err
	}
	for i := range l.plan.replicas {
		p := l.replicaProcess(i)
		if err := updateState(l.dir, func(s *State) { s.put(p) }); err != nil {
			return err
		}
		if err := l.startReplica(p.Name); err != nil {
			return err
		}
	}
	if l.plan.opts.SkipWait {
		out.done(start, "replicas started")
		return nil
	}
	watched, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go l.watchRestarts(watched, stop)
	leader, err := l.WaitLeader(watched)
	if err != nil {
		return l.explain(err)
	}
	out.done(start, "%s leads", leader)
	if err := l.WaitReady(watched); err != nil {
		return l.explain(err)
	}
	out.done(start, "all replicas are ready")
	return nil
}

// tooOften is how many restarts of a replica, before the first lead, show that
// waiting will not help.
const tooOften = 5

// watchRestarts gives up when a replica ends again and again.
func (l *Lab) watchRestarts(ctx context.Context, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		state, err := l.State()
		if err != nil {
			continue
		}
		for _, name := range state.Replicas() {
			if p := state.Process(name); p.Restarts >= tooOften {
				giveUp(fmt.Errorf("%s has ended %d times", name, p.Restarts))
			}
		}
	}
}

// WaitReady waits until every replica that was not stopped is ready.
func (l *Lab) WaitReady(ctx context.Context) error {
	state, err := l.State()
	if err != nil {
		return err
	}
	for _, name := range state.Replicas() {
		if p := state.Process(name); p.Stopped {
			continue
		}
		if err := until(ctx, nil, name+" to be ready", l.Replica(name).Ready); err != nil {
			return err
		}
	}
	return nil
}

// explain adds the last words of each replica to an error.
func (l *Lab) explain(err error) error {
	state, stateErr := l.State()
	if stateErr != nil {
		return err
	}
	var b strings.Builder
	for _, name := range state.Replicas() {
		p := state.Process(name)
		fmt.Fprintf(&b, "\n--- %s (restarts %d), the end of %s\n%s", name, p.Restarts, p.Log, tail(p.Log, 1500))
	}
	return fmt.Errorf("%w%s", err, b.String())
}
