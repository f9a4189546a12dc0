package supervise

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/electiontest"
)

// patience is for what is certain to come, on however slow a machine.
const patience = time.Minute

// hasty does everything at once that is not under test.
func hasty() pace {
	p := defaultPace()
	p.first, p.most, p.retry = time.Millisecond, time.Millisecond, time.Millisecond
	return p
}

// act is a supervisor under test, and what is seen of it and its children.
type act struct {
	t       *testing.T
	store   *electiontest.Store
	line    *electiontest.Client // the supervisor's way to the API server
	signals chan os.Signal
	said    <-chan string // by the children, line by line
	logged  *journal
	status  chan int
}

// play starts a supervisor of children of a kind. It is told to stop, and its
// last child killed, when the test ends.
func play(t *testing.T, kind string, p pace, change ...func(*Config)) *act {
	t.Helper()
	a := &act{
		t: t, store: electiontest.NewStore(), signals: make(chan os.Signal, 16),
		logged: newJournal(), status: make(chan int, 1),
	}
	a.line = a.store.Client("supervisor")
	out, said := pipe(t)
	a.said = said
	cfg := Config{
		Path: os.Args[0], Env: []string{childEnv + "=" + kind}, Out: out, Err: os.Stderr,
		Lease:   func() (Lease, error) { return Lease{Client: a.line, Duration: time.Hour}, nil },
		Signals: a.signals, Log: slog.New(a.logged),
	}
	for _, f := range change {
		f(&cfg)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		a.status <- run(cfg, p)
	}()
	t.Cleanup(func() {
		a.line.Heal()
		a.signals <- syscall.SIGTERM
		for {
			select {
			case <-over:
				out.Close()
				return
			case <-time.After(10 * time.Millisecond):
				a.logged.killLast()
			}
		}
	})
	return a
}

// pipe returns a file for children to write to, and what they write.
func pipe(t *testing.T) (*os.File, <-chan string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		defer r.Close()
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return w, lines
}

// hear waits for a line that begins so, and returns the rest.
func hear(t *testing.T, said <-chan string, begin string) string {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line, ok := <-said:
			if !ok {
				t.Fatalf("nobody is left to say %q", begin)
			}
			if rest, ok := strings.CutPrefix(line, begin); ok {
				return rest
			}
		case <-deadline:
			t.Fatalf("nobody said %q", begin)
		}
	}
}

// up waits for the next child.
func (a *act) up() (pid int, incarnation string) {
	a.t.Helper()
	if _, err := fmt.Sscan(hear(a.t, a.said, "up "), &pid, &incarnation); err != nil {
		a.t.Fatal(err)
	}
	return pid, incarnation
}

func (a *act) kill(pid int) {
	a.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		a.t.Fatal(err)
	}
}

// hold makes somebody the holder of the Lease.
func (a *act) hold(identity string, transitions int32) {
	a.store.Plant(identity, transitions, 4*time.Second, time.Now())
}

func (a *act) ends(want int) {
	a.t.Helper()
	select {
	case got := <-a.status:
		if got != want {
			a.t.Errorf("exit status %d, want %d", got, want)
		}
	case <-time.After(patience):
		a.t.Fatal("the supervisor goes on")
	}
}

// journal keeps the log.
type journal struct {
	mu      sync.Mutex
	records []string
	pid     int
	news    chan struct{}
}

func newJournal() *journal { return &journal{news: make(chan struct{})} }

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range attrs {
		if a.Key == "pid" {
			j.pid = int(a.Value.Int64())
		}
	}
	return j
}

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Message == "replica ended" {
		j.pid = 0
	}
	j.records = append(j.records, line)
	close(j.news)
	j.news = make(chan struct{})
	return nil
}

// killLast ends a child that runs: it is ours until its end is logged.
func (j *journal) killLast() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pid != 0 {
		_ = syscall.Kill(j.pid, syscall.SIGKILL)
	}
}

// count returns how many records begin so.
func (j *journal) count(begin string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if strings.HasPrefix(r, begin) {
			n++
		}
	}
	return n
}

// await waits until n records begin so, and returns the last of them.
func (j *journal) await(t *testing.T, n int, begin string) string {
	t.Helper()
	for deadline := time.After(patience); ; {
		j.mu.Lock()
		news, found := j.news, []string(nil)
		for _, r := range j.records {
			if strings.HasPrefix(r, begin) {
				found = append(found, r)
			}
		}
		j.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("%d records begin with %q, want %d", len(found), begin, n)
		}
	}
}

