package term

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/failpoint"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// mailboxLimit is how many events may wait before app managers have to.
const mailboxLimit = 8192

// windUp bounds what a replica that hands over still waits for: requests under
// way, and the last changes to become durable.
const windUp = 2 * time.Second

var (
	// ErrStepBack says that a promotion failed before anything was taken over: this
	// replica may follow on as it did, and campaign again.
	ErrStepBack = errors.New("nothing has been taken over")
	// ErrHung says that a part of this replica hangs, and that the process has to end
	// to be rid of it.
	ErrHung = errors.New("work hangs")

	// ErrSettings as the cause of the end of Serve's context says that the lead hands over
	// because replicas take on other settings.
	ErrSettings = errors.New("settings have changed")

	errHandOver = errors.New("asked to stop")
)

// Lead is a replica from winning the Lease to the end of its leadership, which may
// take several terms: see resume.
type Lead struct {
	Deps
	log *slog.Logger

	box    *loop.Mailbox
	reader *loop.Reader
	loop   *loop.Loop
	counts atomic.Pointer[ledger.Counts] // for readers on other goroutines
	mirror atomic.Pointer[Mirror]        // nil until the epoch is claimed
	tenure atomic.Pointer[tenure]        // the present, or the last
	// attached says that the promotion is over: from now on the lead writes.
	attached atomic.Bool

	// living ends, with the cause, when the lead is to end whatever its term: it is asked
	// to, the mirror is fenced, or the watchdog has found that it makes no progress.
	living context.Context
	die    context.CancelCauseFunc

	writers sync.WaitGroup // the mirror: it outlives the work, to write what the work left
	replay  sync.WaitGroup
	// hung says that something was given up that may still be at work.
	hung atomic.Bool
}

// New makes the lead that holds the Lease by a term. Serve leads.
func New(d Deps) *Lead {
	box := loop.NewMailbox(mailboxLimit)
	return &Lead{Deps: d, log: d.Log, box: box, reader: loop.NewReader(box)}
}

// Serve leads until the term ends or ctx does. It returns only when all work of the
// term has stopped, or has been given up with ErrHung: nil if the Lease was handed
// over, else why the term ended.
func (l *Lead) Serve(ctx context.Context, won *election.Term) error {
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriting()
	l.living, l.die = context.WithCancelCause(writing)
	defer l.die(nil)
	defer context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, ErrSettings) {
			l.die(fmt.Errorf("%w: %w", errHandOver, cause))
			return
		}
		l.die(errHandOver)
	})()
	t := l.begin(won)
	err := t.promote(writing)
	if err == nil {
		err = l.lead(writing)
	}
	t = l.tenure.Load() // of several the last
	return l.end(ctx, t, err, stopWriting)
}

// lead leads until the last of its terms ends, and returns why.
func (l *Lead) lead(writing context.Context) error {
	looping, stop := context.WithCancel(writing)
	defer stop()
	ended := make(chan struct{})
	go func() { // waited for below, unless it hangs
		defer close(ended)
		l.loop.Run(looping)
	}()
	l.replay.Go(l.Standby.Replay) // its questions are answered by the loop
	var watchers sync.WaitGroup
	watchers.Go(func() { l.watch(looping) })
	watchers.Go(func() { l.tellWaiting(looping) })
	var err error
	for {
		t := l.tenure.Load()
		<-t.work.Done()
		err = context.Cause(t.work)
		l.log.Info("term over", "epoch", t.term.Epoch(), "cause", err)
		if !errors.Is(err, election.ErrRenewDeadline) || l.living.Err() != nil || l.resume(t) != nil {
			break
		}
	}
	if !within(windUp, l.tenure.Load().silence) {
		l.giveUp("what carries out effects on the cluster")
	}
	stop()
	watchers.Wait()
	if !within(windUp, func() { <-ended }) {
		l.giveUp("the loop that owns the ledger")
	}
	return err
}

