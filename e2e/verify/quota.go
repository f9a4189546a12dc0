package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// QueueQuota replays the history in the order of its revisions and checks that at
// no moment the pods in a queue, or in one below it, request more than its quota. A
// pod of the scheduler counts from its assignment until it has terminated or is
// gone, a placeholder like any other.
//
// A queue is judged when its usage grows. What was there when the history began is
// not judged: a quota that is lowered evicts nobody.
func QueueQuota(queues Queues, pods []history.PodEvent, gaps []history.Gap) Check {
	c := newCheck("queue quota")
	c.gaps(gaps)
	r := quotas{check: c, queues: queues, used: map[string]amounts{}, peak: map[string]peak{}, pods: map[string]occupant{}}
	for _, ev := range sorted(pods, func(e history.PodEvent) (history.Kind, uint64) { return e.Kind, e.Revision }) {
		r.pod(ev)
	}
	switch {
	case len(queues.Max) == 0:
		c.failf("not proven: no queue has a quota")
	case r.assigned == 0:
		c.failf("not proven: no pod was assigned in a queue with a quota")
	}
	c.Detail = fmt.Sprintf("%d queues with a quota, %d assignments replayed; fullest: %s", len(queues.Max), r.assigned, r.fullest())
	return *c
}

type amounts = map[v1.ResourceName]int64

// occupant is a pod that counts, and where.
type occupant struct {
	pod   *history.Pod
	queue string
}

// peak is the highest share of a quota ever used, in percent.
type peak struct {
	percent  int64
	resource v1.ResourceName
}

type quotas struct {
	check    *Check
	queues   Queues
	used     map[string]amounts // by queue
	peak     map[string]peak
	pods     map[string]occupant // by UID
	assigned int
}

func (r *quotas) pod(ev history.PodEvent) {
	p := ev.Pod
	prev, counted := r.pods[p.UID]
	if counted {
		r.add(prev, -1)
		delete(r.pods, p.UID)
	}
	if ev.Kind == history.Gone || p.Node == "" || p.Terminal() || p.Scheduler != Scheduler || p.AppID == "" {
		return
	}
	now := occupant{pod: p, queue: prev.queue}
	if !counted {
		var err error
		if now.queue, err = r.queues.Of(p); err != nil {
			r.check.failf("not proven: pod %s/%s: %v", p.Namespace, p.Name, err)
			return
		}
	}
	r.pods[p.UID] = now
	r.add(now, 1)
	if ev.Kind != history.Base {
		r.judge(ev, prev.pod, now.queue)
	}
}

func (r *quotas) add(o occupant, sign int64) {
	for queue := range ancestry(o.queue) {
		used := r.used[queue]
		if used == nil {
			used = amounts{}
			r.used[queue] = used
		}
		for name, quantity := range o.pod.Requests {
			used[name] += sign * quantity
		}
	}
}

// judge compares what the event added with the quota of every queue concerned.
func (r *quotas) judge(ev history.PodEvent, prev *history.Pod, leaf string) {
	p, limited := ev.Pod, false
	for queue := range ancestry(leaf) {
		limit, ok := r.queues.Max[queue]
		limited = limited || ok
		for _, name := range slices.Sorted(maps.Keys(limit)) {
			quantity, used, most := p.Requests[name], r.used[queue][name], limit[name]
			grew := quantity > 0 && (prev == nil || quantity > prev.Requests[name])
			if grew && used > most {
				r.check.failf("revision %d: queue %s may use %d of %s and uses %d, with %s/%s",
					ev.Revision, queue, most, name, used, p.Namespace, p.Name)
			}
			if most > 0 && used*100/most > r.peak[queue].percent {
				r.peak[queue] = peak{used * 100 / most, name}
			}
		}
	}
	if limited && prev == nil {
		r.assigned++
	}
}

func (r *quotas) fullest() string {
	best := ""
	for _, queue := range slices.Sorted(maps.Keys(r.peak)) {
		if best == "" || r.peak[queue].percent > r.peak[best].percent {
			best = queue
		}
	}
	if best == "" {
		return "none"
	}
	return fmt.Sprintf("%s at %d%% of %s", best, r.peak[best].percent, r.peak[best].resource)
}

// ancestry yields a queue and all that it is below.
func ancestry(queue string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for queue != "" {
			if !yield(queue) {
				return
			}
			queue = queue[:max(0, strings.LastIndexByte(queue, '.'))]
		}
	}
}
