package term

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/standby"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/electiontest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// house is a replica of which everything but the lead is as the test wants it: each
// part does at once what it is asked for, unless a hook stops it.
type house struct {
	t     *testing.T
	lease *electiontest.Store
	line  *electiontest.Client // from the elector to the Lease
	*election.Elector
	over context.Context // ends with the test
	// outlives says that work may outlive its term.
	outlives atomic.Bool

	mu         sync.Mutex
	hooks      map[string]func(context.Context) error
	state      *ledger.Ledger
	history    ledger.History
	terms      []record.Term
	found      []ledger.Change // besides, by a promotion
	written    []ledger.Change
	put        []record.Term
	queues     string   // in force
	configured []string // and written
	claims     []uint64
	said       []uint64      // of which terms all work has stopped
	begun      []record.Term // written with the claims
	done       []ledger.Effect
	aside      [][]string
	differ     []engine.Mismatches
	box        *loop.Mailbox
	managing   sync.WaitGroup
	stopped    int
	roles      []serve.Role
	stuck      map[string]bool
}

// inHouse runs a test in virtual time.
func inHouse(t *testing.T, body func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h := &house{
			t: t, lease: electiontest.NewStore(), over: ctx, state: ledger.New(),
			hooks: make(map[string]func(context.Context) error), stuck: make(map[string]bool),
		}
		h.line = h.lease.Client("me")
		cfg := election.Default()
		cfg.Namespace, cfg.Name, cfg.Identity = "default", "lease", "me"
		cfg.Expired = func(cause error) {
			if !h.outlives.Load() {
				t.Errorf("work has outlived its term: %v", cause)
			}
		}
		var err error
		h.Elector, err = election.New(cfg, election.KubeLease(h.line.API(), "default", "lease"),
			func(context.Context) (uint64, error) { return 0, nil }, h.log())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = h.Run(ctx) }()
		defer func() {
			cancel()
			<-time.After(2 * time.Minute) // what hangs goes on, and timers come to their end
		}()
		body(h)
	})
}

func (h *house) log() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(h.t.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

// hook calls what the test wants to happen in a step.
func (h *house) hook(ctx context.Context, name string) error {
	h.mu.Lock()
	hook := h.hooks[name]
	h.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

// The ways in which a step goes wrong.
var errBroken = errors.New("broken")

func fails(context.Context) error { return errBroken }

func waits(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// hangs does not heed its context.
func (h *house) hangs(context.Context) error {
	<-h.over.Done()
	return nil
}

func (h *house) deps() Deps {
	counter := func(name string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, []string{"event"})
	}
	tracing, err := telemetry.StartTracing(h.over, telemetry.NewStanding("me"), "v")
	if err != nil {
		h.t.Fatal(err)
	}
	return Deps{
		Incarnation: "me", Keys: record.Keys{Prefix: "/p"}, Budgets: DefaultBudgets(), History: h.history,
		Standby: fakeStandby{h}, View: fakeView{h},
		Claim: func(ctx context.Context, leader record.Leader, begun record.Term) (Mirror, int64, error) {
			h.mu.Lock()
			h.claims, h.begun = append(h.claims, leader.Epoch), append(h.begun, begun)
			h.mu.Unlock()
			return &fakeMirror{h: h}, 7, h.hook(ctx, stepClaimed)
		},
		Barrier:   func(ctx context.Context, _ uint64) error { return h.hook(ctx, stepCluster) },
		Executors: func(_ kube.Tenure, _ kube.Sink) Executors { return &fakeExecutors{h: h} },
		Resume:    func(ctx context.Context) (*election.Term, error) { return h.Campaign(ctx) },
		Successor: func(asked string) string { return asked },
		Look:      h.Look,
		Role: func(role serve.Role, _ uint64) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.roles = append(h.roles, role)
		},
		Stopped: func(epoch uint64) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.said = append(h.said, epoch)
		},
		Leads: func() {}, Events: counter("events"), Refusals: counter("refusals"),
		Tracing: tracing, Standing: telemetry.NewStanding("me"), Log: h.log(), Now: time.Now,
	}
}

// lead wins the Lease and serves until stop is called, or it ends by itself.
func (h *house) lead() (l *Lead, ended <-chan error, stop context.CancelFunc) {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.over)
	won, err := h.Campaign(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	l = New(h.deps())
	end := make(chan error, 1)
	go func() { end <- l.Serve(ctx, won) }()
	return l, end, stop
}

// leads waits until the role is that of a lead.
func (h *house) leads() bool {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.roles) > 0 && h.roles[len(h.roles)-1] == serve.Lead
}

type fakeView struct{ h *house }

