package term

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrStuck says that a part of a lead makes no progress although work waits for it.
var ErrStuck = errors.New("no progress")

const (
	// watchPeriod is how often the watchdog looks.
	watchPeriod = 250 * time.Millisecond
	// watchSlack is by how much a look may be late. What is beyond counts for nobody:
	// a process that was starved or stopped has not had the time to do anything.
	watchSlack = 250 * time.Millisecond
)

// watch ends the lead when a part of it makes no progress for longer than it should
// ever take for one piece of work, while work waits: a deadlock, in the core included.
// A lead that holds the Lease and gets nothing done is worse than none.
func (l *Lead) watch(ctx context.Context) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	seen := make(map[string]*progress)
	last := l.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := l.Now()
		passed := min(now.Sub(last), watchPeriod+watchSlack)
		last = now
		for _, p := range l.probes() {
			if seen[p.Name] == nil {
				seen[p.Name] = new(progress)
			}
			if still := seen[p.Name].look(p, passed); still > p.Patience {
				l.stuck(fmt.Errorf("%s, for %v", p.Name, still.Round(watchPeriod)))
				return
			}
		}
	}
}

// stuck ends a lead of which a part makes no progress. It returns at once.
func (l *Lead) stuck(what error) {
	l.log.Error("this lead does not get on with its work and gives the lease up", "err", what)
	l.hung.Store(true)
	l.die(fmt.Errorf("%w: %w", ErrStuck, what))
}

// progress is what the watchdog has seen of one part.
type progress struct {
	done  uint64
	still time.Duration
}

// look returns for how long work has waited without any being done.
func (p *progress) look(probe Probe, passed time.Duration) time.Duration {
	waits, done := probe.Look()
	if !waits || done != p.done {
		p.still = 0
	} else {
		p.still += passed
	}
	p.done = done
	return p.still
}

// Patience with the parts of a lead: each is several times what one piece of work may
// take on a machine that is busy.
const (
	loopPatience   = 10 * time.Second
	mirrorPatience = 15 * time.Second // an attempt that etcd does not answer counts
)

// probes are those of all parts.
func (l *Lead) probes() []Probe {
	m := *l.mirror.Load()
	probes := append(l.Standby.Probes(),
		Probe{Name: "the loop that owns the ledger", Patience: loopPatience, Look: l.loop.Progress},
		Probe{Name: "the mirror", Patience: mirrorPatience, Look: func() (bool, uint64) {
			s := m.Status()
			return s.Pending > 0, s.Attempts
		}},
	)
	if e := l.tenure.Load().executors.Load(); e != nil {
		probes = append(probes, (*e).Probes()...)
	}
	return probes
}
