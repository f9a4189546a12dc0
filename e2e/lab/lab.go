package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Lab is a running control plane with its replicas. Its methods may be called
// from any goroutine.
type Lab struct {
	dir     string
	plan    *plan // nil in a lab that was opened, not started, here
	starter *starter
	config  *rest.Config
	client  kubernetes.Interface
	etcd    *clientv3.Client
	store   *clientv3.Client // the API server's etcd

	proxies map[string]map[Link][]proxy // by replica; made by startProxies

	mu      sync.Mutex
	keepers map[string]*keeper // of an attached lab
}

// keeper is what stands behind a replica, as a goroutine of this process.
type keeper struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// Open returns the detached lab that runs in dir. Close releases it without
// ending anything.
func Open(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	state, err := ReadState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no lab is up in %s: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	if !state.Detached && (Process{PID: state.Owner}).exists() {
		return nil, fmt.Errorf("the lab in %s belongs to the process %d and ends with it", dir, state.Owner)
	}
	l := &Lab{dir: dir, starter: newStarter(true), keepers: map[string]*keeper{}}
	if err := l.connect(state); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (p Process) exists() bool {
	_, runs := startedAt(p.PID)
	return runs
}

// connect makes the clients. It waits for nothing.
func (l *Lab) connect(state *State) error {
	var err error
	if l.config, err = adminConfig(state.Kubeconfig); err != nil {
		return err
	}
	if l.client, err = kubernetes.NewForConfig(l.config); err != nil {
		return err
	}
	if l.etcd, err = dial(state.Etcd); err != nil {
		return err
	}
	l.store, err = dial(state.KubernetesEtcd)
	return err
}

// dial bounds the pause between two attempts to connect, which otherwise grows to two
// minutes while etcd is away: drills wait for it to be back.
func dial(etcd Endpoints) (*clientv3.Client, error) {
	pause := backoff.DefaultConfig
	pause.MaxDelay = time.Second
	const timeout = 5 * time.Second
	return clientv3.New(clientv3.Config{
		Endpoints: etcd.Endpoints, DialTimeout: timeout,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: timeout})},
	})
}

// Close releases the clients of a lab that was opened. The lab goes on.
func (l *Lab) Close() {
	for _, client := range []*clientv3.Client{l.etcd, l.store} {
		if client != nil {
			_ = client.Close()
		}
	}
	if l.starter != nil {
		l.starter.close()
	}
	l.stopProxies()
	l.etcd, l.store, l.starter = nil, nil, nil
}

// Dir is where the lab keeps everything.
func (l *Lab) Dir() string { return l.dir }

// Root is the repository whose tools and manifests a lab of this process uses.
func (l *Lab) Root() string { return l.plan.opts.Root }

func (l *Lab) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

// Client is an administrator's, without a limit on its rate.
func (l *Lab) Client() kubernetes.Interface { return l.client }

// RESTConfig is that of Client.
func (l *Lab) RESTConfig() *rest.Config { return rest.CopyConfig(l.config) }

// Etcd is a client of the mirror's etcd.
func (l *Lab) Etcd() *clientv3.Client { return l.etcd }

// KubernetesEtcd is a client of the API server's etcd, to read what that cannot
// tell.
func (l *Lab) KubernetesEtcd() *clientv3.Client { return l.store }

// State reads what runs now.
func (l *Lab) State() (*State, error) { return ReadState(l.dir) }

// process looks name up in the state.
func (l *Lab) process(name string) (Process, error) {
	state, err := l.State()
	if err != nil {
		return Process{}, err
	}
	if p := state.Process(name); p != nil {
		return *p, nil
	}
	return Process{}, fmt.Errorf("no process is called %q", name)
}

