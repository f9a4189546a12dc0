package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sleeper returns a process description that a test can start.
func sleeper(t *testing.T, dir, name string) Process {
	t.Helper()
	return Process{Name: name, Kind: KindReplica, Log: filepath.Join(dir, name+".log"), Args: []string{"sleep", "1000"}}
}

func startSleeper(t *testing.T, s *starter, dir, name string) *child {
	t.Helper()
	c, err := s.start(sleeper(t, dir, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// helperZombie has the test binary become a process whose first thread has ended.
const helperZombie = "LAB_TEST_ZOMBIE"

// Initialization runs on the first thread, which the main goroutine then keeps.
var _ = func() bool {
	if os.Getenv(helperZombie) == "" {
		return false
	}
	runtime.LockOSThread()
	return true
}()

// outliveTheLeader ends the first thread of this process. Another one stays until its
// input ends.
func outliveTheLeader() {
	reads := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(reads)
		_, _ = syscall.Read(0, make([]byte, 1))
		syscall.Exit(0)
	}()
	<-reads
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// A process that was killed shows as a zombie while its last threads still close their
// files; whoever starts the next one then finds the port taken.
func TestAProcessRunsAsLongAsAnyThreadOfIt(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperZombie+"=1")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := Process{PID: cmd.Process.Pid}
	p.Started, _ = startedAt(p.PID)
	until := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !cond(); time.Sleep(pollEvery) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	until("the first thread does not end", func() bool { return statOf(p.PID)[0][0] == 'Z' })
	if !p.Running() {
		t.Error("it does not run although a thread is left")
	}
	if err := input.Close(); err != nil {
		t.Error(err)
	}
	until("it never ends", func() bool { return !p.Running() })
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestDownSparesAProcessThatOnlySharesTheID(t *testing.T) {
	dir := t.TempDir()
	s := newStarter(false)
	bystander, mine := startSleeper(t, s, dir, "bystander"), startSleeper(t, s, dir, "mine")
	defer func() {
		_ = bystander.end(0)
		s.close()
	}()
	reused := bystander.Process
	reused.Started-- // as if an earlier process had had this id
	err := updateState(dir, func(st *State) {
		st.Boot, st.Detached = bootID(), true
		reused.Kind, mine.Kind = KindKwok, KindKwok
		st.put(reused)
		st.put(mine.Process)
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{dir: dir, starter: newStarter(true)}
	if err := l.Down(true); err != nil {
		t.Fatal(err)
	}
	<-mine.ended
	if !bystander.Running() {
		t.Error("Down killed a process that the lab had not started")
	}
}

func TestDownAfterARebootKillsNobody(t *testing.T) {
	dir := t.TempDir()
	s := newStarter(false)
	defer s.close()
	bystander := startSleeper(t, s, dir, "bystander")
	defer func() { _ = bystander.end(0) }()
	err := updateState(dir, func(st *State) {
		st.Boot, st.Detached = "another", true
		bystander.Kind = KindKwok
		st.put(bystander.Process)
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{dir: dir, starter: newStarter(true)}
	if err := l.Down(true); err != nil {
		t.Fatal(err)
	}
	if !bystander.Running() {
		t.Error("Down believed a state from before the reboot")
	}
}

func TestReplicaIsStartedAgainUntilTold(t *testing.T) {
	for name, supervised := range map[string]bool{"supervised": true, "alone": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := sleeper(t, dir, "understudy-0")
			p.Args, p.Supervised = []string{actor(t), "run"}, supervised
			startedAgain(t, dir, p)
		})
	}
}

func startedAgain(t *testing.T, dir string, p Process) {
	if err := updateState(dir, func(st *State) { st.put(p) }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := newStarter(false)
	ended := make(chan error)
	go func() { ended <- keep(ctx, s, dir, p.Name, slog.New(slog.DiscardHandler)) }()

	current := func(name string, restarts int) (now Process) {
		t.Helper()
		eventually(t, fmt.Sprintf("start %d of %s", restarts, name), func(context.Context) error {
			st, err := ReadState(dir)
			if err != nil {
				return err
			}
			if now = *st.Process(name); !now.Running() || now.Restarts != restarts {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
		return now
	}
	first := current(p.Name, 0)
	if err := first.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	last := current(p.Name, 1)
	if last.PID == first.PID {
		t.Errorf("the state still names process %d", first.PID)
	}
	if p.Supervised {
		// Both die, and both are started again.
		sup := current(SupervisorOf(p.Name), 0)
		if sup.Kind != KindSupervisor || parentOf(last.PID) != sup.PID {
			t.Errorf("%+v is the supervisor of %+v", sup, last)
		}
		if err := sup.signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		last = current(p.Name, 2)
		current(SupervisorOf(p.Name), 1)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.close()
	st, err := ReadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range st.Processes {
		if p.PID != 0 || !p.Stopped || last.Running() {
			t.Errorf("after the keeper was told to stop: %+v, running %v", p, last.Running())
		}
	}
}

// A replica that its supervisor leaves behind is waited for, though nothing more is
// heard of it.
func TestReplicaIsStoppedWhenItHasEnded(t *testing.T) {
	dir := t.TempDir()
	p := sleeper(t, dir, "understudy-0")
	p.Supervised, p.Args = true, []string{script(t, `
sleep 1000 >/dev/null 2>&1 & pid=$!
trap '(sleep 0.5; kill $pid) >/dev/null 2>&1 & exit 0' TERM
echo '{"msg":"replica started","role":"supervisor","pid":'$pid'}'
wait $pid`), "run"}
	if err := updateState(dir, func(st *State) { st.put(p) }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := newStarter(false)
	ended := make(chan error, 1)
	go func() { ended <- keep(ctx, s, dir, p.Name, slog.New(slog.DiscardHandler)) }()
	var replica Process
	eventually(t, "a replica", func(context.Context) error {
		st, err := ReadState(dir)
		if err != nil {
			return err
		}
		if replica = *st.Process(p.Name); !replica.Running() {
			return fmt.Errorf("%+v", replica)
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if replica.Running() {
		t.Error("the keeper has ended before the replica")
	}
	s.close()
}

// What a line says is believed only of the supervisor's own child.
func TestFollowerBelievesOnlyWhatIsSo(t *testing.T) {
	dir := t.TempDir()
	s := newStarter(false)
	defer s.close()
	child := startSleeper(t, s, dir, "child")
	defer func() { _ = child.end(0) }()
	if err := updateState(dir, func(st *State) { st.put(sleeper(t, dir, "understudy-0")) }); err != nil {
		t.Fatal(err)
	}
	f := follower{dir, "understudy-0"}
	for _, c := range []struct {
		line   string
		parent int
		want   int
	}{
		{`{"msg":"replica started","role":"lead","pid":%d}`, os.Getpid(), 0},
		{`{"msg":"replica started","role":"supervisor","pid":%d}`, os.Getpid() + 1, 0},
		{`{"msg":"replica started","role":"supervisor","pid":%d}`, os.Getpid(), child.PID},
		{`{"msg":"replica ended","role":"supervisor","pid":%d}`, os.Getpid(), 0},
	} {
		if err := f.heed(fmt.Appendf(nil, c.line, child.PID), c.parent); err != nil {
			t.Error(err)
		}
		st, err := ReadState(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Process("understudy-0").PID; got != c.want {
			t.Errorf("%s of %d: process %d, want %d", c.line, c.parent, got, c.want)
		}
	}
}

func TestEndKillsWhatDoesNotListen(t *testing.T) {
	dir := t.TempDir()
	s := newStarter(false)
	defer s.close()
	deaf := sleeper(t, dir, "deaf")
	deaf.Args = []string{"sh", "-c", `trap "" TERM; echo ready; while :; do sleep 1; done`}
	c, err := s.start(deaf, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the trap", func(context.Context) error {
		if !strings.Contains(tail(deaf.Log, 100), "ready") {
			return errors.New("not yet")
		}
		return nil
	})
	if err := c.end(50 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	<-c.ended
	if c.err == nil || !strings.Contains(c.exit().Error(), "signal: killed") {
		t.Errorf("it ended otherwise: %v", c.err)
	}
	if err := c.signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal to a process that is gone: %v", err)
	}
}

// The state is read and written by several processes: no reader may see half of
// it, and no writer lose what another wrote.
func TestStateIsReplacedInOneStep(t *testing.T) {
	dir := t.TempDir()
	if err := updateState(dir, func(*State) {}); err != nil {
		t.Fatal(err)
	}
	var writers, reader sync.WaitGroup
	stop := make(chan struct{})
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := ReadState(dir); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	const n = 50
	for w := range 4 {
		writers.Go(func() {
			for i := range n {
				name := fmt.Sprintf("p-%d-%d", w, i)
				if err := updateState(dir, func(s *State) { s.put(Process{Name: name}) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	reader.Wait()
	s, err := ReadState(dir)
	if err != nil || len(s.Processes) != 4*n {
		t.Errorf("%d processes, want %d (%v)", len(s.Processes), 4*n, err)
	}
}

func TestUpRefusesWhatItCannotUse(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := vacate(foreign); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("a directory with somebody's files: %v", err)
	}
	bad := Default()
	bad.EtcdMembers = 2
	if _, err := bad.complete(); err == nil {
		t.Error("two etcd members were taken")
	}
	bad = Default()
	bad.Node.CPU = "many"
	if _, err := bad.complete(); err == nil || !strings.Contains(err.Error(), "cpu") {
		t.Errorf("a node with many CPUs: %v", err)
	}
	bad = Default()
	bad.Detached, bad.Proxies = true, true
	if _, err := bad.complete(); err == nil || !strings.Contains(err.Error(), "detached") {
		t.Errorf("a detached lab with proxies: %v", err)
	}
	bad = Default()
	bad.Binary = "/nowhere/understudy"
	if _, err := bad.complete(); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a missing executable: %v", err)
	}
}
