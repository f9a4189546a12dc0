// Package e2e holds tests that need a real control plane and belong to no single
// part of the lab.
package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/internal/process"
)

// electorProcess makes TestElectorProcess a process of its own; its value is the
// Lease, the identity and the path of a kubeconfig.
const electorProcess = "UNDERSTUDY_E2E_ELECTOR"

// patience is for what must happen, on a machine with much else to do.
const patience = time.Minute

// exitExpired is the exit code of that process when the watchdog ends it.
const exitExpired = 3

func TestElection(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := lab.Default()
	o.Dir, o.Replicas, o.Nodes = filepath.Join(t.TempDir(), "lab"), 0, 0
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(false); err != nil {
			t.Error(err)
		}
	})
	arena := func(t *testing.T) *arena {
		name := strings.ToLower(strings.ReplaceAll(filepath.Base(t.Name()), "_", "-"))
		return &arena{t: t, ctx: t.Context(), lab: l, name: name}
	}
	t.Run("beside_client-go", func(t *testing.T) { besideClientGo(arena(t)) })
	t.Run("released_lease", func(t *testing.T) { releasedLease(arena(t)) })
	t.Run("deleted_lease", func(t *testing.T) { deletedLease(arena(t)) })
	t.Run("stopped_process", func(t *testing.T) { stoppedProcess(arena(t)) })
}

// arena is one Lease on the real API server.
type arena struct {
	t     *testing.T
	ctx   context.Context
	lab   *lab.Lab
	name  string
	known atomic.Uint64 // the epoch on record, as etcd would have it
	last  atomic.Uint64 // the last incarnation

	mu     sync.Mutex
	stints []stint
	leads  sync.WaitGroup
}

// stint is a stretch of work as lead; the epoch is 0 for client-go's.
type stint struct {
	who      string
	epoch    uint64
	from, to time.Time
}

func (a *arena) note(s stint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stints = append(a.stints, s)
}

func (a *arena) identity(kind string) string { return fmt.Sprintf("%s-%d", kind, a.last.Add(1)) }

// wire is a way to the API server that can be cut: everything under way fails,
// and what follows hangs.
type wire struct {
	next http.RoundTripper
	ctx  context.Context
	cut  context.CancelFunc
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if w.ctx.Err() != nil {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	ctx, cancel := context.WithCancel(req.Context())
	context.AfterFunc(w.ctx, cancel)
	return w.next.RoundTrip(req.WithContext(ctx))
}

func (a *arena) client() (kubernetes.Interface, *wire) {
	a.t.Helper()
	w := &wire{}
	w.ctx, w.cut = context.WithCancel(a.ctx)
	config := rest.CopyConfig(a.lab.RESTConfig())
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { w.next = next; return w })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		a.t.Fatal(err)
	}
	return client, w
}

// quick are short leases, so that many failovers fit into a minute.
func quick(name, identity string) election.Config {
	c := election.Default()
	c.Namespace, c.Name, c.Identity = "default", name, identity
	c.LeaseDuration, c.RenewDeadline, c.RetryPeriod = 3*time.Second, 1500*time.Millisecond, 300*time.Millisecond
	c.Expired = func(error) {}
	return c
}

// lasting are leases that nobody loses for want of CPU.
func lasting(name, identity string) election.Config {
	c := quick(name, identity)
	c.LeaseDuration, c.RenewDeadline, c.PreferredWait = patience, patience/2, patience/2
	return c
}

