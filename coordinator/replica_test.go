package coordinator

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestAProcessOfWhichAPartHangsEnds: nobody starts a replica anew that never ends.
func TestAProcessOfWhichAPartHangsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan int, 1)
		r := &replica{log: slog.New(slog.DiscardHandler), opts: Options{Exit: func(code int) { ended <- code }}}
		r.endWith(func() {})
		<-time.After(time.Minute)
		select {
		case code := <-ended:
			t.Errorf("one that had ended in order was ended with %d", code)
		default:
		}
		over := make(chan struct{})
		go r.endWith(func() { <-over })
		if code := <-ended; code != exitHung {
			t.Errorf("ended with %d", code)
		}
		close(over)
	})
}