func (v fakeView) WaitRevision(ctx context.Context, _ int64) error {
	return v.h.hook(ctx, stepCaughtUp)
}
func (v fakeView) Status() view.Status                   { return view.Status{Terms: v.h.terms} }
func (v fakeView) Take() (*ledger.Ledger, record.Digest) { return v.h.state, record.Digest{} }

// fakeMirror makes durable at once, or never if the hook fails.
type fakeMirror struct{ h *house }

func (m *fakeMirror) Append(changes []ledger.Change, done func()) {
	m.h.mu.Lock()
	m.h.written = append(m.h.written, changes...)
	m.h.mu.Unlock()
	if m.h.hook(context.Background(), "durable") == nil && done != nil {
		done()
	}
}

func (m *fakeMirror) AppendLater(changes []ledger.Change, done func()) { m.Append(changes, done) }

func (m *fakeMirror) PutTerm(term record.Term) {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	m.h.put = append(m.h.put, term)
}

func (m *fakeMirror) PutConfiguration(c record.Configuration) {
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	m.h.configured = append(m.h.configured, c.Data["queues.yaml"])
}

func (m *fakeMirror) Run(ctx context.Context) error { return waitFor(ctx) }
func (m *fakeMirror) Flush(context.Context) error   { return nil }
func (m *fakeMirror) Status() mirror.Status         { return mirror.Status{} }

func (m *fakeMirror) Reclaim(ctx context.Context, leader record.Leader) (int64, error) {
	m.h.mu.Lock()
	m.h.claims = append(m.h.claims, leader.Epoch)
	m.h.mu.Unlock()
	return 8, m.h.hook(ctx, "reclaim")
}

func waitFor(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

type fakeExecutors struct{ h *house }

func (e *fakeExecutors) Do(effect ledger.Effect) {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	e.h.done = append(e.h.done, effect)
}
func (e *fakeExecutors) Forget(string) {}
func (e *fakeExecutors) Stop()         { _ = e.h.hook(context.Background(), "stop executors") }

func (e *fakeExecutors) Probes() []Probe { return []Probe{e.h.probe("the binder")} }

func (h *house) probe(name string) Probe {
	return Probe{Name: name, Patience: 10 * time.Second, Look: func() (bool, uint64) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.stuck[name], 0
	}}
}

// fakeStandby has a manager that asks the lead something as soon as it is promoted, and
// waits for the answer: Stop waits for the manager.
type fakeStandby struct{ h *house }

func (s fakeStandby) Open() error { return nil }

func (s fakeStandby) Promote(p standby.Promotion) standby.Reconciled {
	s.h.mu.Lock()
	s.h.box = p.Mailbox
	s.h.mu.Unlock()
	s.h.managing.Go(func() {
		loop.Ask(context.Background(), p.Mailbox, func(l *ledger.Ledger) *ledger.App { return l.App("a") })
	})
	_ = s.h.hook(context.Background(), stepReconciled)
	var r standby.Reconciled
	r.Changes.Add([]ledger.Change{{Key: ledger.Key{AppID: "found"}, App: &ledger.App{ID: "found", State: ledger.AppStateRunning}}})
	r.Changes.Add(s.h.found)
	return r
}

func (s fakeStandby) Verify(ctx context.Context, _ *ledger.Ledger) (engine.Mismatches, error) {
	s.h.mu.Lock()
	var differ engine.Mismatches
	if len(s.h.differ) > 0 {
		differ, s.h.differ = s.h.differ[0], s.h.differ[1:]
	}
	s.h.mu.Unlock()
	return differ, s.h.hook(ctx, stepVerified)
}

func (s fakeStandby) SetAside(_ context.Context, _ *ledger.Ledger, apps []string) (standby.Reconciled, error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.aside = append(s.h.aside, apps)
	return standby.Reconciled{}, nil
}

func (s fakeStandby) Configuration() standby.Configuration {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return standby.Configuration{Configuration: record.Configuration{Data: map[string]string{"queues.yaml": s.h.queues}}}
}

func (s fakeStandby) Begin(ctx context.Context) error { return s.h.hook(ctx, stepReleased) }
func (s fakeStandby) Do(ledger.Effect) error          { return nil }
func (s fakeStandby) Replay()                         {}
func (s fakeStandby) Durable([]ledger.Change)         {}
func (s fakeStandby) Announce()                       { _ = s.h.hook(context.Background(), "announce") }

func (s fakeStandby) Stop() {
	s.h.managing.Wait()
	_ = s.h.hook(context.Background(), "stop standby")
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.stopped++
}

func (s fakeStandby) Probes() []Probe { return []Probe{s.h.probe("the scheduling engine")} }
