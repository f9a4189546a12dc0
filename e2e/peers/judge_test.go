package peers

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// TestWhatIsNoScheduling: who fills nodes beyond what they have, binds twice or not at all has not been measured.
func TestWhatIsNoScheduling(t *testing.T) {
	for _, c := range []struct {
		name  string
		pods  []string // the node that each event has for its pod, "NAME NODE"
		gaps  []history.Gap
		wrong string
	}{
		{name: "all is well", pods: []string{"a n", "b n", "c m"}},
		{name: "a node is overfull", pods: []string{"a n", "b n", "c n"}, wrong: "node capacity: 2 violations, the first: "},
		{name: "one is bound twice", pods: []string{"a n", "a m", "b n", "c m"}, wrong: "bound once: "},
		{name: "one is not bound", pods: []string{"a n", "b n"}, wrong: "bound once: "},
		{name: "nobody has seen all", pods: []string{"a n", "b n", "c m"}, gaps: []history.Gap{{What: "pods", After: 1, Until: 2}}, wrong: "node capacity: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			revision := uint64(0)
			var nodes []history.NodeEvent
			for _, name := range []string{"n", "m"} {
				revision++
				nodes = append(nodes, history.NodeEvent{Revision: revision, Kind: history.Added, Name: name, Allocatable: map[v1.ResourceName]int64{v1.ResourceCPU: 2000, v1.ResourcePods: 2}})
			}
			var created []verify.Expected
			var pods []history.PodEvent
			add := func(kind history.Kind, name, node string) {
				revision++
				pods = append(pods, history.PodEvent{Revision: revision, Kind: kind, Pod: &history.Pod{
					UID: name, Namespace: "ns", Name: name, Scheduler: verify.Scheduler, AppID: "app", Node: node, Phase: v1.PodPending,
					Requests: map[v1.ResourceName]int64{v1.ResourceCPU: 1000, v1.ResourcePods: 1},
				}})
			}
			for _, name := range []string{"a", "b", "c"} {
				created = append(created, verify.Expected{Namespace: "ns", Name: name, UID: name})
				add(history.Added, name, "")
			}
			for _, said := range c.pods {
				name, node, _ := strings.Cut(said, " ")
				add(history.Changed, name, node)
			}
			err := judged(created, nodes, pods, c.gaps)
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v, want %q", err, c.wrong)
			}
		})
	}
}