// end takes the lead down and gives the Lease up.
func (l *Lead) end(ctx context.Context, t *tenure, err error, stopWriting func()) error {
	cause := context.Cause(t.work)
	told := cause
	switch {
	case cause == nil:
		cause = err // what failed was not the term
		told = err
	case errors.Is(cause, errHandOver):
		cause = nil
	}
	t.stop(cause)
	stepBack := errors.Is(err, ErrStepBack)
	l.Role(serve.Exiting, t.term.Epoch())
	l.takeDown(t, stepBack)
	if m := l.mirror.Load(); m != nil && t.term.Valid() {
		t.timings.finish(*m, told)
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), windUp)
		if err := (*m).Flush(flush); err != nil {
			l.log.Warn("handing over with changes that are not durable", "err", err)
		}
		cancel()
	}
	stopWriting()
	l.writers.Wait()
	t.tellStopped()
	releasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), windUp)
	defer cancel()
	if err := t.timings.release(releasing, t.term, l.Successor(t.term.Successor())); err != nil {
		l.log.Warn("the lease could not be released and has to expire", "err", err)
	}
	t.timings.end()
	switch {
	case cause == nil && !l.hung.Load():
		l.log.Info("handed over")
		return nil
	case l.hung.Load():
		return fmt.Errorf("term %d ended: %w: %w", t.term.Epoch(), ErrHung, cause)
	case stepBack:
		return fmt.Errorf("term %d ended: %w", t.term.Epoch(), err)
	}
	return fmt.Errorf("term %d ended: %w", t.term.Epoch(), cause)
}

// takeDown stops everything that the lead started; when it returns nothing of the
// term is at work but the mirror, or what still is cannot write any more. It begins
// with what others wait for: managers wait for answers to what they ask. A lead that
// has taken nothing over leaves the standby as it is.
func (l *Lead) takeDown(t *tenure, stepBack bool) {
	l.box.Close()
	for _, part := range []struct {
		name string
		stop func()
	}{
		{"what carries out effects on the cluster", func() {
			if !t.silencing.Load() { // it has been waited for already
				t.silence()
			}
		}},
		{"what catches up with the cluster", t.catching.Wait},
		{"managers and engine", func() {
			if !stepBack {
				l.Standby.Stop()
			}
		}},
		{"what managers report", l.replay.Wait},
	} {
		if !within(windUp, part.stop) {
			l.giveUp(part.name)
		}
	}
}

func (l *Lead) giveUp(what string) {
	l.hung.Store(true)
	l.log.Error("it does not end and is given up: the process has to end", "what", what)
}

// within reports whether do returned in time. Else it is left to itself.
func within(limit time.Duration, do func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// Heard takes the events of the engine and of the executors.
func (l *Lead) Heard(event ledger.Event) { l.box.Push(event) }

// Configured writes the queue configuration that is in force, once this replica leads.
// It is called whenever another one has come into force.
func (l *Lead) Configured() {
	if l.attached.Load() {
		(*l.mirror.Load()).PutConfiguration(l.Standby.Configuration().Configuration)
	}
}

// Guard is what the transport for writes asks before every request: see kube.Guard.
func (l *Lead) Guard() (ctx context.Context, deadline time.Time, ok bool) {
	t := l.tenure.Load()
	if failpoint.Off(failpoint.TermGuard) {
		return context.Background(), time.Now().Add(time.Hour), true
	}
	if t == nil || !t.term.Valid() {
		return nil, time.Time{}, false
	}
	return t.writes, t.term.Deadline(), true
}

// Epoch is that of the present term, or of the last.
func (l *Lead) Epoch() uint64 { return l.tenure.Load().term.Epoch() }

// Read calls read with the state of a lead whose promotion is over: see loop.Reader. It
// reports false if ctx or the lead ends first.
func (l *Lead) Read(ctx context.Context, read func(*ledger.Ledger)) bool {
	return l.reader.Read(ctx, read)
}

// Records calls each with the records of one application after the other, while they change: see
// loop.Records. It reports false if ctx or the lead ends first.
func (l *Lead) Records(ctx context.Context, each func([]ledger.Change)) bool {
	return loop.Records(ctx, l.box, each)
}

// Counts returns how many applications and tasks there are in each state, nil before
// that is known.
func (l *Lead) Counts() *ledger.Counts { return l.counts.Load() }

// MirrorStatus returns the state of the mirror, false before the epoch is claimed.
func (l *Lead) MirrorStatus() (mirror.Status, bool) {
	if m := l.mirror.Load(); m != nil {
		return (*m).Status(), true
	}
	return mirror.Status{}, false
}

// Term is the record of the present term as it is now.
func (l *Lead) Term() record.Term { return l.tenure.Load().timings.snapshot() }
