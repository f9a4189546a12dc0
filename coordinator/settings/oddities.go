package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/yunikorn-core/pkg/common"
	"github.com/apache/yunikorn-core/pkg/common/configs"
	"github.com/apache/yunikorn-core/pkg/common/resources"
	"github.com/apache/yunikorn-core/pkg/common/security"
)

// property is one of a queue.
type property struct {
	name string
	// standard is the default.
	standard string
	// values are those that there are; empty if check says.
	values []string
	// exact says that letters of another case are not understood.
	exact   bool
	check   func(string) error
	kind    string // what check takes
	meaning string
}

// properties are those that the core reads. It ignores others, and what it cannot read, without
// a word.
var properties = []property{
	{name: configs.ApplicationSortPolicy, standard: "fifo", values: []string{"fifo", "fair"}, exact: true,
		meaning: "The order of applications in a queue."},
	{name: configs.ApplicationSortPriority, standard: "enabled", values: []string{configs.ApplicationSortPriorityEnabled, configs.ApplicationSortPriorityDisabled},
		meaning: "Whether priority comes before that order."},
	{name: configs.PriorityPolicy, standard: "default", values: []string{"default", "fence"},
		meaning: "With fence, priorities count only within the queue."},
	{name: configs.PriorityOffset, standard: "0", check: checkOffset, kind: "whole number",
		meaning: "What is added to the priority of all that is in the queue."},
	{name: configs.PreemptionPolicy, standard: "default", values: []string{"default", "fence", "disabled"},
		meaning: "With fence, pods of the queue stop none outside it; with disabled, none is stopped."},
	{name: configs.PreemptionDelay, standard: "30s", check: checkDelay, kind: "duration",
		meaning: "How long a pod waits before others are stopped for it."},
	{name: configs.QuotaPreemptionDelay, standard: "0s", check: checkDelay, kind: "duration",
		meaning: "How long after its max has become smaller pods are stopped; 0s means never. It needs preemption.quotapreemptionenabled."},
	{name: configs.ApplicationUnschedulableAsksBackoff, standard: "0", check: checkBackoff, kind: string(Uint),
		meaning: "After how many pods that fit nowhere an application waits; 0 means never."},
	{name: configs.ApplicationUnschedulableAsksBackoffDelay, standard: "30s", check: checkDelay, kind: "duration",
		meaning: "How long it waits."},
}

func checkOffset(value string) error {
	if _, err := strconv.ParseInt(value, 10, 32); err != nil {
		return fmt.Errorf("want a whole number from %d to %d", math.MinInt32, math.MaxInt32)
	}
	return nil
}

func checkDelay(value string) error {
	if d, err := time.ParseDuration(value); err != nil || d <= 0 {
		return fmt.Errorf(`want a duration above zero with its unit, such as "30s"`)
	}
	return nil
}

func checkBackoff(value string) error {
	if _, err := strconv.ParseUint(value, 10, 64); err != nil {
		return fmt.Errorf("want a %s", Uint)
	}
	return nil
}

// complaint is what the core does not say of a property; empty if all is well.
func complaint(name, value string) string {
	at := slices.IndexFunc(properties, func(p property) bool { return p.name == name })
	if at < 0 {
		var names []string
		for _, p := range properties {
			names = append(names, p.name)
		}
		return "no such property" + hint(nearest(name, names))
	}
	p := properties[at]
	if p.check != nil {
		// Zero turns it off, as no value does.
		if d, err := time.ParseDuration(value); name == configs.QuotaPreemptionDelay && err == nil && d == 0 {
			return ""
		}
		if err := p.check(value); err != nil {
			return fmt.Sprintf("is %q, %s; the default counts", value, err)
		}
		return ""
	}
	if name == configs.ApplicationSortPolicy && value == "stateaware" {
		return "stateaware is gone, fifo counts"
	}
	if !p.exact {
		value = strings.ToLower(value)
	}
	if value != "" && !slices.Contains(p.values, value) {
		return fmt.Sprintf("is %q, want %s; the default counts", value, strings.Join(p.values, " or "))
	}
	return ""
}