func TestLeaseOfTheDeadIsReleased(t *testing.T) {
	a := play(t, "obedient", hasty())
	pid, first := a.up()
	a.hold(first, 5)
	before := time.Now()
	a.kill(pid)
	a.logged.await(t, 1, "lease released for the dead replica holder="+first)
	lease := a.store.Lease()
	if *lease.Spec.HolderIdentity != "" || *lease.Spec.LeaseTransitions != 5 {
		t.Errorf("the lease is %+v", lease.Spec)
	}
	died, err := time.Parse("5 "+time.RFC3339Nano, lease.Annotations["understudy.dev/died"])
	if err != nil || died.Before(before.Add(-time.Millisecond)) || died.After(time.Now()) {
		t.Errorf("died at %v (%v), killed after %v", died, err, before)
	}
	if how := a.logged.await(t, 1, "replica ended"); !strings.Contains(how, "how=signal: killed") {
		t.Errorf("log: %s", how)
	}

	// The next one is another, and no less looked after.
	pid, second := a.up()
	if name, _, _ := strings.Cut(second, "_"); second == first || name != "r1" {
		t.Errorf("incarnation %s after %s", second, first)
	}
	a.hold(second, 6)
	a.kill(pid)
	a.logged.await(t, 1, "lease released for the dead replica holder="+second)
}

func TestOthersKeepTheLease(t *testing.T) {
	a := play(t, "obedient", hasty())
	pid, first := a.up()
	name, suffix, _ := strings.Cut(first, "_")
	for i, holder := range []string{
		"r2_ABCDEFGHIJ", // another replica
		name,            // what has no incarnation
		name + "_" + suffix[1:],
		name + "_" + suffix + "_x",
		"x" + suffix,
		first, // an earlier one of the same replica, as a backup may restore it
	} {
		a.hold(holder, int32(i)+1)
		a.kill(pid)
		a.logged.await(t, i+1, "lease is not held by the dead replica")
		if got := a.store.Holder(); got != holder {
			t.Fatalf("the lease of %s was given to %q when another had died", holder, got)
		}
		pid, _ = a.up()
	}
}

// Who comes next goes on with the trace in which the Lease was released. The death
// of a child that did not hold it is no part of any.
func TestReleaseBeginsTheTraceOfTheFailover(t *testing.T) {
	type released struct {
		holder string
		epoch  uint64
	}
	ended := make(chan released, 8)
	var died atomic.Pointer[time.Time]
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}, TraceFlags: trace.FlagsSampled,
	})
	a := play(t, "obedient", hasty(), func(cfg *Config) {
		cfg.Trace = func(ctx context.Context, at time.Time) (context.Context, func(string, uint64)) {
			died.Store(&at)
			return trace.ContextWithSpanContext(ctx, span), func(holder string, epoch uint64) { ended <- released{holder, epoch} }
		}
	})
	pid, _ := a.up()
	a.hold("r2_ABCDEFGHIJ", 4)
	a.kill(pid)
	a.logged.await(t, 1, "lease is not held by the dead replica")
	pid, second := a.up()
	a.hold(second, 5)
	a.kill(pid)
	a.logged.await(t, 1, "lease released for the dead replica holder="+second+" epoch=5")
	annotations := a.store.Lease().Annotations
	if got, want := annotations[election.AnnotationTrace], "00-00000000000000000000000000000001-0000000000000002-01"; got != want {
		t.Errorf("the lease carries the trace %q, want %q", got, want)
	}
	if got, want := annotations[election.AnnotationDied], "5 "+died.Load().UTC().Format(time.RFC3339Nano); got != want {
		t.Errorf("the lease says %q, the trace begins with %q", got, want)
	}
	if n := len(ended); n != 1 {
		t.Fatalf("%d spans have ended, of one release", n)
	}
	if got, want := <-ended, (released{second, 5}); got != want {
		t.Errorf("the span is of %v, want %v", got, want)
	}
}

// A release goes on until the API server is back, and the next child does not
// wait for it.
func TestReleaseOutlastsTheAPIServer(t *testing.T) {
	for name, away := range map[string]func(*electiontest.Client){
		"silent": (*electiontest.Client).Hang, "refusing": (*electiontest.Client).Refuse,
	} {
		t.Run(name, func(t *testing.T) {
			p := hasty()
			p.request = 20 * time.Millisecond
			a := play(t, "obedient", p)
			pid, first := a.up()
			a.hold(first, 1)
			away(a.line)
			a.kill(pid)
			pid, _ = a.up()
			a.kill(pid)
			a.up()
			if got := a.store.Holder(); got != first {
				t.Fatalf("holder %q while the API server was away", got)
			}
			a.line.Heal()
			a.logged.await(t, 1, "lease released for the dead replica holder="+first)
		})
	}
}

