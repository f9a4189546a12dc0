package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPodsComeBeforeTheChronicle: what older leads have written is read once the replica leads, and a
// while later, or never.
func TestPodsComeBeforeTheChronicle(t *testing.T) {
	for name, end := range map[string]func(*chronicler, context.CancelFunc){
		"":                      nil,
		"when the term is over": func(c *chronicler, _ context.CancelFunc) { c.end() },
		"when the process ends": func(_ *chronicler, cancel context.CancelFunc) { cancel() },
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := &chronicler{begun: make(chan struct{})}
			c.ending, c.end = context.WithCancel(t.Context())
			defer c.end()
			its := make(chan bool, 1)
			go func() { its <- c.itsTurn(ctx) }()
			time.Sleep(time.Hour)
			close(c.begun)
			leads := time.Now()
			time.Sleep(podsFirst / 2)
			synctest.Wait()
			select {
			case <-its:
				t.Errorf("%s: it does not wait", name)
				return
			default:
			}
			if end != nil {
				end(c, cancel)
			}
			comes := <-its
			if comes != (end == nil) || comes && time.Since(leads) != podsFirst {
				t.Errorf("%s: %v after %s", name, comes, time.Since(leads))
			}
		})
	}
}
