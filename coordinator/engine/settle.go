package engine

import (
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects"
	"github.com/apache/yunikorn-core/pkg/scheduler/objects/template"
	"github.com/apache/yunikorn-core/pkg/scheduler/policies"
)

// A core that is given another configuration keeps some of the old one (YUNIKORN-3245 and
// others of its kind): what a property was that is not set any more, the number of
// applications of the root queue, the priorities that queues had, and limits of users. It
// loses the templates that queues have from those above them, and limits of others (see
// limits.go). Then a lead and a replica that started later would schedule by different
// rules. So the engine settles the core's queues whenever they have been configured: they
// are afterwards as in a core that starts.

// settle does so. It returns an error if the core's queues refuse what they have taken
// before. e.configuring is held, or nobody else knows the engine.
func (e *Engine) settle(conf *configs.SchedulerConfig) error {
	p := e.corePartition()
	if p == nil {
		return nil
	}
	root := queues{conf: conf}.root()
	q := p.GetQueue(configs.RootQueue)
	q.SetMaxRunningApps(root.MaxApplications)
	if err := settle(q, root, configs.ChildTemplate{}); err != nil {
		return err
	}
	return e.settleLimits(root)
}

// settle puts a configured queue and those below it right; above is the template of the
// queue above.
func settle(q *objects.Queue, conf configs.QueueConfig, above configs.ChildTemplate) error {
	if q == nil {
		return nil // drained, and taken out meanwhile
	}
	if own, err := template.FromConf(&conf.ChildTemplate); err == nil && own == nil {
		conf.ChildTemplate = above
	}
	// A queue follows only properties that it is told, so it is told all of them once.
	told := conf.Properties
	conf.Properties = allProperties(q.GetProperties())
	before, err := q.ApplyConf(conf)
	if err != nil {
		return err
	}
	q.UpdateQueueProperties(before)
	if delay, err := time.ParseDuration(conf.Properties[configs.QuotaPreemptionDelay]); err != nil || delay <= 0 {
		q.ResetPreemptionTime() // one that was due with the delay of before
	}
	conf.Properties = told
	if _, err := q.ApplyConf(conf); err != nil {
		return err
	}
	if q.Name != configs.RootQueue {
		q.MergeParentProperties()
	}
	for _, below := range conf.Queues {
		child := q.GetChildQueue(strings.ToLower(below.Name))
		if err := settle(child, below, conf.ChildTemplate); err != nil {
			return err
		}
		if child != nil {
			tellPriority(q, child)
		}
	}
	return nil
}

// tellPriority has a queue know the priority of one below it, which may change meanwhile.
func tellPriority(q, child *objects.Queue) {
	for {
		now := child.GetCurrentPriority()
		q.UpdateQueuePriority(child.Name, now)
		if child.GetCurrentPriority() == now {
			return
		}
	}
}

// allProperties adds to the properties of a queue those that it does not have, with their
// defaults.
func allProperties(of map[string]string) map[string]string {
	all := map[string]string{
		configs.ApplicationSortPolicy:                    policies.FifoSortPolicy.String(),
		configs.ApplicationSortPriority:                  configs.ApplicationSortPriorityEnabled,
		configs.PriorityPolicy:                           policies.DefaultPriorityPolicy.String(),
		configs.PriorityOffset:                           "0",
		configs.PreemptionPolicy:                         policies.DefaultPreemptionPolicy.String(),
		configs.PreemptionDelay:                          configs.DefaultPreemptionDelay.String(),
		configs.QuotaPreemptionDelay:                     configs.DefaultQuotaPreemptionDelay.String(),
		configs.ApplicationUnschedulableAsksBackoff:      "0",
		configs.ApplicationUnschedulableAsksBackoffDelay: configs.DefaultAskBackOffDelay.String(),
	}
	for key, value := range of {
		all[key] = value
	}
	return all
}