// stuck is a way to the API server on which one request gets no answer: the
// connection it was sent over is dead.
type stuck struct {
	election.LeaseClient
	next atomic.Bool
}

func (s *stuck) Get(ctx context.Context) (*coordinationv1.Lease, error) {
	if s.next.CompareAndSwap(true, false) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.LeaseClient.Get(ctx)
}

func TestRequestWithoutAnAnswerIsSentAgain(t *testing.T) {
	line := &stuck{}
	p := hasty()
	p.request = 20 * time.Millisecond
	a := play(t, "obedient", p, func(c *Config) {
		lease, _ := c.Lease()
		line.LeaseClient = lease.Client
		c.Lease = func() (Lease, error) { return Lease{Client: line, Duration: time.Hour}, nil }
	})
	pid, first := a.up()
	a.hold(first, 1)
	line.next.Store(true)
	a.kill(pid)
	a.logged.await(t, 1, "lease released for the dead replica holder="+first)
}

func TestReleaseIsGivenUpWhenTheLeaseHasExpired(t *testing.T) {
	a := play(t, "obedient", hasty(), func(c *Config) {
		lease := c.Lease
		c.Lease = func() (Lease, error) {
			l, err := lease()
			l.Duration = 50 * time.Millisecond
			return l, err
		}
	})
	pid, first := a.up()
	a.hold(first, 1)
	a.line.Refuse()
	a.kill(pid)
	a.logged.await(t, 1, "lease not released for the dead replica")
	a.line.Heal()
	if got := a.store.Holder(); got != first {
		t.Errorf("holder %q", got)
	}
}

func TestUnknownLeaseKeepsNobodyFromRunning(t *testing.T) {
	a := play(t, "obedient", hasty(), func(c *Config) { c.Lease = noLease })
	pid, _ := a.up()
	a.logged.await(t, 1, "which lease it is cannot be told")
	a.kill(pid)
	a.up()
}

func TestConnectionIsKeptWarm(t *testing.T) {
	p := hasty()
	p.warm = time.Millisecond
	a := play(t, "obedient", p)
	a.up()
	for deadline := time.Now().Add(patience); a.line.Calls() < 10; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the API server was asked %d times", a.line.Calls())
		}
	}
}

func TestToldToStop(t *testing.T) {
	a := play(t, "obedient", hasty())
	a.up()
	a.signals <- syscall.SIGUSR1
	hear(t, a.said, "heard user defined signal 1")
	a.signals <- syscall.SIGTERM
	hear(t, a.said, "heard terminated")
	a.ends(0)
	if n := a.logged.count("replica started"); n != 1 {
		t.Errorf("%d starts", n)
	}
}

func TestSecondSignalIsForwarded(t *testing.T) {
	a := play(t, "stubborn", hasty())
	a.up()
	a.signals <- syscall.SIGTERM
	hear(t, a.said, "heard terminated")
	a.signals <- syscall.SIGTERM
	hear(t, a.said, "heard terminated")
	a.ends(7)
}

// Whoever finds that the child does not listen kills it, or the supervisor.
func TestChildThatIgnoresSIGTERM(t *testing.T) {
	a := play(t, "deaf", hasty())
	pid, first := a.up()
	a.hold(first, 1)
	a.signals <- syscall.SIGTERM
	hear(t, a.said, "heard terminated")
	a.kill(pid)
	a.ends(128 + int(syscall.SIGKILL))
	if got := a.store.Holder(); got != "" {
		t.Errorf("holder %q: the supervisor has ended before the release", got)
	}
}

// The supervisor ends when the release is through, or when it is told to once more.
func TestStopWaitsForTheRelease(t *testing.T) {
	for name, then := range map[string]func(a *act){
		"healed":     func(a *act) { a.line.Heal() },
		"told again": func(a *act) { a.signals <- syscall.SIGTERM },
	} {
		t.Run(name, func(t *testing.T) {
			a := play(t, "deaf", hasty())
			pid, first := a.up()
			a.hold(first, 1)
			a.line.Refuse()
			a.signals <- syscall.SIGTERM
			hear(t, a.said, "heard terminated")
			a.kill(pid)
			a.logged.await(t, 1, "replica ended")
			select {
			case status := <-a.status:
				t.Fatalf("ended with %d before the release", status)
			case <-time.After(50 * time.Millisecond):
			}
			then(a)
			a.ends(128 + int(syscall.SIGKILL))
			if released := a.store.Holder() == ""; released != (name == "healed") {
				t.Errorf("released: %t", released)
			}
		})
	}
}

