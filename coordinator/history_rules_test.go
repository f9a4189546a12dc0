package coordinator_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// gangComes has the pods of a gang come, sometimes one too few of them.
func gangComes(c *cluster, s step) {
	c.mu.Lock()
	c.gangs++
	app := fmt.Sprint("gang-", c.gangs)
	c.mu.Unlock()
	members, cpu, style := s.B%4+1, cpus[s.C%3], "Soft"
	if s.C >= 6 {
		style = "Hard"
	}
	groups, err := json.Marshal([]v1alpha1.TaskGroup{{
		Name: "g", MinMember: int32(members),
		MinResource: map[string]resource.Quantity{"cpu": resource.MustParse(cpu), "memory": resource.MustParse("64Mi")},
	}})
	if err != nil {
		panic(err)
	}
	pods := members
	if s.A >= 9 {
		pods = max(1, members-1)
	}
	for range pods {
		pod := c.newPod(app, queueFor(s.A), cpu)
		maps.Copy(pod.Annotations, map[string]string{
			noteGroup: "g", noteGroups: string(groups),
			notePolicy: fmt.Sprintf("placeholderTimeoutInSeconds=%d gangSchedulingStyle=%s", s.B%3+2, style),
		})
		c.api.put("pods", pod)
	}
}

// queueChanges gives a queue another maximum.
func queueChanges(c *cluster, s step) {
	all := slices.Sorted(maps.Keys(c.queues))
	c.setQueue(all[s.A%len(all)], func(q *quota) { q.max = []int64{2000, 4000, 6000, -1}[s.B%4] })
}

// queueIsOwed gives a queue something that it has coming.
func queueIsOwed(c *cluster, s step) {
	c.setQueue([]string{"root.a", "root.b", "root.c"}[s.A%3], func(q *quota) { q.guaranteed = []int64{0, 2000, 3000}[s.B%3] })
}

// limitChanges gives each user of a queue another limit.
func limitChanges(c *cluster, s step) {
	c.setQueue([]string{"root.a", "root.b"}[s.A%2], func(q *quota) { q.user = []int64{0, 2000, 4000}[s.B%3] })
}

// setQueue changes one queue. None ever has more coming than it may have, nor may have more than
// the one above it.
func (c *cluster) setQueue(path string, change func(*quota)) {
	queues := maps.Clone(c.queues)
	q := queues[path]
	change(&q)
	if q.max >= 0 {
		q.guaranteed, q.user = min(q.guaranteed, q.max), min(q.user, q.max)
	}
	queues[path] = q
	for below, q := range queues {
		if above, ok := queues[below[:strings.LastIndexByte(below, '.')]]; ok && above.max >= 0 && q.max > above.max {
			q.max = above.max
			queues[below] = q
		}
	}
	c.configure(queues)
}

// podIsResized gives a running pod more or less CPU in place, as far as its node has room.
func podIsResized(c *cluster, s step) {
	running := c.some(func(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning && ours(p) && !held(p) })
	if len(running) == 0 {
		return
	}
	pod, now := running[s.A%len(running)], resource.MustParse(cpus[s.B%len(cpus)])
	if c.room(pod.Spec.NodeName)+cpuOf(pod) >= now.MilliValue() {
		edit(c.api, "pods", pod.Namespace, pod.Name, func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = now })
	}
}
