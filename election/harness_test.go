package election_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/electiontest"
)

// network is longer than a watch needs here and shorter than anything timed.
const network = 20 * time.Millisecond

// world is one store and the epoch on record in an imagined etcd.
type world struct {
	t     *testing.T
	store *electiontest.Store
	known atomic.Uint64
	ctx   context.Context
	log   *slog.Logger

	mu    sync.Mutex
	terms []*election.Term
}

// inWorld runs a test in virtual time.
func inWorld(t *testing.T, body func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, store: electiontest.NewStore(), ctx: ctx, log: slog.New(slog.DiscardHandler)}
		if testing.Verbose() {
			w.log = slog.New(slog.NewTextHandler(t.Output(), nil))
		}
		defer func() {
			cancel()
			w.finishAll()
			<-time.After(time.Minute) // requests under way and timers come to their end
			w.finishAll()
		}()
		body(w)
	})
}

func (w *world) finishAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, term := range w.terms {
		term.Finished()
	}
}

// won notes a term and claims its epoch, as a lead does in etcd.
func (w *world) won(term *election.Term) bool {
	w.mu.Lock()
	w.terms = append(w.terms, term)
	w.mu.Unlock()
	return w.claim(term.Epoch())
}

// advance lets virtual time pass.
func advance(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
	synctest.Wait()
}

// replica is one elector with its own way to the store.
type replica struct {
	*election.Elector
	w       *world
	name    string
	cfg     election.Config
	line    *electiontest.Client
	expired chan error
}

func (w *world) replica(name string, tune ...func(*election.Config)) *replica {
	w.t.Helper()
	r := &replica{w: w, name: name, line: w.store.Client(name), expired: make(chan error, 1)}
	r.cfg = election.Default()
	r.cfg.Namespace, r.cfg.Name, r.cfg.Identity = "default", "lease", name
	r.cfg.Expired = func(cause error) { r.expired <- cause }
	for _, f := range tune {
		f(&r.cfg)
	}
	if r.cfg.PollPeriod == 0 {
		r.cfg.PollPeriod = 2 * r.cfg.RetryPeriod
	}
	e, err := election.New(r.cfg, election.KubeLease(r.line.API(), "default", "lease"), w.knownEpoch, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Elector = e
	go func() { _ = e.Run(w.ctx) }()
	return r
}

func (w *world) knownEpoch(context.Context) (uint64, error) { return w.known.Load(), nil }

// claim is what a lead does with its epoch in etcd.
func (w *world) claim(epoch uint64) bool {
	for {
		old := w.known.Load()
		if old >= epoch {
			return false
		}
		if w.known.CompareAndSwap(old, epoch) {
			return true
		}
	}
}

// lead campaigns until it has won.
func (r *replica) lead() *election.Term {
	r.w.t.Helper()
	term, err := r.Campaign(r.w.ctx)
	if err != nil {
		r.w.t.Fatalf("%s campaigns: %v", r.name, err)
	}
	if !r.w.won(term) {
		r.w.t.Fatalf("%s won epoch %d, but %d is on record", r.name, term.Epoch(), r.w.known.Load())
	}
	return term
}

// campaign campaigns in the background.
func (r *replica) campaign() <-chan *election.Term {
	won := make(chan *election.Term, 1)
	go func() {
		if term, err := r.Campaign(r.w.ctx); err == nil {
			r.w.won(term)
			won <- term
		}
	}()
	return won
}

// within fails the test unless something arrives before d has passed.
func within[T any](w *world, ch <-chan T, d time.Duration, what string) (v T) {
	w.t.Helper()
	synctest.Wait()
	select {
	case v = <-ch:
		return v
	default:
	}
	if d > 0 {
		select {
		case v = <-ch:
			return v
		case <-time.After(d):
		}
	}
	w.t.Fatalf("%s: not within %v", what, d)
	return v
}

// notWithin fails the test if something arrives before d has passed.
func notWithin[T any](w *world, ch <-chan T, d time.Duration, what string) {
	w.t.Helper()
	early := func() { w.t.Fatalf("%s: happened within %v", what, d) }
	synctest.Wait()
	select {
	case <-ch:
		early()
	default:
	}
	if d > 0 {
		select {
		case <-ch:
			early()
		case <-time.After(d):
		}
	}
}

// equal fails the test if the values differ.
func equal[T comparable](w *world, what string, got, want T) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s is %v, not %v", what, got, want)
	}
}
