package coordinator

import (
	"context"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestGrowth(t *testing.T) {
	const mb = 1 << 20
	for live, want := range map[uint64]uint64{ // MB
		0: 128, 1: 128, 32: 128, 64: 128, 100: 200, 200: 400, 300: 400, 400: 400, 500: 400, 800: 400, 1000: 500, 2000: 1000,
	} {
		got := uint64(growth(live*mb)) * max(live, 1) / 100
		if got > want || got+got/50+1 < want { // percentages are whole
			t.Errorf("%d MB are live: the heap grows by %d MB, not %d", live, got, want)
		}
	}
}

func TestGarbageIsCollectedLessOften(t *testing.T) {
	percent := func() int { // which can be read only by setting it
		now := debug.SetGCPercent(100)
		debug.SetGCPercent(now)
		return now
	}
	for _, test := range []struct {
		env  string
		less bool
	}{{"", true}, {"50", false}} {
		t.Setenv("GOGC", test.env)
		before := percent()
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- collectLess(ctx) }()
			if !test.less {
				if err := <-done; err != nil {
					t.Error(err)
				}
			} else {
				synctest.Wait()
			}
			if less := percent() > before; less != test.less {
				t.Errorf("GOGC=%q: %d%%, %d%% before", test.env, percent(), before)
			}
			stop()
			if test.less {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
		if percent() != before {
			t.Errorf("GOGC=%q: %d%% are left, %d%% before", test.env, percent(), before)
		}
	}
}
