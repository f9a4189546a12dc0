package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// The exit status of a supervisor whose child did not exit by itself, chosen as
// shells do.
const (
	statusNotStarted = 127
	statusSignal     = 128 // plus the number of the signal that ended it
)

// Signals are those that a supervisor forwards. SIGTERM and SIGINT also say that
// the child is not to be started again.
func Signals() []os.Signal {
	return []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	}
}

// Config says what is supervised. All of it is required but Env, Trace and Careless.
type Config struct {
	// Path is the child's executable and Args are its arguments. Env is added to
	// the environment of this process.
	Path string
	Args []string
	Env  []string
	// Out and Err are the child's standard output and error. They are files, not
	// pipes to be copied, so that the end of the child is seen at once.
	Out, Err *os.File
	// Lease is asked before each start, as the child reads its configuration
	// anew. If it fails the child is started all the same, and should that one
	// die as lead, its Lease expires.
	Lease func() (Lease, error)
	// Trace begins the span in which the Lease is released for a child that died then:
	// the successor goes on with the trace of the context that it returns. What else it
	// returns is called once the Lease has been released, with the holder that was
	// deposed and its epoch; if the child was not the holder, it is not.
	Trace func(ctx context.Context, died time.Time) (context.Context, func(holder string, epoch uint64))
	// Careless releases the Lease when the child dies, whoever holds it: tests show
	// with it what comes of a release without proof.
	Careless bool
	// Signals delivers what this process receives of Signals.
	Signals <-chan os.Signal
	Log     *slog.Logger
}

// pace is how fast things are done; tests are more impatient.
type pace struct {
	// first is the longest pause before a restart, which doubles with each end
	// that follows, up to most. Even the first is worth waiting for: a start keeps
	// every processor busy, and one that has led leaves a successor that needs them.
	first, most time.Duration
	// steady is how long a child has to run for its end to be the first in a row.
	steady time.Duration
	// warm is the time between two uses of an idle connection to the API server;
	// servers and balancers close one after no less than a minute.
	warm time.Duration
	// request bounds one request. A server that has not answered by then is asked
	// again, over another connection. retry is the pause before that.
	request, retry time.Duration
	// period is the time between two looks at the beat of a lead. silence is for how
	// long it may not beat at first, and longest at most.
	period, silence, longest time.Duration
	// steadyLead is how long leads have to beat in time for the patience to shrink.
	steadyLead time.Duration
}

func defaultPace() pace {
	return pace{
		first: 500 * time.Millisecond, most: 30 * time.Second, steady: 10 * time.Second,
		warm: 15 * time.Second, request: time.Second, retry: 100 * time.Millisecond,
		period: 100 * time.Millisecond, silence: time.Second, longest: 30 * time.Second, steadyLead: time.Minute,
	}
}

type supervisor struct {
	Config
	pace     pace
	past     Past
	vigil    *vigil
	stopping bool           // no child is to be started any more
	warming  sync.WaitGroup // see keepWarm
	releases sync.WaitGroup // see release
}

// Run starts the child, and again whenever it ends, until SIGTERM or SIGINT has
// come and the child has ended. It returns the exit status of the last child,
// which is 128 plus the number of the signal for one that a signal has ended.
func Run(cfg Config) int { return run(cfg, defaultPace()) }

func run(cfg Config, p pace) int {
	// The kernel kills a child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &supervisor{Config: cfg, pace: p, vigil: newVigil(p)}
	defer s.warming.Wait()
	status := 0
	for pause := p.restarts(); !s.stopping; s.past.Restarts++ {
		began := time.Now()
		end := s.play()
		status, s.past.Last = end.Status, &end
		if time.Since(began) >= p.steady {
			pause = p.restarts()
		}
		s.pause(pause.Step())
	}
	s.settle()
	return status
}

