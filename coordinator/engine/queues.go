package engine

import (
	"fmt"
	"slices"
	"strings"

	corecommon "github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/scheduler/placement/types"
	"go.yaml.in/yaml/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// queues is a queue configuration that has been checked, and the queues that were
// configured before it and are not any more. The core lets the applications of
// such a queue go on under its limits until they have ended, and takes no others.
// Nobody changes one.
type queues struct {
	conf *configs.SchedulerConfig
	// given is what the core is told of it.
	given string
	// former are the definitions of queues that are gone, below the name root; of
	// the queues that lie above them and are not gone, the names alone count.
	former configs.QueueConfig
	// since is when the last of them were taken away.
	since ledger.Time
}

// parseQueues reads a queue configuration that came into force at a time. Before are
// the queues that were known by then.
func parseQueues(text string, before configs.QueueConfig, since ledger.Time) (queues, error) {
	conf, err := configs.LoadSchedulerConfigFromByteArray([]byte(text))
	if err != nil {
		return queues{}, err
	}
	q := queues{conf: conf, given: text, since: since}
	q.former = minus(before, q.root())
	if len(conf.Partitions) > 1 {
		// The core hangs when a partition is taken away (ClusterContext.updateSchedulerConfig),
		// and has one table of limits for all. Nothing is scheduled in others.
		conf.Partitions = slices.DeleteFunc(conf.Partitions, func(p configs.PartitionConfig) bool { return p.Name != configs.DefaultPartition })
		q.given, err = q.text(q.root())
	}
	return q, err
}

// root is the configured root queue.
func (q queues) root() configs.QueueConfig {
	for _, p := range q.conf.Partitions {
		if p.Name == configs.DefaultPartition {
			return p.Queues[0]
		}
	}
	return configs.QueueConfig{Name: configs.RootQueue, Parent: true}
}

// known is the root of all queues that are, or were, configured. Of those that cannot
// be there together, the one in force counts.
func (q queues) known() configs.QueueConfig { return union(q.root(), q.former, false) }

// remembered is the root of all that known leaves out as well: it may come back.
func (q queues) remembered() configs.QueueConfig { return union(q.root(), q.former, true) }

func isLeaf(q configs.QueueConfig) bool { return !q.Parent && len(q.Queues) == 0 }

func child(of configs.QueueConfig, name string) (configs.QueueConfig, bool) {
	for _, q := range of.Queues {
		if strings.EqualFold(q.Name, name) {
			return q, true
		}
	}
	return configs.QueueConfig{}, false
}

// union adds to a queue what is known of the queues below it from before, even if it
// is a leaf now.
func union(now, before configs.QueueConfig, evenLeaf bool) configs.QueueConfig {
	if isLeaf(now) && !evenLeaf {
		return now
	}
	all := slices.Clone(now.Queues)
	for i, q := range all {
		if old, ok := child(before, q.Name); ok {
			all[i] = union(q, old, evenLeaf)
		}
	}
	for _, old := range before.Queues {
		if _, ok := child(now, old.Name); !ok {
			all = append(all, old)
		}
	}
	now.Queues = all
	return now
}

// minus is what of the queues below before is not below now, with the names of those
// above it.
func minus(before, now configs.QueueConfig) configs.QueueConfig {
	out := configs.QueueConfig{Name: before.Name, Parent: true}
	for _, old := range before.Queues {
		q, ok := child(now, old.Name)
		if !ok {
			out.Queues = append(out.Queues, old)
		} else if below := minus(old, q); len(below.Queues) > 0 {
			out.Queues = append(out.Queues, below)
		}
	}
	return out
}

// keep is what of the queues below q has use for, with those above.
func keep(q configs.QueueConfig, path string, use func(path string) bool) configs.QueueConfig {
	var kept []configs.QueueConfig
	for _, below := range q.Queues {
		at := path + configs.DOT + strings.ToLower(below.Name)
		below = keep(below, at, use)
		if len(below.Queues) > 0 || use(at) {
			kept = append(kept, below)
		}
	}
	q.Queues = kept
	return q
}

// fits reports whether an application can be in a queue: none of those above it is
// known to be a leaf, and it is not known to be anything else.
func (q queues) fits(path string) bool {
	names := strings.Split(path, configs.DOT)
	at := q.known()
	if len(names) < 2 || names[0] != configs.RootQueue {
		return false
	}
	for i, name := range names[1:] {
		if isLeaf(at) {
			return false
		}
		next, ok := child(at, name)
		if !ok {
			for _, name := range names[i+1:] {
				if configs.IsQueueNameValid(name) != nil {
					return false
				}
			}
			return true // to be created, as it was
		}
		at = next
	}
	return isLeaf(at)
}

// text is the configuration with another root queue, and with other placement rules
// if there are any.
func (q queues) text(root configs.QueueConfig, rules ...configs.PlacementRule) (string, error) {
	conf := *q.conf
	conf.Checksum, conf.Partitions = "", append([]configs.PartitionConfig(nil), conf.Partitions...)
	for i := range conf.Partitions {
		p := &conf.Partitions[i]
		if p.Name == configs.DefaultPartition {
			p.Queues, p.Limits = []configs.QueueConfig{root}, nil // which are the root queue's
			if len(rules) > 0 {
				p.PlacementRules = rules
			}
		}
	}
	out, err := yaml.Marshal(conf)
	if err == nil {
		_, err = configs.LoadSchedulerConfigFromByteArray(out)
	}
	if err != nil {
		return "", fmt.Errorf("queue configuration: %w", err)
	}
	return string(out), nil
}

// housing is a configuration in which an application goes where it asks to, if it
// fits, and no limit, sort policy or access list keeps it out.
func (q queues) housing() (string, error) {
	root := bare(q.known())
	root.SubmitACL = "*"
	return q.text(root, configs.PlacementRule{Name: types.Provided, Create: true})
}

// bare is a queue and those below it, with nothing but their names; the sort policy of
// such a queue suits gangs.
func bare(q configs.QueueConfig) configs.QueueConfig {
	out := configs.QueueConfig{Name: q.Name, Parent: q.Parent}
	for _, below := range q.Queues {
		out.Queues = append(out.Queues, bare(below))
	}
	return out
}

// home is the queue where an application belongs that is, or was, in a queue: that
// one, or if it cannot be there any more the one of the core for such applications.
func (q queues) home(queue string) string {
	if q.fits(queue) {
		return queue
	}
	return corecommon.RecoveryQueueFull
}

// configured reports whether a leaf queue is in force.
func (q queues) configured(path string) bool { return hasLeaf(q.root(), path) }

// drains reports whether an application at home is in a queue that is configured no
// more, rather than in one of that name that was created for it later.
func (q queues) drains(app *ledger.App, home string) bool {
	return app.Added() <= q.since && hasLeaf(q.former, home)
}

func hasLeaf(root configs.QueueConfig, path string) bool {
	at := root
	for _, name := range strings.Split(path, configs.DOT)[1:] {
		var ok bool
		if at, ok = child(at, name); !ok {
			return false
		}
	}
	return isLeaf(at)
}