func (a *arena) elector(cfg election.Config) (*election.Elector, *wire) {
	a.t.Helper()
	client, w := a.client()
	e, err := election.New(cfg, election.KubeLease(client.CoordinationV1(), "default", a.name),
		func(context.Context) (uint64, error) { return a.known.Load(), nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		a.t.Fatal(err)
	}
	go func() { _ = e.Run(a.ctx) }()
	return e, w
}

// lead is whoever leads now and the ways to end that.
type lead struct {
	who   string
	crash func()
	yield func()
}

// ours runs one incarnation of our elector: one term, then a new incarnation.
func (a *arena) ours(ctx context.Context, leads chan<- lead) {
	for ctx.Err() == nil {
		identity := a.identity("ours")
		e, w := a.elector(quick(a.name, identity))
		term, err := e.Campaign(ctx)
		if err != nil {
			w.cut()
			return
		}
		if old := a.known.Swap(term.Epoch()); old >= term.Epoch() {
			a.t.Errorf("epoch %d came after %d", term.Epoch(), old)
		}
		yielded := make(chan struct{})
		leads <- lead{who: identity, crash: w.cut, yield: func() { close(yielded) }}
		select {
		case <-term.Context().Done():
			a.note(stint{identity, term.Epoch(), term.AcquiredAt(), term.Deadline()})
			term.Finished()
		case <-yielded:
			to := time.Now()
			if end := term.Deadline(); end.Before(to) {
				to = end // on a busy machine it was over already
			}
			a.note(stint{identity, term.Epoch(), term.AcquiredAt(), to})
			// Not ctx: the last round's release is under way when it ends.
			if err := term.Release(a.ctx, ""); err != nil && !errors.Is(err, election.ErrLost) {
				a.t.Errorf("release: %v", err)
			}
		}
		w.cut()
	}
}

// theirs runs one incarnation of a client-go elector after the other.
func (a *arena) theirs(ctx context.Context, leads chan<- lead) {
	for ctx.Err() == nil {
		identity := a.identity("rival")
		client, w := a.client()
		var from time.Time
		var once sync.Once
		rctx, cancel := context.WithCancel(klog.NewContext(ctx, logr.Discard()))
		done := func() { once.Do(func() { a.note(stint{identity, 0, from, time.Now()}) }) }
		started := make(chan struct{})
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: "default", Name: a.name},
				Client:     client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
			},
			LeaseDuration: 3 * time.Second, RenewDeadline: 1200 * time.Millisecond, RetryPeriod: 300 * time.Millisecond,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(lost context.Context) {
					from = time.Now()
					close(started)
					// A crash ends the work with the line; what client-go does then
					// is its release, which cannot get through.
					leads <- lead{
						who:   identity,
						crash: func() { done(); w.cut() },
						yield: func() { done(); cancel() },
					}
					<-lost.Done()
				},
				OnStoppedLeading: func() {
					select {
					case <-started:
						done()
					default:
					}
				},
			},
		})
		if err != nil {
			a.t.Error(err)
			cancel()
			return
		}
		elector.Run(rctx)
		cancel()
		w.cut()
	}
}

