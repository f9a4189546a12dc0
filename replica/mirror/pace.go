package mirror

import "time"

// A transaction costs the lead, etcd and every replica that follows as much as some records do.
// While records come quickly a batch waits for more of them, as a database commits in groups: at
// 300 pods/s on two cores three replicas and etcd spend a seventh less on a pod. docs/performance.md
// has the measure.
//
// How long it waits follows from how many records the last batches had. At r records a second and
// with d for a transaction, batches grow as long as r × (d + restPerEntry × entries) is more than
// they have, which is so from some hundred records a second on, less where transactions take
// long. Below that batches have one record or two, and hardly wait.
const (
	restPerEntry = 3 * time.Millisecond
	longestRest  = 30 * time.Millisecond
	// enough entries are written at once.
	enough = 64
)

// pace says when the next batch begins.
type pace struct {
	at time.Time // when the last batch was durable
	// last and before are how many entries the last two batches had. The smaller one counts: a
	// single large batch, as the first one of a new lead, says nothing about what comes.
	last, before int
}

func (p *pace) landed(entries int) { p.at, p.last, p.before = time.Now(), entries, p.last }

// rest is for how long a batch waits that would have so many entries now.
func (p *pace) rest(entries int) time.Duration {
	sustained := min(p.last, p.before)
	if entries >= enough || sustained < 2 {
		return 0
	}
	return max(0, min(longestRest, time.Duration(sustained-1)*restPerEntry)-time.Since(p.at))
}

// after ticks once d is over, never if that is zero.
func after(d time.Duration) <-chan time.Time {
	if d == 0 {
		return nil
	}
	return time.After(d)
}