// Kill sends a signal to a process. A replica that dies of it is started again;
// anything else stays dead until Start.
func (l *Lab) Kill(name string, sig syscall.Signal) error {
	p, err := l.process(name)
	if err != nil {
		return err
	}
	if err := p.signal(sig); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Stop ends a process in good order and leaves it so until Start.
func (l *Lab) Stop(name string) error {
	p, err := l.process(name)
	if err != nil {
		return err
	}
	switch p.Kind {
	case KindReplica:
	case KindSupervisor, KindKeeper:
		return fmt.Errorf("%s starts and stops with its replica", name)
	default:
		if err := p.end(grace); err != nil {
			return err
		}
		return markStopped(l.dir, name)
	}
	l.mu.Lock()
	k := l.keepers[name]
	delete(l.keepers, name)
	l.mu.Unlock()
	if k != nil {
		k.cancel()
		<-k.ended
		return k.err
	}
	return l.stopKept(name)
}

// stopKept ends the keeper, which ends its replica, then makes sure of all that
// belongs to it: the keeper may have been killed before.
func (l *Lab) stopKept(name string) error {
	patience := 2 * grace
	for _, each := range []string{keeperOf(name), SupervisorOf(name), name} {
		p, err := l.process(each)
		if err != nil {
			continue // not every replica has them
		}
		if err := p.end(patience); err != nil {
			return err
		}
		if err := markStopped(l.dir, each); err != nil {
			return err
		}
		patience = 0
	}
	return nil
}

// Start starts a process that was stopped or has died. It returns when the
// process exists, not when it answers.
func (l *Lab) Start(name string) error {
	p, err := l.process(name)
	if err != nil {
		return err
	}
	switch p.Kind {
	case KindReplica:
		return l.startReplica(name)
	case KindSupervisor, KindKeeper:
		return fmt.Errorf("%s starts and stops with its replica", name)
	}
	if p.Running() {
		return fmt.Errorf("%s runs already (pid %d)", name, p.PID)
	}
	_, err = launch(l.starter, l.dir, name, nil)
	return err
}

// SetEnv replaces what a process has in its environment besides the lab's own,
// from the next Start or Restart on.
func (l *Lab) SetEnv(name string, env ...string) error {
	if _, err := l.process(name); err != nil {
		return err
	}
	return edit(l.dir, name, func(p *Process) {
		if p.Kind == KindReplica {
			env = l.environment(name, env)
		}
		p.Env = env
	})
}

// Restart stops a process and starts it again.
func (l *Lab) Restart(name string) error {
	if err := l.Stop(name); err != nil {
		return err
	}
	return l.Start(name)
}

// startReplica puts a keeper behind the replica.
func (l *Lab) startReplica(name string) error {
	state, err := l.State()
	if err != nil {
		return err
	}
	for _, each := range []string{name, SupervisorOf(name)} {
		if err := edit(l.dir, each, func(p *Process) { p.Stopped, p.Restarts = false, 0 }); err != nil {
			return err
		}
	}
	if state.Detached {
		return l.startKeeper(name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keepers[name] != nil {
		return fmt.Errorf("%s is looked after already", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{cancel: cancel, ended: make(chan struct{})}
	l.keepers[name] = k
	go func() {
		defer close(k.ended)
		k.err = keep(ctx, l.starter, l.dir, name, slog.New(slog.DiscardHandler))
	}()
	return nil
}

func (l *Lab) startKeeper(name string) error {
	if p, err := l.process(keeperOf(name)); err == nil && p.Running() {
		return fmt.Errorf("%s is looked after already (pid %d)", name, p.PID)
	}
	keeper, err := l.keeperProcess(name)
	if err != nil {
		return err
	}
	_, err = l.run(keeper)
	return err
}

// Down ends every process of the lab and removes its files. With keepLogs the
// logs stay.
func (l *Lab) Down(keepLogs bool) error {
	if err := l.end(); err != nil {
		return err // the state is kept, so that Down can be tried again
	}
	l.Close()
	return clean(l.dir, keepLogs)
}

// end stops the replicas, which need the rest to hand over, then kills the rest,
// whose data nobody needs.
func (l *Lab) end() error {
	state, err := l.State()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if state.Boot != bootID() {
		return nil // the machine was started anew since
	}
	var replicas errgroup.Group
	for _, name := range state.Replicas() {
		replicas.Go(func() error { return l.Stop(name) })
	}
	if err := replicas.Wait(); err != nil {
		return err
	}
	if state, err = l.State(); err != nil {
		return err
	}
	var rest errgroup.Group
	for _, p := range state.Processes {
		rest.Go(func() error { return p.end(0) })
	}
	return rest.Wait()
}

// clean removes what a lab writes, and the directory if nothing else is in it.
func clean(dir string, keepLogs bool) error {
	names := []string{"data", "pki", "config", "failpoints", "termination", "kubeconfig", "audit-policy.yaml", "kwok.yaml",
		stateFile, stateFile + ".new", stateFile + ".lock"}
	if !keepLogs {
		names = append(names, "logs", "audit.log")
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	_ = os.Remove(dir)
	return errors.Join(errs...)
}
