package coordinator

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What is told looks at the whole replica, which is taken down when gossip has ended.
func TestNothingIsToldOnceGossipHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, telling := 0, false
		over := errors.New("over")
		err := beside(t.Context(), func() {
			telling = true
			time.Sleep(standingPeriod) // it takes its time
			telling = false
			told++
		}, func(context.Context) error {
			time.Sleep(5 * standingPeriod / 2)
			return over
		})
		if !errors.Is(err, over) {
			t.Errorf("error %v", err)
		}
		if telling || told == 0 {
			t.Errorf("told %d times, still telling: %t", told, telling)
		}
		before := told
		time.Sleep(10 * standingPeriod)
		if told != before {
			t.Error("it is still told")
		}
	})
}
