package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/resources"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// queues looks at the queues that pods name. Where a pod names none, placement rules decide, which
// are not played through here.
func (x *check) queues() {
	if !x.readable {
		return
	}
	known := make(map[string]settings.Queue)
	for _, q := range x.configured {
		known[q.Name] = q
	}
	used, unknown := make(map[string]map[string]int64), make(map[string]int)
	for _, p := range x.live() {
		queue := qualified(workload.Queue(p))
		if queue == "" {
			continue
		}
		if _, there := known[queue]; !there && !x.madeOnDemand() {
			unknown[queue]++
		}
		if p.Spec.NodeName == "" {
			continue
		}
		takes := engine.ResourcesOf(p)
		for at := queue; at != ""; at, _ = above(at) {
			if used[at] == nil {
				used[at] = make(map[string]int64)
			}
			for name, amount := range takes {
				used[at][name] = requests.Sum(used[at][name], amount)
			}
		}
	}
	for _, queue := range slices.Sorted(maps.Keys(unknown)) {
		x.add(Configure, QueueUnknown, "queue "+queue, "add it to queues.yaml",
			"is named by %s and does not exist, and no placement rule makes it: those that wait are rejected, those that run are in root.@recovery@", counted(unknown[queue], "pod"))
	}
	for _, queue := range slices.Sorted(maps.Keys(used)) {
		if over := beyond(used[queue], known[queue].Config); len(over) > 0 {
			x.add(Differs, QueueOver, "queue "+queue, "", "has more than its max: %s; no pod is stopped for that, and none more is placed", strings.Join(over, ", "))
		}
	}
}

// madeOnDemand reports whether placement rules may make queues.
func (x *check) madeOnDemand() bool {
	return slices.ContainsFunc(x.partition.PlacementRules, func(r configs.PlacementRule) bool { return r.Create })
}

// qualified is the full path of a queue, as the core reads it.
func qualified(queue string) string {
	queue = strings.ToLower(queue)
	if queue == "" || queue == configs.RootQueue || strings.HasPrefix(queue, configs.RootQueue+configs.DOT) {
		return queue
	}
	return configs.RootQueue + configs.DOT + queue
}

// above is the parent of a queue, empty for the root.
func above(queue string) (parent string, ok bool) {
	at := strings.LastIndex(queue, configs.DOT)
	if at < 0 {
		return "", false
	}
	return queue[:at], true
}

// beyond says of which resources more is used than a queue may have.
func beyond(used map[string]int64, q configs.QueueConfig) (over []string) {
	limits, err := resources.NewResourceFromConf(q.Resources.Max)
	if err != nil || !resources.StrictlyGreaterThanZero(limits) {
		return nil // zeros alone are no limit
	}
	for _, name := range slices.Sorted(maps.Keys(q.Resources.Max)) {
		if limit := int64(limits.Resources[name]); used[name] > limit {
			over = append(over, fmt.Sprintf("%s %d of %d", name, used[name], limit))
		}
	}
	return over
}
