package predicates

import (
	"fmt"
	"maps"
	"math"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// GangProblem says why the nodes, as they are, could not hold all members of a gang
// even if nothing else ran on them; empty if they could, as far as can be told from
// resources, node selectors and required node affinity.
func (c *Cache) GangProblem(groups []v1alpha1.TaskGroup) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	nodes := make([]*v1.Node, 0, len(c.nodes))
	for _, n := range c.nodes {
		if n.known() {
			nodes = append(nodes, n.info.Node())
		}
	}
	total := make(map[v1.ResourceName]int64)
	for i := range groups {
		group := &groups[i]
		needs := memberNeeds(group)
		switch room := roomFor(group, needs, nodes); {
		case room == 0:
			return fmt.Sprintf("a member of task group %s fits on none of %d nodes, however empty", group.Name, len(nodes))
		case room < int64(group.MinMember):
			return fmt.Sprintf("task group %s has %d members and the nodes that it may use, empty, have room for %d", group.Name, group.MinMember, room)
		}
		for name, amount := range needs {
			total[name] = requests.Sum(total[name], requests.Times(amount, int64(group.MinMember)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(total)) {
		var has int64
		for _, node := range nodes {
			has = requests.Sum(has, offered(node, name))
		}
		if total[name] > has {
			return fmt.Sprintf("all members together ask for %d of %s and all nodes together have %d", total[name], unitOf(name), has)
		}
	}
	return ""
}

// memberNeeds returns what one member of a group counts with.
func memberNeeds(group *v1alpha1.TaskGroup) map[v1.ResourceName]int64 {
	needs := map[v1.ResourceName]int64{v1.ResourcePods: 1}
	for key, quantity := range group.MinResource {
		name := v1.ResourceName(key)
		needs[name] = requests.Asked(name, quantity)
	}
	return needs
}

// roomFor returns how many members of a group the nodes that it may use would hold.
func roomFor(group *v1alpha1.TaskGroup, needs map[v1.ResourceName]int64, nodes []*v1.Node) (room int64) {
	selects := nodeaffinity.GetRequiredNodeAffinity(&v1.Pod{
		Spec: v1.PodSpec{NodeSelector: group.NodeSelector, Affinity: group.Affinity},
	})
	for _, node := range nodes {
		if matches, err := selects.Match(node); err == nil && !matches {
			continue
		}
		on := int64(math.MaxInt64)
		for name, amount := range needs {
			if amount > 0 {
				on = min(on, offered(node, name)/amount)
			}
		}
		room = requests.Sum(room, on)
	}
	return room
}

func offered(node *v1.Node, name v1.ResourceName) int64 {
	return requests.Offered(name, node.Status.Allocatable[name])
}

func unitOf(name v1.ResourceName) string {
	if name == v1.ResourceCPU {
		return "cpu, in thousandths"
	}
	return string(name)
}
