package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/scheduler/placement"
	"go.yaml.in/yaml/v3"
)

// checker has the core check queues, and finds the places of what it refuses. The rules stay
// the core's own: what is refused is tried again with less of it, until it is clear which part
// is to blame. That part is left out, and the rest is checked again.
type checker struct {
	*list
	document *yaml.Node
	// budget is how many queues may still be given to the core.
	budget int
	// partition is the index of the one that is checked.
	partition int
	// partial says that some of the text could not be read, which has been said.
	partial bool
}

const (
	// maxChecked bounds the time that is spent to find places.
	maxChecked = 200_000
	// maxMistakes is how many are named in one partition.
	maxMistakes = 32
)

// line of what is at a path in the partition.
func (c *checker) line(path ...any) int {
	return at(c.document, append([]any{"partitions", c.partition}, path...)...).Line
}

func (c *checker) partitions(conf *configs.SchedulerConfig) {
	names := make(map[string]bool)
	scheduled := false
	for i, p := range conf.Partitions {
		c.partition = i
		name := strings.ToLower(p.Name)
		if isDefault(name) {
			name, scheduled = configs.DefaultPartition, true
		} else {
			c.warnf(c.line("name"), "partition %s: only the partition %s is scheduled", p.Name, configs.DefaultPartition)
		}
		if names[name] {
			c.errorf(c.line("name"), "partition %s is there twice", name)
			continue
		}
		names[name] = true
		c.amounts(&p)
		c.mistakes(p)
		c.oddities(p)
	}
	if !scheduled && len(c.all) == 0 {
		c.warnf(0, "there is no partition %s: nothing would be scheduled", configs.DefaultPartition)
	}
}

// walk visits each queue with its full name and the path of its place.
func walk(p *configs.PartitionConfig, visit func(name string, q *configs.QueueConfig, path []any)) {
	var down func(parent string, queues []configs.QueueConfig, path []any)
	down = func(parent string, queues []configs.QueueConfig, path []any) {
		for i := range queues {
			q := &queues[i]
			name := strings.ToLower(q.Name)
			if parent != "" {
				name = parent + configs.DOT + name
			}
			here := append(slices.Clip(path), "queues", i)
			visit(name, q, here)
			down(name, q.Queues, here)
		}
	}
	top := configs.RootQueue
	if hasRoot(p.Queues) {
		top = ""
	}
	down(top, p.Queues, nil)
}

// hasRoot reports whether the only queue at the top is the root. Else the core puts one above.
func hasRoot(top []configs.QueueConfig) bool {
	return len(top) == 1 && strings.EqualFold(top[0].Name, configs.RootQueue)
}

// amounts names each amount that cannot be read, and takes it out. The core looks at those of
// templates only when it makes a queue.
func (c *checker) amounts(p *configs.PartitionConfig) {
	each := func(what string, amounts map[string]string, path ...any) {
		for _, resource := range sortedKeys(amounts) {
			if _, err := resources.NewResourceFromConf(map[string]string{resource: amounts[resource]}); err != nil {
				c.errorf(c.line(append(path, resource)...), "%s: %s is %q: %v", what, resource, amounts[resource], err)
				delete(amounts, resource)
			}
		}
	}
	limits := func(what string, all []configs.Limit, path ...any) {
		for i := range all {
			each(what+": limit", all[i].MaxResources, append(slices.Clip(path), "limits", i, "maxresources")...)
		}
	}
	limits("partition "+p.Name, p.Limits)
	walk(p, func(name string, q *configs.QueueConfig, path []any) {
		name = "queue " + name
		path = slices.Clip(path)
		each(name+": guaranteed", q.Resources.Guaranteed, append(path, "resources", "guaranteed")...)
		each(name+": max", q.Resources.Max, append(path, "resources", "max")...)
		each(name+": childtemplate guaranteed", q.ChildTemplate.Resources.Guaranteed, append(path, "childtemplate", "resources", "guaranteed")...)
		each(name+": childtemplate max", q.ChildTemplate.Resources.Max, append(path, "childtemplate", "resources", "max")...)
		limits(name, q.Limits, path...)
	})
}

