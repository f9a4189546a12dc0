package standby

import (
	"slices"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// wiped has all replicas die, and the mirror lose everything; then a fresh one leads.
func (w *killWorld) wiped() {
	w.failOver(true, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		clear(w.etcd)
	})
	w.settle()
}

// crewNow returns the record of the crew.
func (w *killWorld) crewNow() ledger.Crew {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	key := ledger.Key{AppID: "podgroup-ns.crew"}
	change := decoded(w.t, key, w.etcd[key])
	if change.App == nil || len(change.App.Crews) != 1 {
		w.t.Fatalf("the application is %+v", change.App)
	}
	return change.App.Crews[0]
}

// TestAWipedMirrorGatesNoCrewAgain: with every record lost and every replica dead, PodGroups
// and pods say what there was. A crew that has been whole is whole, also if most of its pods
// have gone since; one that waits is still bound all or none.
func TestAWipedMirrorGatesNoCrewAgain(t *testing.T) {
	inWorld := func(name string, do func(w *killWorld)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newKillWorld(t, killManagers)
				crewOf(3)(w)
				do(w)
			})
		})
	}
	nodes := func(w *killWorld, names ...string) (on []string) {
		for _, name := range names {
			on = append(on, w.podNow(name).Spec.NodeName)
		}
		return on
	}
	pods := func(w *killWorld, names ...string) {
		for _, name := range names {
			mate(name)(w)
		}
		w.settle()
	}
	inWorld("running", func(w *killWorld) {
		pods(w, "a", "b", "c")
		w.pods(v1.PodRunning, "a", "b", "c")
		w.settle()
		w.wiped()
		w.mu.Lock()
		placed := 0
		for key, value := range w.etcd {
			if c := decoded(w.t, key, value); c.Task != nil && c.Task.State == ledger.TaskStateBound && c.Task.TaskGroup == "ns/crew" {
				placed++
			}
		}
		w.mu.Unlock()
		if crew := w.crewNow(); !crew.Whole || placed != 3 {
			w.t.Errorf("%d tasks are bound, the crew is %+v", placed, crew)
		}
	})
	inWorld("running, with most of its pods gone", func(w *killWorld) {
		pods(w, "a", "b", "c")
		w.pods(v1.PodRunning, "a", "b", "c")
		w.settle()
		w.deletePods("b", "c")
		w.settle()
		w.wiped()
		pods(w, "d")
		if got := nodes(w, "d"); got[0] == "" {
			w.t.Errorf("a pod of a crew that has been whole waits: %+v", w.crewNow())
		}
	})
	inWorld("waiting", func(w *killWorld) {
		w.room(2)
		pods(w, "a", "b", "c")
		w.wiped()
		if got := nodes(w, "a", "b", "c"); !slices.Equal(got, []string{"", "", ""}) {
			w.t.Errorf("with room for two, nodes are %q", got)
		}
		w.room(manyPods)
		w.later()
		if got := nodes(w, "a", "b", "c"); slices.Contains(got, "") || !w.crewNow().Whole {
			w.t.Errorf("with room, nodes are %q of %+v", got, w.crewNow())
		}
	})
	inWorld("gathering", func(w *killWorld) {
		pods(w, "a", "b")
		w.wiped()
		if got := nodes(w, "a", "b"); !slices.Equal(got, []string{"", ""}) {
			w.t.Errorf("two of three have nodes %q", got)
		}
		pods(w, "c")
		if got := nodes(w, "a", "b", "c"); slices.Contains(got, "") {
			w.t.Errorf("nodes are %q of %+v", got, w.crewNow())
		}
	})
}
