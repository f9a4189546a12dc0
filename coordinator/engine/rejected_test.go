package engine_test

import (
	"fmt"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// The core would keep each application that it has rejected for days, each time. Rejected
// ones are expired, while the core rejects others.
func TestRejectedApplicationsAreExpired(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.engage()
	const names = 20
	for round := 1; ; round++ {
		for i := range names {
			f.do(ledger.SubmitApp{App: newApp(fmt.Sprint("no", i), "root.nowhere")})
		}
		f.until("all are rejected", func() bool { return len(f.events) == round*names })
		if rejected, expired := f.engine.Rejected(); round > 1 && rejected+expired == names && expired > 0 {
			break
		}
	}
	f.until("the core keeps none as rejected", func() bool {
		rejected, expired := f.engine.Rejected()
		return rejected == 0 && expired == names
	})
}
