package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/internal/process"
)

// pollEvery is how often a process that is not our child is looked at.
const pollEvery = 5 * time.Millisecond

// endLimit is how long the kernel may take to end a process that is killed.
const endLimit = 30 * time.Second

// ErrGone says that a process is not there any more to be signalled.
var ErrGone = errors.New("the process has ended")

// startedAt returns when the process started, in clock ticks since boot, and
// whether it still runs. A zombie does not, unless other threads of it are still
// there: those have its files open, and the port that the next one will listen on.
func startedAt(pid int) (ticks uint64, runs bool) {
	fields := statOf(pid)
	if len(fields) < 20 {
		return 0, false
	}
	ticks, err := strconv.ParseUint(string(fields[19]), 10, 64)
	state, threads := fields[0][0], string(fields[17])
	zombie := state == 'Z' && (threads == "0" || threads == "1")
	return ticks, err == nil && !zombie && state != 'X'
}

// parentOf returns the process that started it, 0 if it is gone.
func parentOf(pid int) int {
	fields := statOf(pid)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// statOf returns what the kernel says about a process, from its state on.
func statOf(pid int) [][]byte {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	// The field before is the command in parentheses, and may itself hold any.
	return bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
}

// Running reports whether p is the process that was started under its id.
func (p Process) Running() bool {
	if p.PID <= 0 {
		return false
	}
	ticks, runs := startedAt(p.PID)
	return runs && ticks == p.Started
}

// signal delivers sig to p, and to nobody else: the handle is taken before the
// start time is compared, and it cannot come to mean another process later. After
// SIGSTOP it returns when p does nothing any more.
func (p Process) signal(sig syscall.Signal) error {
	if p.PID <= 0 {
		return ErrGone
	}
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return ErrGone
	}
	defer func() { _ = handle.Release() }()
	if !p.Running() {
		return ErrGone
	}
	send := func() error { return handle.Signal(sig) }
	if sig == syscall.SIGSTOP {
		send = func() error { return process.Freeze(handle) }
	}
	if err := send(); errors.Is(err, os.ErrProcessDone) {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("signal %v to %s (pid %d): %w", sig, p.Name, p.PID, err)
	}
	return nil
}

// end asks p to end, and after grace no longer asks. With no grace it does not
// ask at all.
func (p Process) end(grace time.Duration) error {
	if grace > 0 {
		if err := p.signal(syscall.SIGTERM); errors.Is(err, ErrGone) {
			return nil
		} else if err != nil {
			return err
		}
		if p.waitEnd(grace) {
			return nil
		}
	}
	if err := p.signal(syscall.SIGKILL); errors.Is(err, ErrGone) {
		return nil
	} else if err != nil {
		return err
	}
	if !p.waitEnd(endLimit) {
		return fmt.Errorf("%s (pid %d) outlived SIGKILL", p.Name, p.PID)
	}
	return nil
}

func (p Process) waitEnd(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); p.Running(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// starter starts children and waits for each of them.
type starter struct {
	// detached children outlive this process; others die with it.
	detached bool

	// The kernel ties a child's death signal to the thread that started it, so
	// one thread, which lives as long as the starter, starts them all.
	work chan func()
	wg   sync.WaitGroup
}

// child is a process that this one started and reaps. One with a follower has
// ended when nobody is left to write to its log.
type child struct {
	Process
	ended chan struct{}
	err   error // how it ended; read after ended is closed
}

func newStarter(detached bool) *starter {
	s := &starter{detached: detached, work: make(chan func())}
	go func() {
		// Never unlocked: the thread ends with the goroutine, after close.
		runtime.LockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

// close is called when no attached child is left.
func (s *starter) close() {
	if !s.detached {
		s.wg.Wait()
	}
	close(s.work)
}

// start runs p.Args, its output appended to p.Log and, unless f is nil, read by f.
func (s *starter) start(p Process, f *follower) (*child, error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	var said *os.File
	out := log
	if f != nil {
		if said, out, err = os.Pipe(); err != nil {
			log.Close()
			return nil, err
		}
	}
	defer out.Close()
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, p.Dir
	// A session of its own: the terminal's interrupt is for the lab to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !s.detached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	done := make(chan error)
	s.work <- func() { done <- cmd.Start() }
	if err := <-done; err != nil {
		if f != nil {
			said.Close()
			log.Close()
		}
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	c := &child{Process: p, ended: make(chan struct{})}
	c.PID, c.Stopped = cmd.Process.Pid, false
	c.Started, _ = startedAt(c.PID) // our child: the id cannot be reused before Wait
	s.wg.Go(func() {
		defer close(c.ended)
		if f != nil {
			f.follow(c.PID, said, log)
		}
		c.err = cmd.Wait()
	})
	return c, nil
}

// exit describes how the child ended, with the end of its log.
func (c *child) exit() error {
	how := "exit status 0"
	if c.err != nil {
		how = c.err.Error()
	}
	return fmt.Errorf("%s ended (%s); the end of %s:\n%s", c.Name, how, c.Log, tail(c.Log, 2000))
}

// tail returns at most n bytes from the end of a file.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd)
	}
	raw, _ := io.ReadAll(f)
	return string(raw)
}

// until calls ok again and again until it returns nil, ctx ends, or the child
// (which may be nil) does.
func until(ctx context.Context, c *child, what string, ok func(context.Context) error) error {
	var ended chan struct{}
	if c != nil {
		ended = c.ended
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ok(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-ended:
			return c.exit()
		case <-tick.C:
		}
	}
}
