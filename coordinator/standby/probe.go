package standby

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/coordinator/managers"
)

// Probe tells whether one part of a lead gets on with its work.
type Probe struct {
	Name string
	// Patience is how long work may wait without any being done.
	Patience time.Duration
	// Look returns whether work waits or is under way, and how much has been done. It
	// does not wait.
	Look func() (waits bool, done uint64)
}

const (
	enginePatience  = 10 * time.Second
	managerPatience = 10 * time.Second
)

// Probes are those of the engine and of the managers that have one.
func (s *Standby) Probes() []Probe {
	probes := []Probe{{Name: "the scheduling engine", Patience: enginePatience, Look: s.pulse.look}}
	for _, m := range s.staff {
		if p, ok := m.AppManager.(managers.Prober); ok {
			type progress struct {
				waits bool
				done  uint64
			}
			look := func() (waits bool, done uint64) {
				seen, _ := try(m, "Progress", func() (progress, error) {
					waits, done := p.Progress()
					return progress{waits, done}, nil
				})
				return seen.waits, seen.done
			}
			probes = append(probes, Probe{Name: "app manager " + m.Name(), Patience: managerPatience, Look: look})
		}
	}
	return probes
}

// pulsePeriod is the time between two questions to the engine.
const pulsePeriod = time.Second

// pulse asks the engine now and then whether it still moves.
type pulse struct {
	once    sync.Once
	cancel  atomic.Pointer[context.CancelFunc]
	running sync.WaitGroup
	asking  atomic.Bool
	answers atomic.Uint64
}

// start asks by ping until stop, a period from now on: first there are pods to bind. An
// answer may take its time: whoever looks decides for how long.
func (p *pulse) start(ping func(context.Context) error) {
	p.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		p.cancel.Store(&cancel)
		p.running.Go(func() {
			tick := time.NewTicker(pulsePeriod)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				p.asking.Store(true)
				if ping(ctx) == nil {
					p.answers.Add(1)
					p.asking.Store(false)
				}
			}
		})
	})
}

// stop ends the questions. One that is under way returns when the engine stops.
func (p *pulse) stop() {
	if cancel := p.cancel.Load(); cancel != nil {
		(*cancel)()
		p.running.Wait()
	}
}

func (p *pulse) look() (waits bool, done uint64) {
	done = p.answers.Load()
	return p.asking.Load(), done
}
