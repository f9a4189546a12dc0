package term

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestWhatIsRecentIsToldAgain: a predecessor may have died before it told it. It is told
// once.
func TestWhatIsRecentIsToldAgain(t *testing.T) {
	inHouse(t, func(h *house) {
		now, ago := ledger.Stamp{At: ledger.At(time.Now())}, ledger.Stamp{At: ledger.At(time.Now().Add(-time.Minute))}
		for id, at := range map[string]ledger.Stamp{"new": now, "old": ago} {
			h.state.Step(ledger.AddApp{Stamp: at, ID: id})
			h.state.Step(ledger.AppAccepted{Stamp: at, AppID: id})
			h.state.Step(ledger.AddTask{Stamp: at, AppID: id, ID: id + "-task", Namespace: "ns", Name: id, Submitted: at.At})
		}
		_, _, _ = h.lead()
		if !h.leads() {
			t.Fatalf("roles %v", h.roles)
		}
		<-time.After(4 * stagePeriod)
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		var told []string
		for _, effect := range h.done {
			if r, ok := effect.(ledger.ReportTask); ok {
				told = append(told, r.Task.ID+" "+r.Reason)
			}
		}
		if want := []string{"new-task Scheduling"}; !slices.Equal(told, want) {
			t.Errorf("told is %q, want %q", told, want)
		}
	})
}

// TestAPodThatWaitsForItsGangIsToldWhy: not at once, and in a way that has nobody make
// nodes for it.
func TestAPodThatWaitsForItsGangIsToldWhy(t *testing.T) {
	inHouse(t, func(h *house) {
		told := func() (list []ledger.ReportTask) {
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, effect := range h.done {
				if r, ok := effect.(ledger.ReportTask); ok && r.Condition != "" {
					list = append(list, r)
				}
			}
			return list
		}
		l, ended, stop := h.lead()
		if !h.leads() {
			t.Fatal("does not lead")
		}
		<-time.After(stagePeriod / 2) // it looks while the gang is young
		now := ledger.Stamp{At: ledger.At(time.Now())}
		l.Heard(ledger.AddApp{Stamp: now, ID: "a", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 2}}})
		l.Heard(ledger.AddTask{Stamp: now, AppID: "a", ID: "t", Submitted: now.At})
		l.Heard(ledger.AppAccepted{Stamp: now, AppID: "a"})
		<-time.After(stagePeriod - time.Second)
		if early := told(); len(early) > 0 {
			t.Errorf("told after less than %v: %v", stagePeriod, early)
		}
		<-time.After(stagePeriod + time.Second)
		all := told()
		if len(all) == 0 {
			t.Fatal("not told")
		}
		got := all[0]
		if got.Task.ID != "t" || got.Condition != kube.ReasonSkipped || !strings.Contains(got.Message, "0 of 2 of task group g") {
			t.Errorf("told %+v", got)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