// play runs one child from its start to its end, and returns that.
func (s *supervisor) play() End {
	lease, err := s.Lease()
	if err != nil {
		s.Log.Warn("which lease it is cannot be told: it expires should the replica die as lead", "error", err)
	}
	suffix := newSuffix()
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Env = append(append(os.Environ(), s.Env...), IncarnationEnv+"="+suffix, s.past.environment())
	cmd.Stdout, cmd.Stderr = s.Out, s.Err
	cmd.SysProcAttr = attributes()
	tied := s.tie(cmd)
	defer tied.close()
	if err := cmd.Start(); err != nil {
		s.Log.Error("replica not started", "error", err)
		return End{At: time.Now(), How: "not started: " + err.Error(), Status: statusNotStarted}
	}
	log := s.Log.With("pid", cmd.Process.Pid, "incarnation", suffix)
	log.Info("replica started", "restarts", s.past.Restarts)
	began := time.Now()
	died, reaped := follow(cmd, tied)
	unwatch := s.watch(cmd.Process, tied)
	cool := s.keepWarm(lease)
	death := attend(s, cmd.Process, died)
	s.release(lease, suffix, death, log)
	silent := unwatch()
	cool()
	attend(s, cmd.Process, reaped)
	end := End{
		Incarnation: suffix, At: death.at, How: cmp.Or(silent, cmd.ProcessState.String()),
		Status: exitStatus(cmd.ProcessState), Silent: silent != "", Epoch: death.epochOf(suffix),
	}
	log.Info("replica ended", "how", end.How, "epoch", end.Epoch, "after", death.at.Sub(began))
	return end
}

// tie gives a child its end of a tether. Without one, nil, its death is known when
// wait returns.
func (s *supervisor) tie(cmd *exec.Cmd) *tether {
	t, err := newTether()
	if err != nil {
		s.Log.Debug("no tether: the death of the replica is noticed once its memory is released", "error", err)
		return nil
	}
	const firstExtra = 3
	cmd.ExtraFiles = []*os.File{t.file}
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", tetherEnv, firstExtra))
	return t
}

// death is the end of a child.
type death struct {
	at time.Time
	// left is the Lease as the child last wrote it, nil if it did not say.
	left *coordinationv1.Lease
}

// follow tells when a child that has been started is dead, and when it has been
// waited for: how it ended is in ProcessState then.
func follow(cmd *exec.Cmd, tied *tether) (<-chan death, <-chan struct{}) {
	died, reaped := make(chan death, 1), make(chan struct{})
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		_ = cmd.Wait()
		if tied != nil {
			tied.cut()
		}
	}()
	go func() {
		defer close(reaped)
		if tied != nil {
			tied.awaitDeath(cmd.Process.Pid, waited)
		} else {
			<-waited
		}
		died <- death{time.Now(), inherited(tied)}
		<-waited
	}()
	return died, reaped
}

// attend forwards signals to the child until something comes, and returns that.
func attend[T any](s *supervisor, child *os.Process, until <-chan T) T {
	for {
		select {
		case it := <-until:
			return it
		case sig := <-s.Signals:
			s.heed(sig)
			if err := child.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				s.Log.Warn("signal not forwarded", "signal", sig.String(), "error", err)
			}
		}
	}
}

func (s *supervisor) heed(sig os.Signal) {
	if sig == syscall.SIGTERM || sig == syscall.SIGINT {
		s.stopping = true
	}
}

// pause waits for d, unless it is or has been told to stop.
func (s *supervisor) pause(d time.Duration) {
	if s.stopping {
		return
	}
	s.Log.Info("replica is started again after a pause", "pause", d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for !s.stopping {
		select {
		case <-timer.C:
			return
		case sig := <-s.Signals:
			s.heed(sig)
		}
	}
}

// settle waits for the releases that are under way, or for another signal.
func (s *supervisor) settle() {
	settled := make(chan struct{})
	go func() {
		s.releases.Wait()
		close(settled)
	}()
	select {
	case <-settled:
	case <-s.Signals:
	}
}

// restarts are the pauses before the next start after ends in a row.
func (p pace) restarts() wait.Backoff {
	return wait.Backoff{Duration: p.first / 2, Factor: 2, Jitter: 1, Cap: p.most / 2, Steps: math.MaxInt}
}

// jittered returns between half of d and d.
func jittered(d time.Duration) time.Duration { return wait.Jitter(d/2, 1) }

func exitStatus(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return statusSignal + int(ws.Signal())
	}
	return state.ExitCode()
}
