package coordinator

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/election"
)

func TestAWarmupYieldsToALead(t *testing.T) {
	now := time.Unix(1000, 0)
	var did []string
	w := newWarmup(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	refuse := false
	w.narrow = func() func() {
		did = append(did, "one processor")
		return func() { did = append(did, "all processors") }
	}
	w.lower = func() (func() error, error) {
		if refuse {
			return nil, errors.New("not allowed")
		}
		did = append(did, "low priority")
		return func() error { did = append(did, "priority"); return nil }, nil
	}
	led := election.Observation{Synced: true, Exists: true, Holder: "other", Expires: now.Add(4 * time.Second)}
	for _, step := range []struct {
		name  string
		lease election.Observation
		after time.Duration
		rests bool
		did   []string
	}{
		{"nothing is known", election.Observation{}, 0, true, []string{"one processor", "low priority"}},
		{"another leads", led, 0, true, nil},
		{"it is not heard of any more", led, 4 * time.Second, false, []string{"priority", "all processors"}},
		{"there is no Lease", election.Observation{Synced: true}, 0, false, nil},
		{"another leads, and there are no rights", led, -4 * time.Second, true, []string{"one processor"}},
		{"the Lease is free", election.Observation{Synced: true, Exists: true}, 0, false, []string{"all processors"}},
		{"another leads again", led, 0, true, []string{"one processor", "low priority"}},
		{"it takes too long", election.Observation{}, yieldFor, false, nil},
	} {
		now, did, refuse = now.Add(step.after), nil, step.name == "another leads, and there are no rights"
		w.look(step.lease)
		if w.rests() != step.rests || !slices.Equal(did, step.did) {
			t.Errorf("%s: rests %v; %q", step.name, w.rests(), did)
		}
	}
	did = nil
	w.set(false)
	if !slices.Equal(did, []string{"priority", "all processors"}) {
		t.Errorf("warm: %q", did)
	}
}
