package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/resources"
	"k8s.io/apimachinery/pkg/api/resource"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// overQueue is a queue that a change would put over its limits, or do away with.
type overQueue struct {
	Queue string `json:"queue"`
	// Why says what would be.
	Why          string    `json:"why"`
	Applications []overApp `json:"applications,omitempty"`
}

// overApp is an application in such a queue.
type overApp struct {
	ID   string          `json:"id"`
	User string          `json:"user,omitempty"`
	Used apiv1.Resources `json:"used,omitempty"`
	// Preemptable are the pods that quota preemption could take, as namespace/name. A
	// PriorityClass may protect some of them.
	Preemptable []string `json:"preemptable,omitempty"`
}

// impactOf asks a replica what runs, and says which queues would be over their new limits.
func impactOf(ctx context.Context, targets []answer, after map[string]string) ([]overQueue, error) {
	partition, configured, err := settings.Partition(after)
	if err != nil {
		return nil, err
	}
	queues, err := listing[apiv1.Queue]{list: "queues"}.items(ctx, targets, nil)
	if err != nil {
		return nil, err
	}
	apps, err := listing[apiv1.Application]{list: "applications"}.items(ctx, targets, map[string]string{"state": liveApps})
	if err != nil {
		return nil, err
	}
	tasks, err := listing[apiv1.Task]{list: "tasks"}.items(ctx, targets, map[string]string{"state": string(ledger.TaskStateBound)})
	if err != nil {
		return nil, err
	}
	on := partition.Preemption.QuotaPreemptionEnabled
	return impact(configured, on != nil && *on, queues, apps, tasks), nil
}

// impact compares what queues have with what they may have.
func impact(configured []settings.Queue, preempts bool, queues []apiv1.Queue, apps []apiv1.Application, tasks []apiv1.Task) []overQueue {
	byName := make(map[string]settings.Queue)
	for _, q := range configured {
		byName[q.Name] = q
	}
	var list []overQueue
	for _, q := range queues {
		next, there := byName[q.Name]
		var why []string
		switch {
		case !there && q.Managed:
			why = append(why, "goes: its applications end there, and nobody comes in")
		case there:
			why = beyond(q, next.Config)
		}
		if len(why) == 0 {
			continue
		}
		one := overQueue{Queue: q.Name, Why: strings.Join(why, "; ")}
		for _, a := range apps {
			if a.Queue != q.Name && !strings.HasPrefix(a.Queue, q.Name+configs.DOT) {
				continue
			}
			x := overApp{ID: a.ID, User: a.User, Used: a.Used}
			if there && preempts && preemptable(byName, q.Name, a.Queue) {
				x.Preemptable = podsOf(tasks, a.ID)
			}
			one.Applications = append(one.Applications, x)
		}
		if there || len(one.Applications) > 0 {
			list = append(list, one)
		}
	}
	return list
}

func podsOf(tasks []apiv1.Task, app string) []string {
	var pods []string
	for _, t := range tasks {
		if t.Application == app {
			pods = append(pods, t.Namespace+"/"+t.Name)
		}
	}
	return pods
}

// beyond says in what a queue would be over its limits.
func beyond(q apiv1.Queue, next configs.QueueConfig) []string {
	var why []string
	limits, err := resources.NewResourceFromConf(next.Resources.Max)
	names := slices.Sorted(maps.Keys(next.Resources.Max))
	if err != nil || !resources.StrictlyGreaterThanZero(limits) {
		names = nil // zeros alone are no limit
	}
	for _, name := range names {
		named := name
		if name == "vcore" {
			named = "cpu"
		}
		used, err := resource.ParseQuantity(q.Used[named])
		if err != nil {
			continue // none is used
		}
		amount := used.Value()
		if named == "cpu" {
			amount = used.MilliValue()
		}
		if amount > int64(limits.Resources[name]) {
			why = append(why, fmt.Sprintf("over its max: %s %s of %s", named, q.Used[named], next.Resources.Max[name]))
		}
	}
	if next.MaxApplications > 0 && q.Running > next.MaxApplications {
		why = append(why, fmt.Sprintf("over maxapplications: %d of %d run", q.Running, next.MaxApplications))
	}
	return why
}

// preemptable reports whether quota preemption in one queue may take pods of a queue below it.
func preemptable(byName map[string]settings.Queue, over, of string) bool {
	delay := inherited(byName, over, configs.QuotaPreemptionDelay)
	return delay != "" && strings.Trim(delay, "0smh") != "" && !strings.EqualFold(inherited(byName, of, configs.PreemptionPolicy), "disabled")
}

// inherited is a property of a queue, or else of the next above that has it.
func inherited(byName map[string]settings.Queue, queue, property string) string {
	for {
		if value, ok := byName[queue].Config.Properties[property]; ok {
			return value
		}
		parent := strings.LastIndex(queue, configs.DOT)
		if parent < 0 {
			return ""
		}
		queue = queue[:parent]
	}
}
