package term

import (
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestALeadRemembersAsManyAsItIsToldTo of the applications that have ended, whatever the view did.
func TestALeadRemembersAsManyAsItIsToldTo(t *testing.T) {
	inHouse(t, func(h *house) {
		h.history = ledger.History{Count: 1}
		_, ended, stop := h.lead()
		if !h.leads() {
			t.Fatal("it does not lead")
		}
		stop()
		<-ended
		for _, id := range []string{"a", "b", "c"} {
			h.state.Step(ledger.AddApp{ID: id})
			h.state.Step(ledger.AppRejected{AppID: id})
		}
		if n := h.state.Counts().Apps[ledger.AppStateRejected]; n != 1 {
			t.Errorf("%d are remembered", n)
		}
	})
}