// A child that cannot start is started again after pauses, which a signal ends.
func TestChildThatEndsAgainAndAgain(t *testing.T) {
	p := defaultPace()
	p.first, p.most = time.Hour, time.Hour
	a := play(t, "broken", p)
	a.up()
	a.logged.await(t, 1, "replica is started again after a pause")
	if how := a.logged.await(t, 1, "replica ended"); !strings.Contains(how, "how=exit status 1") {
		t.Errorf("log: %s", how)
	}
	a.signals <- syscall.SIGHUP
	a.signals <- syscall.SIGTERM
	a.ends(1)
	if n := a.logged.count("replica started"); n != 1 {
		t.Errorf("%d starts", n)
	}
}

// The Lease that a child has left is released by one request; when it has been
// written since, it is read.
func TestLeaseThatTheDeadLeft(t *testing.T) {
	for name, touched := range map[string]bool{"as it was left": false, "written since": true} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "lease")
			a := play(t, "obedient", hasty(), func(c *Config) { c.Env = append(c.Env, willEnv+"="+file) })
			pid, incarnation := a.up()
			a.hold(incarnation, 5)
			raw, err := a.store.Lease().Marshal()
			if err == nil {
				err = os.WriteFile(file, raw, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			a.signals <- syscall.SIGUSR1
			hear(t, a.said, "heard user defined signal 1")
			for a.line.Calls() == 0 { // the supervisor has yet to open its connection
				runtime.Gosched()
			}
			if touched {
				a.hold(incarnation, 6)
			}
			before, want := a.line.Calls(), 1
			if touched {
				want = 3 // in vain, to read, to write
			}
			a.kill(pid)
			a.logged.await(t, 1, "lease released for the dead replica holder="+incarnation)
			if got := a.line.Calls() - before; runtime.GOOS == "linux" && got != want {
				t.Errorf("%d requests, want %d", got, want)
			}
		})
	}
}

func TestSteadyChildIsNotMadeToWaitLonger(t *testing.T) {
	p := defaultPace()
	p.first, p.most, p.steady = time.Nanosecond, time.Hour, 0
	a := play(t, "obedient", p)
	for i := range 4 {
		pid, _ := a.up()
		a.kill(pid)
		if said := a.logged.await(t, i+1, "replica is started again after a pause"); !strings.HasSuffix(said, "pause=1ns") && !strings.HasSuffix(said, "pause=0s") {
			t.Errorf("log: %s", said)
		}
	}
}

func TestExecutableThatIsMissing(t *testing.T) {
	a := play(t, "", hasty(), func(c *Config) { c.Path = "/nowhere/understudy" })
	a.logged.await(t, 2, "replica not started")
	a.signals <- syscall.SIGTERM
	a.ends(statusNotStarted)
}

func TestPauses(t *testing.T) {
	pause := defaultPace().restarts()
	for failures := 1; failures <= 1000; failures++ {
		got := pause.Step()
		longest := map[int]time.Duration{
			1: 500 * time.Millisecond, 2: time.Second, 6: 16 * time.Second, 7: 30 * time.Second, 1000: 30 * time.Second,
		}[failures]
		if longest > 0 && (got < longest/2 || got > longest) {
			t.Errorf("pause %v after %d ends in a row, want %v to %v", got, failures, longest/2, longest)
		}
	}
}

// The end of the pipe is seen only when nobody is left to write to it.
func TestChildDiesWithItsSupervisor(t *testing.T) {
	out, said := pipe(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=supervisor")
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	var pid int
	var incarnation string
	if _, err := fmt.Sscan(hear(t, said, "up "), &pid, &incarnation); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	select {
	case line, open := <-said:
		if open {
			t.Errorf("the child says %q", line)
		}
	case <-time.After(patience):
		t.Errorf("child %d has outlived its supervisor", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestIncarnationWithoutSupervisor(t *testing.T) {
	t.Setenv(IncarnationEnv, "")
	one, two := Incarnation("r1"), Incarnation("r1")
	if name, suffix, _ := strings.Cut(one, "_"); one == two || name != "r1" || len(suffix) != 10 {
		t.Errorf("%s, %s", one, two)
	}
	if isOf("r1_", "") || isOf("r1", "") {
		t.Error("no suffix is taken for one")
	}
}