// mistakes names what the core refuses, and leaves it out until it refuses nothing more.
func (c *checker) mistakes(p configs.PartitionConfig) {
	for range maxMistakes {
		err := c.refusal(p)
		if err == nil {
			return
		}
		place, without := c.locate(p, err)
		if c.budget < 0 {
			place = nil // what has not been tried is not to blame
		}
		switch {
		case place != nil:
			c.errorf(c.line(place.path...), "%s: %s", place.name, err)
		case !c.partial:
			c.errorf(c.line(), "%s", err)
		}
		if place == nil {
			return
		}
		p = without
	}
}

// refusal is why the core would not take the partition.
func (c *checker) refusal(p configs.PartitionConfig) error {
	c.budget -= 1 + count(p.Queues)
	p.Name = configs.DefaultPartition
	p.Queues = slices.Clone(p.Queues) // the core writes to the first
	if err := configs.Validate(&configs.SchedulerConfig{Partitions: []configs.PartitionConfig{p}}); err != nil {
		return err
	}
	// The core makes the rules only when the configuration takes effect.
	return placement.NewPlacementManager(nil, nil, true).UpdateRules(p.PlacementRules)
}

func count(queues []configs.QueueConfig) int {
	n := len(queues)
	for i := range queues {
		n += count(queues[i].Queues)
	}
	return n
}

// found is the place of a mistake.
type found struct {
	name string
	path []any
}

// locate finds the part without which the core does not say the same, and returns the partition
// without it; nil if there is none, or if looking for it takes too long.
func (c *checker) locate(p configs.PartitionConfig, err error) (*found, configs.PartitionConfig) {
	same := func(p configs.PartitionConfig) bool {
		if c.budget < 0 {
			return true
		}
		again := c.refusal(p)
		return again != nil && again.Error() == err.Error()
	}
	less := p
	if less.PlacementRules = nil; !same(less) {
		return locateRule(p, same)
	}
	less = p
	less.NodeSortPolicy = configs.NodeSortingPolicy{}
	if !same(less) {
		return &found{"nodesortpolicy", []any{"nodesortpolicy"}}, less
	}
	less = p
	if i := limitToBlame(p.Limits, func(some []configs.Limit) bool {
		less.Limits = some
		return same(less)
	}); i >= 0 {
		less.Limits = nil
		return &found{"limits of the partition", []any{"limits", i}}, less
	}
	// What is wrong with queues is so without these.
	bare := func(queues []configs.QueueConfig) configs.PartitionConfig {
		less := p
		less.PlacementRules, less.NodeSortPolicy, less.Queues = nil, configs.NodeSortingPolicy{}, queues
		return less
	}
	place, queues := locateQueue(p.Queues, bare, same)
	if place == nil {
		place, queues = locateName(p.Queues, bare, same)
	}
	if place != nil && !hasRoot(p.Queues) {
		place.name = "queue " + configs.RootQueue + configs.DOT + strings.TrimPrefix(place.name, "queue ")
	}
	less = p
	less.Queues = queues
	return place, less
}

// locateRule finds the rule that is to blame without the others, whose numbers stay.
func locateRule(p configs.PartitionConfig, same func(configs.PartitionConfig) bool) (*found, configs.PartitionConfig) {
	harmless := configs.PlacementRule{Name: "provided"}
	for i, rule := range p.PlacementRules {
		less := p
		less.PlacementRules = slices.Repeat([]configs.PlacementRule{harmless}, len(p.PlacementRules))
		less.PlacementRules[i] = rule
		if same(less) {
			less.PlacementRules = slices.Clone(p.PlacementRules)
			less.PlacementRules[i] = harmless
			return &found{"placement rule", []any{"placementrules", i}}, less
		}
	}
	return nil, p
}

// limitToBlame is the index of one that is to blame by itself, or else of the last without which
// the core does not say the same; -1 if there is none.
func limitToBlame(limits []configs.Limit, same func([]configs.Limit) bool) int {
	if len(limits) == 0 || same(nil) {
		return -1
	}
	for i := range limits {
		if same(limits[i : i+1]) {
			return i
		}
	}
	for i := len(limits) - 1; i >= 0; i-- {
		if !same(slices.Delete(slices.Clone(limits), i, i+1)) {
			return i
		}
	}
	return -1
}

