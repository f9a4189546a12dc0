package election_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/electiontest"
)

// rival is a client-go elector.
type rival struct {
	line    *electiontest.Client
	started chan time.Time
	stopped chan time.Time
	cancel  context.CancelFunc
}

type rivalConfig struct {
	lease, deadline, retry time.Duration
	release                bool
}

// rival runs a client-go elector until its context ends or it has lost.
func (w *world) rival(name string, cfg rivalConfig) *rival {
	w.t.Helper()
	ctx, cancel := context.WithCancel(klog.NewContext(w.ctx, logr.Discard()))
	r := &rival{
		line: w.store.Client(name), cancel: cancel,
		started: make(chan time.Time, 1), stopped: make(chan time.Time, 1),
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: "default", Name: "lease"},
			Client:     r.line.API(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: cfg.lease, RenewDeadline: cfg.deadline, RetryPeriod: cfg.retry,
		ReleaseOnCancel: cfg.release,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { r.started <- time.Now() },
			OnStoppedLeading: func() { r.stopped <- time.Now() },
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	go elector.Run(ctx)
	return r
}

// client-go compares renew times in whole seconds and may so be a second early.
// Whatever the phase, work has ended before it takes the Lease.
func TestClientGoTakesOnlyAfterTheWatchdog(t *testing.T) {
	for phase := time.Duration(0); phase < time.Second; phase += 50 * time.Millisecond {
		inWorld(t, func(w *world) {
			advance(phase)
			a := w.replica("a")
			first := a.lead()
			r := w.rival("r", rivalConfig{lease: 4 * time.Second, deadline: 2 * time.Second, retry: 20 * time.Millisecond})
			advance(5*time.Second + 7*phase)
			a.line.Hang()
			within(w, r.started, 6*time.Second, "takeover by client-go")
			if first.Valid() {
				t.Errorf("phase %v: two leads at once", phase)
			}
			within(w, a.expired, 0, "the watchdog")
		})
	}
}

func TestClientGoLeadIsGivenItsTime(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.rival("r", rivalConfig{lease: 15 * time.Second, deadline: 10 * time.Second, retry: 2 * time.Second})
		within(w, r.started, time.Second, "acquisition by client-go")
		a := w.replica("a")
		won := a.campaign()
		notWithin(w, won, time.Minute, "takeover from a living client-go lead")
		r.line.Hang()
		within(w, r.stopped, 14*time.Second, "end of client-go's lead")
		notWithin(w, won, 0, "takeover before client-go stopped")
		term := within(w, won, 6*time.Second, "takeover")
		equal(w, "epoch", term.Epoch(), 1) // client-go began at 0
	})
}

// client-go takes what we release and we take what it releases; leaseTransitions
// never falls and our epochs never repeat.
func TestClientGoTakesTurns(t *testing.T) {
	inWorld(t, func(w *world) {
		var last uint64
		a := w.replica("a")
		for range 10 {
			term := a.lead()
			if term.Epoch() <= last {
				t.Fatalf("epoch %d after %d", term.Epoch(), last)
			}
			last = term.Epoch()
			r := w.rival("r", rivalConfig{
				lease: 4 * time.Second, deadline: 2 * time.Second, retry: 500 * time.Millisecond, release: true,
			})
			notWithin(w, r.started, 5*time.Second, "takeover by client-go")
			if err := term.Release(w.ctx, ""); err != nil {
				t.Fatal(err)
			}
			within(w, r.started, 2*time.Second, "takeover by client-go")
			won := a.campaign()
			notWithin(w, won, 5*time.Second, "takeover from client-go")
			r.cancel()
			term = within(w, won, network, "takeover of what client-go released")
			equal(w, "reason", term.Why(), election.Released)
			if term.Epoch() <= last {
				t.Fatalf("epoch %d after %d", term.Epoch(), last)
			}
			last = term.Epoch()
			if err := term.Release(w.ctx, ""); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// client-go's release looks at the holder it remembers and so wipes the Lease of
// its successor. The successor stops, and no other replica of ours steps in
// while it might not have.
func TestClientGoWipesItsSuccessor(t *testing.T) {
	inWorld(t, func(w *world) {
		r := w.rival("r", rivalConfig{
			lease: 4 * time.Second, deadline: 3 * time.Second, retry: 500 * time.Millisecond, release: true,
		})
		within(w, r.started, time.Second, "acquisition by client-go")
		a, b := w.replica("a"), w.replica("b")
		won := a.campaign()
		advance(2 * time.Second)
		r.line.Hang()
		term := within(w, won, 5*time.Second, "takeover")
		wonB := b.campaign()
		r.line.Heal() // the release that was stuck goes on
		wiped := time.Now()
		within(w, term.Context().Done(), network, "end of the wiped term")
		second := within(w, wonB, 5*time.Second, "recovery")
		if after := second.AcquiredAt().Sub(wiped); after < 3900*time.Millisecond {
			t.Errorf("the wiped lease was taken after %v", after)
		}
		equal(w, "reason", second.Why(), election.Cleared)
	})
}
