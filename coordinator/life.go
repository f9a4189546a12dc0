package coordinator

import (
	"sync"
	"time"
)

// Tie is how a replica shows its supervisor that it gets on: see supervise.Tie. Its
// methods return at once.
type Tie interface {
	// Lead says whether this replica leads, and so owes a beat.
	Lead(leads bool)
	Beat()
}

// beatPeriod is a tenth of the patience of a supervisor.
const beatPeriod = 100 * time.Millisecond

// showLife beats for as long as this replica leads, until stop is called.
func (r *replica) showLife() (stop func()) {
	if r.opts.Tie == nil {
		return func() {}
	}
	var beating sync.WaitGroup
	over := make(chan struct{})
	r.opts.Tie.Lead(true)
	beating.Go(func() {
		tick := time.NewTicker(beatPeriod)
		defer tick.Stop()
		for {
			r.opts.Tie.Beat()
			select {
			case <-tick.C:
			case <-over:
				return
			}
		}
	})
	return func() {
		close(over)
		beating.Wait()
		r.opts.Tie.Lead(false)
	}
}
