package accounting_test

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/accounting"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func pod(id, node string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: id, UID: types.UID(id)}, Spec: v1.PodSpec{NodeName: node}}
}

var two = map[string]int64{"vcore": 2}

// world has two pods of ann in two queues on two nodes, one of which is being bound, a pod of another
// scheduler, one that has ended, and one on a node that the core does not have.
func world() accounting.World {
	task := func(id, app, node string, state ledger.TaskState) *ledger.Task {
		return &ledger.Task{AppID: app, ID: id, State: state, Node: node, Resources: two}
	}
	a, b := &ledger.App{ID: "a", PlacedQueue: "root.a", User: "ann"}, &ledger.App{ID: "b", PlacedQueue: "root.b", User: "ann"}
	ended := pod("ended", "n1")
	ended.Status.Phase = v1.PodSucceeded
	w := accounting.World{
		Pods: []*v1.Pod{pod("one", "n1"), pod("two", ""), pod("other", "n1"), ended, pod("away", "n9"), pod("waits", "")},
		Tasks: map[string]accounting.Placed{
			"one":  {Task: task("one", "a", "n1", ledger.TaskStateBound), App: a},
			"two":  {Task: task("two", "b", "n2", ledger.TaskStateAllocated), App: b},
			"away": {Task: task("away", "b", "n9", ledger.TaskStateBound), App: b},
		},
		Core:  accounting.NewAccount(),
		Takes: func(*v1.Pod) map[string]int64 { return two },
	}
	w.Core.Nodes.Add("n1", map[string]int64{"vcore": 4})
	w.Core.Nodes.Add("n2", two)
	w.Core.Nodes.Add("n3", nil)
	w.Core.Queues.Add("root.a", two)
	w.Core.Queues.Add("root.b", two)
	w.Core.Queues.Add("root.empty", nil)
	w.Core.Users.Add("ann", map[string]int64{"vcore": 4})
	return w
}

func TestAccountsThatAgree(t *testing.T) {
	if found := accounting.Compare(world()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// TestASpoiledAccountIsSeen: of each kind, in the ledger and in the core.
func TestASpoiledAccountIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*accounting.World)
		want  []string
	}{
		"a node of the core": {func(w *accounting.World) { w.Core.Nodes["n3"]["vcore"] = 1 },
			[]string{"node n3: pods take vcore 0, the core says 1"}},
		"a queue of the core": {func(w *accounting.World) { w.Core.Queues["root.a"] = map[string]int64{"vcore": 3} },
			[]string{"queue root.a: pods take vcore 2, the core says 3"}},
		"a queue that the core has forgotten": {func(w *accounting.World) { delete(w.Core.Queues, "root.b") },
			[]string{"queue root.b: pods take vcore 2, the core says 0"}},
		"a user of the core": {func(w *accounting.World) { w.Core.Users["ann"] = nil },
			[]string{"user ann: pods take vcore 4, the core says 0"}},
		"a pod on another node than the records say": {func(w *accounting.World) { w.Pods[0] = pod("one", "n3") }, []string{
			"node n1: pods take vcore 2, the ledger says 4", "node n3: pods take vcore 2, the ledger says 0",
			"node n1: pods take vcore 2, the core says 4", "node n3: pods take vcore 2, the core says 0",
		}},
		"a record of a pod that is gone": {func(w *accounting.World) { w.Pods = w.Pods[1:] }, []string{
			"node n1: pods take vcore 2, the ledger says 4", "queue root.a: pods take vcore 0, the ledger says 2", "user ann: pods take vcore 2, the ledger says 4",
			"node n1: pods take vcore 2, the core says 4", "queue root.a: pods take vcore 0, the core says 2", "user ann: pods take vcore 2, the core says 4",
		}},
	} {
		w := world()
		c.spoil(&w)
		var got []string
		for _, d := range accounting.Compare(w) {
			got = append(got, d.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// TestWhatChangesIsNoDrift: only what is missing, or too much, a second time and by the same amount.
func TestWhatChangesIsNoDrift(t *testing.T) {
	drift := func(name string, pods, says int64) accounting.Drift {
		return accounting.Drift{Kind: "node", Name: name, Resource: "vcore", In: "core", Pods: pods, Says: says}
	}
	first := []accounting.Drift{drift("stays", 2, 3), drift("moves", 2, 3), drift("goes", 2, 3)}
	second := []accounting.Drift{drift("stays", 12, 13), drift("moves", 2, 4), drift("comes", 2, 3)}
	if got := accounting.Again(first, second); len(got) != 1 || got[0].Name != "stays" {
		t.Errorf("got %v", got)
	}
}
