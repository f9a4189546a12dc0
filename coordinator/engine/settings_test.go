package engine_test

import (
	"fmt"
	"testing"

	"github.com/apache/yunikorn-core/pkg/events"

	"github.com/understudy-ha/understudy/coordinator/engine"
)

// TestSettingsReachTheCore, at the start and when they change.
func TestSettingsReachTheCore(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	settings := func(tracking bool, capacity int) map[string]string {
		return map[string]string{
			"health.checkInterval": "20ms", "event.trackingEnabled": fmt.Sprint(tracking),
			"event.requestCapacity": fmt.Sprint(capacity), "event.ringBufferCapacity": fmt.Sprint(2 * capacity),
		}
	}
	f := start(t, func(c *engine.Config) { c.ConfigYAML = settings(true, 30) })
	follows := func(tracking bool, capacity uint64) {
		t.Helper()
		f.until("the core's events are as configured", func() bool {
			system, ok := events.GetEventSystem().(*events.EventSystemImpl)
			return ok && system.IsEventTrackingEnabled() == tracking && system.GetRequestCapacity() == capacity && system.GetRingBufferCapacity() == 2*capacity
		})
	}
	follows(true, 30)
	// By default the core looks once in half a minute.
	last, looked := f.engine.Cluster().GetLastHealthCheckResult(), 0
	f.until("the core looks at its health again and again", func() bool {
		if now := f.engine.Cluster().GetLastHealthCheckResult(); now != last {
			last, looked = now, looked+1
		}
		return looked == 5
	})
	f.ok(f.engine.Configure(settings(false, 40)))
	follows(false, 40)
}
