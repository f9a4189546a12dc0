package election

import "time"

const (
	// shrinksAfter is how many quick writes in a row shorten the lease duration.
	shrinksAfter = 20
	// remembersSlow is for how many writes a slow one counts: another one among these
	// lengthens the lease duration, however quick those between them are. One alone is
	// a hiccup.
	remembersSlow = 10
)

// stretched is the tuning for a longer lease duration. All that is gained goes to
// the renewals; what stops work has the time it always has.
func (c Config) stretched(duration time.Duration) Config {
	more := duration - c.LeaseDuration
	c.LeaseDuration += more
	c.RenewDeadline += more
	c.RequestTimeout += more / 2
	return c
}

// paced is the tuning that suits the API server at present: that of the next write.
func (e *Elector) paced() Config {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg.stretched(e.duration)
}

// suits is the shortest lease duration, in whole seconds, for which a write that takes
// so long is not slow; or the longest there may be.
func (c Config) suits(took time.Duration) time.Duration {
	for d := c.LeaseDuration.Truncate(time.Second); d < c.MaxLeaseDuration; d += time.Second {
		if took < c.stretched(d).RequestTimeout/2 {
			return max(d, c.LeaseDuration)
		}
	}
	return c.MaxLeaseDuration
}

// measured takes in how long a write took until it was known to have landed. One
// that is not known to tells nothing: an outage must not stretch anything. Where
// nobody leads any more, or before its first renewal is known, because of one write,
// the duration is not approached by steps, each of which is a write as slow.
func (e *Elector) measured(took time.Duration, taking bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.duration
	now := e.cfg.stretched(was)
	longer := min(e.cfg.MaxLeaseDuration, (was + was/2).Truncate(time.Second))
	shorter := max(e.cfg.LeaseDuration, (was * 2 / 3).Truncate(time.Second))
	another := e.slow > 0
	e.slow = max(0, e.slow-1)
	switch {
	case took >= now.RenewDeadline, taking && took >= now.RequestTimeout:
		e.quick, e.slow, e.duration = 0, 0, max(was, e.cfg.suits(took))
	case took >= now.RequestTimeout/2:
		e.quick, e.slow = 0, remembersSlow
		if another {
			e.slow, e.duration = 0, longer
		}
	case took >= e.cfg.stretched(shorter).RequestTimeout/4:
		e.quick = 0
	default:
		if e.quick++; e.quick == shrinksAfter {
			e.quick, e.duration = 0, shorter
		}
	}
	if e.duration != was {
		e.metrics.leaseDuration.Set(e.duration.Seconds())
		e.log.Info("lease duration follows the API server", "from", was, "to", e.duration, "write", took)
	}
}
