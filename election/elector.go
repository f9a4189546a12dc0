package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
)

// Elector observes one Lease and campaigns for it. It holds at most one Term at
// a time.
type Elector struct {
	cfg        Config
	lease      LeaseClient
	knownEpoch func(context.Context) (uint64, error)
	log        *slog.Logger
	metrics    *metrics
	poke       chan struct{} // asks for a read

	mu       sync.Mutex
	seen     sighting
	term     *Term              // nil when no term is unfinished
	attempts []attempt          // acquisitions written without an answer
	dead     []string           // identities proven dead, the latest last
	stated   []statement        // terms that are said to have ended, the latest last
	last     lapse              // the last term that was not renewed in time
	rewatch  context.CancelFunc // ends the open watch; nil without one
	heard    time.Time          // when the watch last delivered anything
	duration time.Duration      // that the next write promises
	quick    int                // quick writes in a row
	slow     int                // for how many writes yet the last slow one counts
	hung     int                // reads that were not answered in time, less those that were soon
}

// New returns an elector for the Lease that cfg names. knownEpoch returns the
// highest epoch that is on record elsewhere, 0 if none; it is asked before every
// acquisition, and while it fails the Lease is not taken.
func New(
	cfg Config, lease LeaseClient, knownEpoch func(context.Context) (uint64, error), log *slog.Logger,
) (*Elector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.complete()
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("election: metrics: %w", err)
	}
	m.leaseDuration.Set(cfg.LeaseDuration.Seconds())
	return &Elector{
		duration: cfg.LeaseDuration,
		cfg:      cfg, lease: lease, knownEpoch: knownEpoch, metrics: m,
		log:  log.With("lease", cfg.Namespace+"/"+cfg.Name, "identity", cfg.Identity),
		poke: make(chan struct{}, 1),
		seen: sighting{notify: make(chan struct{})},
	}, nil
}

// Run observes the Lease until ctx ends: a watch, and reads whenever the watch
// is silent or broken and no term is under way. Campaign needs it; a Term loses its early warning of a
// foreign holder, and nothing else, when Run ends before it.
func (e *Elector) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { e.pollLoop(ctx) })
	e.watchLoop(ctx)
	wg.Wait()
	return nil
}

// Look makes the elector read the Lease now, on a hint that its holder is gone.
// The hint itself proves nothing.
func (e *Elector) Look() {
	select {
	case e.poke <- struct{}{}:
	default: // a read is due already
	}
}

// watchLoop keeps a watch open, each time from a fresh read.
func (e *Elector) watchLoop(ctx context.Context) {
	anew := false
	for ctx.Err() == nil {
		began := time.Now()
		_, _, err := e.read(ctx)
		if err == nil {
			err = e.follow(ctx, anew)
			// A Lease that nobody renews keeps a version that the server may have
			// forgotten; then the watch begins with the present state.
			anew = !errors.Is(err, errWatchClosed)
		}
		if ctx.Err() != nil {
			return
		}
		e.log.Debug("lease watch ended", "err", err)
		e.metrics.rewatches.Inc()
		// The server ends watches every few minutes: that is no reason to pause.
		if time.Since(began) < e.cfg.PollPeriod {
			sleep(ctx, jittered(e.cfg.RetryPeriod))
		}
	}
}

// errWatchClosed says that the server or the transport ended the watch.
var errWatchClosed = errors.New("watch closed")

// follow watches until the watch ends or is found to be deaf: from the last
// version seen, so that a deletion is not missed, or anew.
func (e *Elector) follow(ctx context.Context, anew bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, _ := e.snapshot()
	if anew {
		s.version = ""
	}
	e.setWatch(cancel, false)
	defer e.setWatch(nil, false)
	w, err := e.lease.Watch(ctx, s.version)
	if err != nil {
		e.noteError(err)
		return err
	}
	defer w.Stop()
	e.setWatch(cancel, true)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case event, ok := <-w.ResultChan():
			if !ok {
				return errWatchClosed
			}
			if err := e.handle(event); err != nil {
				return err
			}
		}
	}
}

// setWatch notes a watch that is being opened, is open, or (nil) has ended.
func (e *Elector) setWatch(cancel context.CancelFunc, open bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rewatch = cancel
	e.seen.watching = open
	e.heard = time.Now()
	if open {
		e.seen.lastErr = nil
	}
}

func (e *Elector) handle(event watch.Event) error {
	e.mu.Lock()
	e.heard = time.Now()
	e.mu.Unlock()
	switch event.Type {
	case watch.Added, watch.Modified, watch.Deleted:
		lease, ok := event.Object.(*coordinationv1.Lease)
		if !ok {
			return fmt.Errorf("watch delivered a %T", event.Object)
		}
		if event.Type == watch.Deleted {
			e.see(nil, lease.ResourceVersion, never)
		} else {
			e.see(lease, lease.ResourceVersion, never)
		}
	case watch.Error:
		return apierrors.FromObject(event.Object)
	case watch.Bookmark: // a sign that the watch is alive
	}
	return nil
}

// pollLoop reads the Lease when the watch has been silent for PollPeriod, at the
// retry pace while there is no watch, not while a term is under way, and at once when
// poked. A silent watch that
// has missed something is replaced.
func (e *Elector) pollLoop(ctx context.Context) {
	last := time.Now()
	for {
		poked := await(ctx, e.poke, e.pollDue(last))
		if ctx.Err() != nil {
			return
		}
		if !poked && time.Now().Before(e.pollDue(last)) {
			continue // the watch has spoken meanwhile
		}
		last = time.Now()
		_, news, err := e.read(ctx)
		if err != nil && ctx.Err() == nil {
			e.log.Debug("lease not read", "err", err)
		}
		if news {
			e.dropSilentWatch()
		}
	}
}

// pollDue is when the Lease is to be read next, given when it was read last. While a
// term is under way there is no need: each renewal tells as much. A read would take
// the connection that the next one needs, and leave it to make another.
func (e *Elector) pollDue(last time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term != nil {
		return time.Now().Add(e.cfg.PollPeriod)
	}
	if !e.seen.watching {
		return last.Add(e.cfg.RetryPeriod)
	}
	if e.heard.After(last) {
		last = e.heard
	}
	return last.Add(e.cfg.PollPeriod)
}

func (e *Elector) dropSilentWatch() {
	e.mu.Lock()
	cancel, silent := e.rewatch, time.Since(e.heard) >= e.cfg.PollPeriod
	e.mu.Unlock()
	if cancel != nil && silent {
		cancel()
	}
}

// jittered returns between half of d and d.
func jittered(d time.Duration) time.Duration {
	return wait.Jitter(d/2, 1)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	await(ctx, nil, time.Now().Add(d))
}

// await blocks until ctx ends, a signal comes or it is the given time; the zero
// time never comes. It reports whether it saw the signal.
func await(ctx context.Context, signal <-chan struct{}, until time.Time) bool {
	var come <-chan time.Time
	if !until.IsZero() {
		d := time.Until(until)
		if d <= 0 {
			return false
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		come = timer.C
	}
	select {
	case <-ctx.Done():
	case <-signal:
		return true
	case <-come:
	}
	return false
}
