package engine_test

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/engine"
)

// TestQueuesThatAreRefused has what a configuration may not say; nothing of it comes into force.
func TestQueuesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ queues, rules, rest, says string }{
		"as it should be":               {queues: "[{name: a, resources: {guaranteed: {vcore: 1}, max: {vcore: 2}}, queues: [{name: b, resources: {max: {vcore: 2}}}]}]"},
		"max above the parent's":        {queues: "[{name: a, resources: {max: {vcore: 1}}, queues: [{name: b, resources: {max: {vcore: 2}}}]}]", says: "max"},
		"guaranteed above max":          {queues: "[{name: a, resources: {guaranteed: {vcore: 2}, max: {vcore: 1}}}]", says: "guaranteed"},
		"children guaranteed too much":  {queues: "[{name: a, resources: {guaranteed: {vcore: 1}}, queues: [{name: b, resources: {guaranteed: {vcore: 1}}}, {name: c, resources: {guaranteed: {vcore: 1}}}]}]", says: "guaranteed"},
		"more applications than above":  {queues: "[{name: a, maxapplications: 1, queues: [{name: b, maxapplications: 2}]}]", says: "maxapplications"},
		"twice the same name":           {queues: "[{name: a}, {name: A}]", says: "duplicate"},
		"a name with a point":           {queues: "[{name: a.b}]", says: "invalid queue name"},
		"a name that is too long":       {queues: "[{name: " + strings.Repeat("a", 65) + "}]", says: "invalid queue name"},
		"no number":                     {queues: "[{name: a, resources: {max: {vcore: many}}}]", says: "quantity"},
		"a limit of nobody":             {queues: "[{name: a, limits: [{limit: x, maxapplications: 1}]}]", says: "empty user and group"},
		"a limit of nothing":            {queues: "[{name: a, limits: [{limit: x, users: [ann]}]}]", says: "limit"},
		"the wildcard first":            {queues: `[{name: a, limits: [{limit: x, users: ["*"], maxapplications: 1}, {limit: y, users: [ann], maxapplications: 1}]}]`, says: "wildcard"},
		"a lone wildcard of groups":     {queues: `[{name: a, limits: [{limit: x, groups: ["*"], maxapplications: 1}]}]`, says: "wildcard"},
		"a limit above the queue's max": {queues: "[{name: a, resources: {max: {vcore: 1}}, limits: [{limit: x, users: [ann], maxresources: {vcore: 2}}]}]", says: "limit x"},
		"a limit above an ancestor's":   {queues: "[{name: a, limits: [{limit: x, users: [ann], maxresources: {vcore: 1}}], queues: [{name: b, limits: [{limit: y, users: [ann], maxresources: {vcore: 2}}]}]}]", says: "ann"},
		"an access list of three parts": {queues: "[{name: a, submitacl: a b c}]", says: "ACL"},
		"a queue that nobody makes":     {queues: "[{name: a}]", rules: "[{name: fixed, value: root.b}]", says: "root.b"},
		"a rule by no name":             {queues: "[{name: a}]", rules: "[{name: '?'}]", says: "rule"},
		"a filter of another type":      {queues: "[{name: a}]", rules: "[{name: provided, filter: {type: perhaps}}]", says: "perhaps"},
		"an order of nodes":             {queues: "[{name: a}]", rest: "    nodesortpolicy: {type: heavy}\n", says: "heavy"},
		"a negative weight":             {queues: "[{name: a}]", rest: "    nodesortpolicy: {type: fair, resourceweights: {vcore: -1.0}}\n", says: "negative"},
		"a key that there is not":       {queues: "[{name: a, max: 1}]", says: "max"},
		"a checksum":                    {queues: "[{name: a}]", rest: "checksum: abc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			err := engine.Validate(map[string]string{"queues.yaml": queuesOf(c.queues, c.rules) + c.rest})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.says)) {
				t.Errorf("%v, want something about %q", err, c.says)
			}
		})
	}
}
