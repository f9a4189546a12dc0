package election

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
)

// observerResolution is how much earlier than the last renewal a client-go
// elector may start its clock: it compares renew times cut to whole seconds
// (resourcelock.LeaderElectionRecord marshals metav1.Time).
const observerResolution = time.Second

// Config tunes an Elector. Namespace, Name, Identity and Expired have no
// default.
type Config struct {
	// Namespace and Name say which Lease.
	Namespace, Name string
	// Identity names this incarnation of this replica. It must not be used by
	// any other process, not even by the next one of the same pod.
	Identity string

	// LeaseDuration is how long others wait after the last sign of life. The
	// Lease carries it in whole seconds, rounded up.
	LeaseDuration time.Duration
	// RenewDeadline is how long a Term stays valid after its last successful
	// write was sent.
	RenewDeadline time.Duration
	// RetryPeriod is the pace of renewals and of retries.
	RetryPeriod time.Duration
	// Margin is how long before the Lease may expire for others all work must
	// have stopped; then the watchdog acts. At least one second, see doc.go.
	Margin time.Duration
	// RequestTimeout bounds one request; 0 means half of RenewDeadline, which is
	// the slowest an API server can be for a term to last.
	RequestTimeout time.Duration
	// MaxLeaseDuration bounds the lease duration that a holder whose renewals are slow
	// stretches step by step, and RenewDeadline and RequestTimeout with it; 0 means
	// that it never does.
	MaxLeaseDuration time.Duration
	// PollPeriod is how long the watch may be silent before the Lease is read; 0
	// means twice RetryPeriod, which a living lead never lets pass.
	PollPeriod time.Duration
	// PreferredWait is how long a released Lease is left to the preferred
	// successor that it names, who may be short of CPU at that moment.
	PreferredWait time.Duration
	// Jitter is the longest random pause before the Lease is taken, so that
	// candidates do not all write in the same instant.
	Jitter time.Duration
	// First, if it is set, says whether this candidate is to go first as far as it
	// knows: it does not pause then, and others leave it Deference instead. Who is
	// wrong about that costs or loses no more than a pause. It is told who held the
	// Lease last, empty if that is not known, and is no candidate.
	First     func(previous string) bool
	Deference time.Duration

	// Renewed, if it is set, is given the Lease as each write of a term left it, from
	// the one that took it on. It must be quick and must not change the Lease.
	Renewed func(*coordinationv1.Lease)
	// Expired is called once, from a goroutine of its own, when work has outlived
	// its term. It must end the process.
	Expired func(cause error)
	// Metrics receives the elector's metrics; nil for none.
	Metrics prometheus.Registerer
}

// Default returns the tuning that suits a replica on a healthy API server.
func Default() Config {
	return Config{
		LeaseDuration: 4 * time.Second,
		RenewDeadline: 2400 * time.Millisecond,
		RetryPeriod:   500 * time.Millisecond,
		Margin:        1100 * time.Millisecond,
		PreferredWait: time.Second,

		MaxLeaseDuration: 15 * time.Second,
		Jitter:           5 * time.Millisecond,
		Deference:        25 * time.Millisecond,
	}
}

// complete fills in what follows from the rest.
func (c Config) complete() Config {
	if c.RequestTimeout == 0 {
		c.RequestTimeout = c.RenewDeadline / 2
	}
	c.MaxLeaseDuration = max(c.MaxLeaseDuration, c.LeaseDuration)
	if c.Renewed == nil {
		c.Renewed = func(*coordinationv1.Lease) {}
	}
	if c.PollPeriod == 0 {
		c.PollPeriod = 2 * c.RetryPeriod
	}
	return c
}

// Validate reports every setting that would break a guarantee.
func (c Config) Validate() error {
	c = c.complete()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("election: "+format, args...))
		}
	}
	check(c.Namespace != "", "namespace is empty")
	check(c.Name != "", "name is empty")
	check(c.Identity != "", "identity is empty")
	check(c.Expired != nil, "expired is not set: nothing would stop work that outlives its term")
	check(c.RetryPeriod > 0, "retryPeriod %v is not positive", c.RetryPeriod)
	check(c.RenewDeadline >= 2*c.RetryPeriod,
		"renewDeadline %v is less than two retry periods of %v", c.RenewDeadline, c.RetryPeriod)
	check(c.Margin >= observerResolution,
		"margin %v is less than %v, by which a client-go elector may be early", c.Margin, observerResolution)
	check(c.RenewDeadline < c.LeaseDuration-c.Margin,
		"renewDeadline %v does not end before leaseDuration %v less the margin of %v",
		c.RenewDeadline, c.LeaseDuration, c.Margin)
	check(c.RequestTimeout > 0 && c.RequestTimeout <= c.RenewDeadline,
		"requestTimeout %v is not within renewDeadline %v", c.RequestTimeout, c.RenewDeadline)
	check(c.MaxLeaseDuration%time.Second == 0 || c.MaxLeaseDuration == c.LeaseDuration,
		"maxLeaseDuration %v is not in whole seconds", c.MaxLeaseDuration)
	check(c.PollPeriod > 0, "pollPeriod %v is not positive", c.PollPeriod)
	check(c.PreferredWait >= 0 && c.PreferredWait <= c.LeaseDuration,
		"preferredWait %v is not within leaseDuration %v", c.PreferredWait, c.LeaseDuration)
	check(c.Jitter >= 0 && c.Jitter <= c.RetryPeriod,
		"jitter %v is not within retryPeriod %v", c.Jitter, c.RetryPeriod)
	check(c.Deference >= 0 && c.Deference <= c.RetryPeriod,
		"deference %v is not within retryPeriod %v", c.Deference, c.RetryPeriod)
	return errors.Join(errs...)
}

// stopAfter is how long after the send time of the last successful write all
// work must have ended.
func (c Config) stopAfter() time.Duration { return c.LeaseDuration - c.Margin }

// grace is what is left for work to stop when its term ends at the deadline.
func (c Config) grace() time.Duration { return c.stopAfter() - c.RenewDeadline }