// locateQueue finds a queue that is to blame without those beside it, and the part of it.
// within puts a list into the partition with nothing of the queues beside those above.
func locateQueue(queues []configs.QueueConfig, within func([]configs.QueueConfig) configs.PartitionConfig, same func(configs.PartitionConfig) bool) (*found, []configs.QueueConfig) {
	for i, q := range queues {
		alone := func(q configs.QueueConfig) configs.PartitionConfig { return within([]configs.QueueConfig{q}) }
		if !same(alone(q)) {
			continue
		}
		instead := func(q configs.QueueConfig) []configs.QueueConfig {
			less := slices.Clone(queues)
			less[i] = q
			return less
		}
		inside := func(list []configs.QueueConfig) configs.PartitionConfig {
			q := q
			q.Queues = list
			return alone(q)
		}
		children := len(q.Queues) > 0 && !same(inside(nil))
		if children {
			if place, list := locateQueue(q.Queues, inside, same); place != nil {
				q.Queues = list
				return place.below(q.Name, i), instead(q)
			}
		}
		if field, less := blame(q, i, children, func(q configs.QueueConfig) bool { return same(alone(q)) }); field != nil {
			return (&found{"", field}).below(q.Name, i), instead(less)
		}
		if children {
			if place, list := locateName(q.Queues, inside, same); place != nil {
				q.Queues = list
				return place.below(q.Name, i), instead(q)
			}
		}
		// Others keep their index, and rules find the name.
		return (&found{}).below(q.Name, i), instead(configs.QueueConfig{Name: q.Name, Parent: q.Parent || len(q.Queues) > 0, MaxApplications: 1})
	}
	return nil, queues
}

// locateName finds the last queue whose name is to blame beside the others.
func locateName(queues []configs.QueueConfig, within func([]configs.QueueConfig) configs.PartitionConfig, same func(configs.PartitionConfig) bool) (*found, []configs.QueueConfig) {
	for i := len(queues) - 1; i >= 0; i-- {
		less := slices.Clone(queues)
		less[i].Name = renamed(i)
		if !same(within(less)) {
			return (&found{"", []any{"name"}}).below(queues[i].Name, i), less
		}
	}
	return nil, queues
}

// renamed is a name that no sibling is given.
func renamed(index int) string { return fmt.Sprintf("renamed:%d", index) }

// below puts the place into a queue.
func (f *found) below(queue string, index int) *found {
	name := strings.ToLower(queue)
	if f.name != "" {
		name += configs.DOT + strings.TrimPrefix(f.name, "queue ")
	}
	return &found{"queue " + name, append([]any{"queues", index}, f.path...)}
}

// blame finds the field of a queue without which the core does not say the same. The name is none
// of them if it takes the children as well. index is that of the queue among its siblings.
func blame(q configs.QueueConfig, index int, children bool, same func(configs.QueueConfig) bool) (path []any, without configs.QueueConfig) {
	try := func(change func(*configs.QueueConfig), field ...any) bool {
		less := q
		change(&less)
		if same(less) {
			return false
		}
		path, without = field, less
		return true
	}
	if i := limitToBlame(q.Limits, func(some []configs.Limit) bool {
		less := q
		less.Limits = some
		return same(less)
	}); i >= 0 {
		without := q
		without.Limits = nil // the others keep no index without this one
		return []any{"limits", i}, without
	}
	switch {
	case try(func(q *configs.QueueConfig) { q.AdminACL = "" }, "adminacl"),
		try(func(q *configs.QueueConfig) { q.SubmitACL = "" }, "submitacl"),
		try(func(q *configs.QueueConfig) { q.Resources.Max = nil }, "resources", "max"),
		try(func(q *configs.QueueConfig) { q.Resources.Guaranteed = nil }, "resources", "guaranteed"),
		try(func(q *configs.QueueConfig) { q.MaxApplications = 0 }, "maxapplications"),
		!children && try(func(q *configs.QueueConfig) { q.Name = renamed(index) }, "name"):
		return path, without
	}
	return nil, q
}
