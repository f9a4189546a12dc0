package engine

import (
	"log/slog"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
)

// TestAWaitingPodCostsNothingBetweenChanges: it is looked at again when something has changed, twice
// because the core may have been about to do it, and not before the next change. Of volumes nobody
// tells.
func TestAWaitingPodCostsNothingBetweenChanges(t *testing.T) {
	preds, err := predicates.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	preds.SetPod(&v1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: "claims"},
		Spec: v1.PodSpec{Volumes: []v1.Volume{{VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"},
		}}}},
	})
	e := &Engine{preds: preds}
	x := newExplainer(e)
	x.pending = map[string]*waiting{"plain": {}, "claims": {}}
	looked := func() []string {
		x.again()
		all := slices.Sorted(slices.Values(x.queue))
		x.queue = nil
		for _, w := range x.pending {
			w.queued = false
		}
		return all
	}
	both, one := []string{"claims", "plain"}, []string{"claims"}
	for i, want := range [][]string{both, one, one} { // begun: nothing is known to be as it was
		if got := looked(); !slices.Equal(got, want) {
			t.Errorf("look %d: %v, want %v", i, got, want)
		}
	}
	for what, change := range map[string]func(){
		"a node comes":            func() { preds.SetNode(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}) },
		"the core says something": func() { e.changes.Add(1) },
	} {
		change()
		for i, want := range [][]string{both, both, one, one} {
			if got := looked(); !slices.Equal(got, want) {
				t.Errorf("%s: look %d: %v, want %v", what, i, got, want)
			}
		}
	}
}