// oddities warns of what the core takes and does not heed.
func (c *checker) oddities(p configs.PartitionConfig) {
	if said := resolving(p.UserGroupResolver.Type); said != "" {
		c.warnf(c.line("usergroupresolver", "type"), "usergroupresolver is %q, %s", p.UserGroupResolver.Type, said)
	}
	for i, rule := range p.PlacementRules {
		c.filters(rule, "placementrules", i)
	}
	quota := p.Preemption.QuotaPreemptionEnabled != nil && *p.Preemption.QuotaPreemptionEnabled
	walk(&p, func(name string, q *configs.QueueConfig, path []any) {
		c.propertiesOf("queue "+name, q.Properties, quota, append(slices.Clip(path), "properties")...)
		c.propertiesOf("queue "+name+": childtemplate", q.ChildTemplate.Properties, quota, append(slices.Clip(path), "childtemplate", "properties")...)
		c.zeros("queue "+name, q.Resources.Max, append(slices.Clip(path), "resources", "max")...)
		c.zeros("queue "+name+": childtemplate", q.ChildTemplate.Resources.Max, append(slices.Clip(path), "childtemplate", "resources", "max")...)
		c.access("queue "+name, q.SubmitACL, append(slices.Clip(path), "submitacl")...)
		c.access("queue "+name, q.AdminACL, append(slices.Clip(path), "adminacl")...)
	})
}

func (c *checker) propertiesOf(what string, all map[string]string, quota bool, path ...any) {
	node := at(c.document, append([]any{"partitions", c.partition}, path...)...)
	for _, name := range sortedKeys(all) {
		if wrong := complaint(name, all[name]); wrong != "" {
			c.warnf(keyLine(node, name), "%s: %s: %s", what, name, wrong)
			continue
		}
		if d, err := time.ParseDuration(all[name]); name == configs.QuotaPreemptionDelay && err == nil && d > 0 && !quota {
			c.warnf(keyLine(node, name), "%s: %s has no effect: preemption.quotapreemptionenabled is not true", what, name)
		}
	}
}

// zeros warns of a limit that lets nothing run, which the core takes for none.
func (c *checker) zeros(what string, max map[string]string, path ...any) {
	if limit, err := resources.NewResourceFromConf(max); err == nil && len(max) > 0 && !resources.StrictlyGreaterThanZero(limit) {
		c.warnf(c.line(path...), "%s: max has zeros alone, which counts as no limit", what)
	}
}

// filters warns of entries that match nobody.
func (c *checker) filters(rule configs.PlacementRule, path ...any) {
	filter := append(slices.Clip(path), "filter")
	if strings.EqualFold(rule.Filter.Type, "deny") && rule.Filter.Type != "deny" {
		c.warnf(c.line(append(filter, "type")...), "rule %s: the filter's type %s counts as allow, want deny in small letters", rule.Name, rule.Filter.Type)
	}
	named := func(what string, names []string, ok func(string) bool) {
		if len(names) < 2 {
			return // one may be an expression, which the core checks
		}
		for i, name := range names {
			if !ok(name) {
				c.warnf(c.line(append(slices.Clip(filter), what, i)...), "rule %s: %q matches nobody: a list has names, and a single entry may be an expression", rule.Name, name)
			}
		}
	}
	named("users", rule.Filter.Users, configs.UserRegExp.MatchString)
	named("groups", rule.Filter.Groups, configs.GroupRegExp.MatchString)
	if rule.Parent != nil {
		c.filters(*rule.Parent, append(slices.Clip(path), "parent")...)
	}
}

// access warns of names in a list of access that match nobody.
func (c *checker) access(what, acl string, path ...any) {
	if acl = strings.TrimSpace(acl); acl == common.Wildcard || len(strings.Fields(acl)) > 2 {
		return // the core refuses more
	}
	users, groups, _ := strings.Cut(acl, common.Space)
	each := func(names string, ok func(string) bool) {
		for name := range strings.SplitSeq(strings.TrimSpace(names), common.Separator) {
			if name != "" && name != common.Wildcard && !ok(name) {
				c.warnf(c.line(path...), "%s: %q in %s matches nobody", what, name, path[len(path)-1])
			}
		}
	}
	each(users, configs.UserRegExp.MatchString)
	each(groups, configs.GroupRegExp.MatchString)
}

// resolving says what a resolver of groups needs. It counts for users alone whose pods name no group: admission names
// those that the API server knows.
func resolving(kind string) string {
	const refused = "refuses applications of others"
	switch kind {
	case security.Default:
		return ""
	case security.Os:
		return "so each replica looks users without groups up in its own /etc/passwd and /etc/group, and " + refused + "; the image that is shipped has neither"
	case security.Ldap:
		return "so each replica asks LDAP about users without groups, as the files in " + common.LdapMountPath + " say; one without them refuses the whole configuration"
	case security.Test:
		return "so each replica knows the users of the core's own tests, and " + refused
	default:
		return "want os or ldap; who names no group is in the one of their own name"
	}
}