// besideClientGo lets two of ours and one of client-go's contend through twenty
// crashes and releases.
func besideClientGo(a *arena) {
	const rounds = 20
	ctx, stop := context.WithCancel(a.ctx)
	leads := make(chan lead, 16)
	for range 2 {
		a.leads.Go(func() { a.ours(ctx, leads) })
	}
	a.leads.Go(func() { a.theirs(ctx, leads) })
	count := map[string]int{}
	for range rounds {
		select {
		case l := <-leads:
			kind, _, _ := strings.Cut(l.who, "-")
			<-time.After(rand.N(1500 * time.Millisecond))
			if rand.IntN(2) == 0 {
				count[kind+" crashed"]++
				l.crash()
			} else {
				count[kind+" released"]++
				l.yield()
			}
		case <-time.After(patience):
			a.t.Fatalf("nobody leads for %v", patience)
		}
	}
	stop()
	for ended := closed(&a.leads); ; {
		select {
		case l := <-leads: // won in the last moment
			l.yield()
			continue
		case <-ended:
		case <-time.After(patience):
			a.t.Error("contenders have not ended")
		}
		break
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortStableFunc(a.stints, func(x, y stint) int { return x.from.Compare(y.from) })
	for i := 1; i < len(a.stints); i++ {
		if p, s := a.stints[i-1], a.stints[i]; p.to.After(s.from) {
			a.t.Errorf("two leads at once for %v: %s until %v, %s from %v", p.to.Sub(s.from), p.who, p.to, s.who, s.from)
		}
	}
	if len(a.stints) < rounds {
		a.t.Errorf("only %d stints", len(a.stints))
	}
	a.t.Logf("%d stints, faults %v, last epoch %d", len(a.stints), count, a.known.Load())
}

func closed(wg *sync.WaitGroup) <-chan struct{} {
	ch := make(chan struct{})
	go func() { wg.Wait(); close(ch) }()
	return ch
}

// releasedLease hands over to a preferred successor, again and again.
func releasedLease(a *arena) {
	e, _ := a.elector(lasting(a.name, "first"))
	term, err := e.Campaign(a.ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	var slowest time.Duration
	for i := range 5 {
		type won struct {
			who  string
			term *election.Term
		}
		wins := make(chan won, 3)
		ctx, cancel := context.WithCancel(a.ctx)
		var campaigns sync.WaitGroup
		for j := range 3 {
			identity := fmt.Sprintf("r%d-%d", i, j)
			e, _ := a.elector(lasting(a.name, identity))
			campaigns.Go(func() {
				if term, err := e.Campaign(ctx); err == nil {
					wins <- won{identity, term}
				}
			})
			if err := until(ctx, func() bool { return e.Observed().Watching }); err != nil {
				a.t.Fatal("no watch: ", err)
			}
		}
		preferred := fmt.Sprintf("r%d-2", i)
		began := time.Now()
		if err := term.Release(ctx, preferred); err != nil {
			a.t.Fatal(err)
		}
		w := <-wins
		slowest = max(slowest, w.term.AcquiredAt().Sub(began))
		if w.who != preferred {
			a.t.Errorf("taken by %s, not by %s", w.who, preferred)
		}
		if w.term.Epoch() != term.Epoch()+1 || w.term.Why() != election.Released {
			a.t.Errorf("epoch %d after %d, because %s", w.term.Epoch(), term.Epoch(), w.term.Why())
		}
		term = w.term
		cancel()
		campaigns.Wait()
	}
	term.Finished()
	a.t.Logf("slowest hand-over, release included: %v", slowest)
}

// deletedLease checks that the real API server does not let an update recreate a
// Lease, and that the epoch survives.
func deletedLease(a *arena) {
	e, _ := a.elector(lasting(a.name, "a"))
	term, err := e.Campaign(a.ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	a.known.Store(term.Epoch())
	leases := a.lab.Client().CoordinationV1().Leases("default")
	old, err := leases.Get(a.ctx, a.name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	began := time.Now()
	if err := leases.Delete(a.ctx, a.name, metav1.DeleteOptions{}); err != nil {
		a.t.Fatal(err)
	}
	select {
	case <-term.Context().Done():
	case <-time.After(patience):
		a.t.Fatal("the term goes on without its lease")
	}
	var lost *election.LostError
	if !errors.As(term.Cause(), &lost) || !lost.Deleted {
		a.t.Errorf("cause is %v", term.Cause())
	}
	a.t.Logf("noticed after %v", time.Since(began))
	admin := election.KubeLease(a.lab.Client().CoordinationV1(), "default", a.name)
	if _, err := admin.Write(a.ctx, old); !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		a.t.Errorf("an update of the deleted lease: %v", err)
	}
	if _, err := admin.Get(a.ctx); !apierrors.IsNotFound(err) {
		a.t.Errorf("the deleted lease: %v", err)
	}
	term.Finished()
	b, _ := a.elector(quick(a.name, "b")) // it waits until the term of a is over for sure
	second, err := b.Campaign(a.ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	if second.Epoch() != term.Epoch()+1 {
		a.t.Errorf("epoch %d after %d", second.Epoch(), term.Epoch())
	}
	second.Finished()
}

// stoppedProcess stops the lead's process past its lease and lets it go on: its
// first look says that the term is over, and the watchdog ends it.
func stoppedProcess(a *arena) {
	executable, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	child := exec.CommandContext(a.ctx, executable, "-test.run=^TestElectorProcess$")
	child.Env = append(os.Environ(), electorProcess+"="+
		strings.Join([]string{a.name, "zombie", filepath.Join(a.lab.Dir(), "kubeconfig")}, ","))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		a.t.Fatal(err)
	}
	lines := make(chan string, 16)
	go func() { scan(out, lines) }()
	expect(a, lines, "lead 1")

	e, _ := a.elector(quick(a.name, "successor"))
	if err := process.Freeze(child.Process); err != nil {
		a.t.Fatal(err)
	}
	term, err := e.Campaign(a.ctx)
	if err != nil {
		a.t.Fatal(err)
	}
	defer term.Finished()
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		a.t.Fatal(err)
	}
	expect(a, lines, "woke valid=false over=true")
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitExpired {
		a.t.Errorf("the zombie ended with %v", err)
	}
	if !term.Valid() && !errors.Is(term.Cause(), election.ErrRenewDeadline) { // as on a busy machine
		a.t.Errorf("the zombie ended its successor's term: %v", term.Cause())
	}
}

func scan(r io.Reader, lines chan<- string) {
	defer close(lines)
	for s := bufio.NewScanner(r); s.Scan(); {
		lines <- s.Text()
	}
}

func expect(a *arena, lines <-chan string, want string) {
	a.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				a.t.Fatalf("the process ended without saying %q", want)
			}
			if line == want {
				return
			}
			a.t.Logf("the process says %q", line)
		case <-deadline:
			a.t.Fatalf("the process has not said %q within %v", want, patience)
		}
	}
}

// until polls for what has no channel to wait on.
func until(ctx context.Context, ok func() bool) error {
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// TestElectorProcess is the lead that stoppedProcess stops: it looks at its term
// all the time and says what it sees first after it could not look for a while.
func TestElectorProcess(t *testing.T) {
	args := strings.Split(os.Getenv(electorProcess), ",")
	if len(args) != 3 {
		t.Skip("only as a process of another test")
	}
	config, err := clientcmd.BuildConfigFromFlags("", args[2])
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := quick(args[0], args[1])
	said := make(chan struct{})
	c.Expired = func(error) {
		select {
		case <-said: // the loop below has seen its term
		case <-time.After(patience):
		}
		os.Exit(exitExpired)
	}
	e, err := election.New(c, election.KubeLease(client.CoordinationV1(), "default", c.Name),
		func(context.Context) (uint64, error) { return 0, nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = e.Run(t.Context()) }()
	term, err := e.Campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Taken before the line, for the stop may follow it at once.
	last := time.Now()
	fmt.Printf("lead %d\n", term.Epoch())
	for woke := false; ; {
		now := time.Now()
		if !woke && now.Sub(last) > time.Second {
			woke = true
			over := term.Context().Err() != nil
			fmt.Printf("woke valid=%v over=%v\n", term.Valid(), over)
			close(said)
		}
		last = now
		<-time.After(100 * time.Microsecond)
	}
}
