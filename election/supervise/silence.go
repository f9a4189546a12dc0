package supervise

import (
	"fmt"
	"os"
	"time"
)

// condition is what the kernel says about a process that does not beat.
type condition string

const (
	// asleep: no thread wants a processor. It hangs, unless all that it waits for is slow.
	asleep condition = "asleep"
	// starved: a thread waits for a processor or a disk, or makes use of one in vain.
	starved condition = "starved"
	// stopped: by a signal or a debugger. It cannot go on by itself.
	stopped condition = "stopped"
)

// moreForStarved is how much more patience there is with a process that wants to run:
// none that the machine lets run may be killed for what the machine does.
const moreForStarved = 3

// vigil knows for how long a lead has been silent, and for how long it may be. It
// counts looks, not time: a supervisor that gets no processor itself looks less often,
// and what it has missed says nothing about the child.
type vigil struct {
	pace
	patience time.Duration
	// beats is how many had been seen by the last look.
	beats  uint32
	silent time.Duration
	// calm is how long leads have beaten in time since the patience last changed, and
	// worst the longest silence in it.
	calm, worst time.Duration
}

func newVigil(p pace) *vigil { return &vigil{pace: p, patience: p.silence} }

// begin is called for each child.
func (v *vigil) begin() { v.beats, v.silent = 0, 0 }

// look takes in what is seen once in a period, and reports whether the lead has been
// silent for too long. That doubles the patience with its successors.
func (v *vigil) look(beats uint32, owed bool, is func() condition) bool {
	if !owed || beats != v.beats {
		v.beats, v.silent = beats, 0
		if owed {
			v.relax()
		}
		return false
	}
	v.silent += v.period
	v.worst = max(v.worst, v.silent)
	if v.silent < v.silence {
		return false
	}
	limit := v.patience
	switch is() {
	case stopped:
		limit = v.silence // nothing that patience could help with
	case starved:
		limit *= moreForStarved
	}
	if v.silent < limit {
		return false
	}
	v.patience = min(2*v.patience, v.longest)
	v.calm, v.worst = 0, 0
	return true
}

// relax halves the patience where half of it would have been enough for a while.
func (v *vigil) relax() {
	if v.calm += v.period; v.calm < v.steadyLead {
		return
	}
	if v.worst < v.patience/2 {
		v.patience = max(v.patience/2, v.silence)
	}
	v.calm, v.worst = 0, 0
}

// watch kills the child when it leads and has been silent for too long: then its death
// is known, as any other. The function that it returns ends the watch, and says
// whether the child was killed, and why.
func (s *supervisor) watch(child *os.Process, tied *tether) (stop func() (killed string)) {
	if tied == nil {
		return func() string { return "" }
	}
	over, killed := make(chan struct{}), make(chan string, 1)
	s.vigil.begin()
	go func() { // until stop
		defer close(killed)
		// Not a Ticker: of that the look after one that came late may come at once.
		timer := time.NewTimer(s.vigil.period)
		defer timer.Stop()
		for {
			select {
			case <-over:
				return
			case <-timer.C:
			}
			beats, owed := tied.pulse()
			var is condition
			if s.vigil.look(beats, owed, func() condition { is = conditionOf(child.Pid); return is }) {
				killed <- fmt.Sprintf("the lead has not shown life for %.1fs (%s): killed", s.vigil.silent.Seconds(), is)
				s.kill(child)
				return
			}
			timer.Reset(s.vigil.period)
		}
	}()
	return func() string {
		close(over)
		return <-killed
	}
}

func (s *supervisor) kill(child *os.Process) {
	if err := child.Kill(); err != nil {
		s.Log.Debug("the silent lead is not killed", "error", err) // it has ended
	}
}
