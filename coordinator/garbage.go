package coordinator

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Garbage is collected when the heap has grown by as much as is live, says Go. Each collection
// looks at all that is live: with the little that a replica holds of most clusters it comes so
// often that it takes a quarter of the replica's processors. So the heap grows by twice as much
// here, and by leastGrowth at least; by more than mostGrowth it grows only where that is less than
// half of what is live: where a lot is live, a collection is rare anyhow, and memory is what lacks.
const (
	leastGrowth = 128 << 20
	mostGrowth  = 400 << 20
)

// growthPeriod is how often it is looked at what is live.
const growthPeriod = 5 * time.Second

// growth is by how much the heap grows between two collections, as a percentage of what is live.
func growth(live uint64) int {
	live = max(live, 1<<20)
	return int(100 * max(live/2, leastGrowth, min(2*live, mostGrowth)) / live)
}

// collectLess has garbage collected less often while there is little else, until ctx ends. Who
// has set GOGC has decided otherwise. GOMEMLIMIT stays what it is, and comes first.
func collectLess(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := func() int {
		metrics.Read(live)
		return debug.SetGCPercent(growth(live[0].Value.Uint64()))
	}
	before := set()
	defer debug.SetGCPercent(before)
	tick := time.NewTicker(growthPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			set()
		}
	}
}
