package coordinator

import (
	"maps"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/term"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// The Lease is longer than configured where its holder has stretched it, and of no
// length where nobody holds it.
func TestTheLeaseIsShown(t *testing.T) {
	const configured = 4 * time.Second
	for _, tt := range []struct {
		held election.Observation
		want serve.Leader
	}{
		{election.Observation{Holder: "a", Transitions: 3, LeaseDuration: configured}, serve.Leader{Identity: "a", Epoch: 3, LeaseSeconds: 4}},
		{election.Observation{Holder: "a", Transitions: 3, LeaseDuration: 9 * time.Second},
			serve.Leader{Identity: "a", Epoch: 3, LeaseSeconds: 9, LeaseStretched: true}},
		{election.Observation{Holder: "a", LeaseDuration: 2 * time.Second}, serve.Leader{Identity: "a", LeaseSeconds: 2}},
		{election.Observation{Transitions: 3, LeaseDuration: time.Second}, serve.Leader{Epoch: 3}},
	} {
		if got := leaderStatus(tt.held, configured); got != tt.want {
			t.Errorf("%+v is shown as %+v, want %+v", tt.held, got, tt.want)
		}
	}
}

// Each manager is shown with the applications that are its own.
func TestApplicationsAreCountedByManager(t *testing.T) {
	status := serve.Status{Managers: []serve.Manager{{Name: "jobs"}, {Name: "idle"}, {Name: "general"}}}
	count(&status, ledger.Counts{
		Apps:     map[ledger.AppState]int{ledger.AppStateRunning: 3, ledger.AppStateCompleted: 5},
		Managers: map[string]int{"general": 1, "jobs": 2},
	})
	got := make(map[string]int)
	for _, m := range status.Managers {
		got[m.Name] = m.Applications
	}
	if want := map[string]int{"jobs": 2, "idle": 0, "general": 1}; !maps.Equal(got, want) || status.Counts.Apps["Running"] != 3 {
		t.Errorf("applications %v of %v, want %v", got, status.Counts, want)
	}
}

// A lead that dies does not write down that its term has ended.
func TestATermThatAnotherFollowsIsOver(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) ledger.Time { return ledger.At(began.Add(time.Duration(seconds) * time.Second)) }
	died := func(seconds int) []record.Timing { return []record.Timing{{Step: term.StepDied, At: at(seconds)}} }
	terms := []record.Term{ // the own one comes last, whichever it is
		{Epoch: 1, Started: at(0)},
		{Epoch: 3, Started: at(20), Reason: string(election.Expired), Ended: at(25), EndReason: "handed over"},
		{Epoch: 4, Started: at(30)},
		{Epoch: 5, Started: at(40), Reason: string(election.Dead), Timings: died(39)},
		{Epoch: 6, Started: at(50), Reason: string(election.Dead), Timings: died(35)}, // by a clock that is late
		{Epoch: 7, Started: at(60), Reason: string(election.Dead)},
		{Epoch: 2, Started: at(10), Reason: string(election.Dead), Timings: died(9)},
	}
	list := termsStatus(terms)
	want := map[uint64]struct {
		lasted time.Duration
		reason string
	}{
		1: {9 * time.Second, "crashed"},
		2: {10 * time.Second, "succeeded by epoch 3"},
		3: {5 * time.Second, "handed over"},
		4: {9 * time.Second, "crashed"},
		5: {0, "crashed"},
		6: {10 * time.Second, "crashed"},
	}
	for i, got := range list {
		if got.Epoch != uint64(len(terms)-i) {
			t.Fatalf("term %d is shown at place %d", got.Epoch, i)
		}
		if got.Epoch == 7 {
			if !got.Ended.IsZero() || got.EndReason != "" {
				t.Errorf("the present term has ended: %+v", got)
			}
			continue
		}
		if w := want[got.Epoch]; got.Ended.Sub(got.Started) != w.lasted || got.EndReason != w.reason {
			t.Errorf("term %d lasted %v and ended because %q, want %+v", got.Epoch, got.Ended.Sub(got.Started), got.EndReason, w)
		}
	}
}
