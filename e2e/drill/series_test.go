package drill

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/timeline"
)

// Every failover of a round counts, measured from its own fault, and without what
// the next fault did.
func TestEachFailoverIsMeasuredFromItsOwnFault(t *testing.T) {
	begun := time.Now()
	at := func(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }
	failover := func(killed, bound int, epoch uint64) timeline.Timeline {
		line := timeline.Timeline{Killed: at(killed), OldEpoch: epoch, NewEpoch: epoch + 1}
		line.Steps = []timeline.Step{{Name: timeline.FirstBind, At: at(bound), Offset: at(bound).Sub(at(killed))}}
		return line
	}
	var samples []load.Sample
	for created, bound := range map[int]int{50: 60, 110: 400, 450: 460, 1010: 1800, 2900: 3900} {
		samples = append(samples, load.Sample{Acked: at(created), Bound: at(bound)})
	}
	// Nobody's lead was meant to end by the last fault.
	faults := []time.Time{at(99), at(999), at(2999)}
	round := Round{Failovers: measure([]timeline.Timeline{failover(100, 400, 1), failover(1000, 1800, 2)}, faults, samples)}
	report := SeriesReport{Rounds: []Round{round, {}}}
	report.summarize()
	for _, want := range []struct {
		figure      string
		first, last float64
	}{
		{timeline.FirstBind, 300, 800},
		{gap, 290, 790},
	} {
		got := report.Spreads[want.figure]
		if got.N != 2 || got.P50 != want.first || got.Max != want.last {
			t.Errorf("%s: %+v, want %v and %v", want.figure, got, want.first, want.last)
		}
	}
}
