package engine_test

import (
	"fmt"
	"testing"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestPlacementRules: the first that fits places an application, filters say for whom.
func TestPlacementRules(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: ops}, {name: tests}, {name: users, parent: true}, {name: own}]", `
      - {name: fixed, value: root.ops, filter: {type: allow, users: [ann, bob]}}
      - {name: fixed, value: root.tests, filter: {type: allow, groups: ["^qa-.*"]}}
      - {name: provided, filter: {type: deny, users: ["^no.*"]}}
      - {name: user, create: true, parent: {name: fixed, value: root.users}, filter: {type: deny, groups: [guests]}}
      - {name: tag, value: team, create: false}
      - {name: tag, value: namespace, create: true, parent: {name: tag, value: namespace.parentqueue, create: true}}
      - {name: tag, value: namespace, create: true}`)))
	f.engage()
	for i, c := range []struct {
		user, group, queue string
		tags               map[string]string
		want               string
	}{
		{"ann", "dev", "root.own", nil, "root.ops"},
		{"eve", "qa-1", "root.own", nil, "root.tests"},
		{"eve", "not-qa-1", "root.own", nil, "root.own"},
		{"eve", "dev", "", nil, "root.users.eve"},
		{"nobody", "dev", "root.own", nil, "root.users.nobody"},
		{"john.doe", "dev", "", nil, "root.users.john_dot_doe"},
		{"not", "guests", "root.ops", map[string]string{"team": "own"}, "root.own"},
		{"not", "guests", "", map[string]string{"team": "unknown", "namespace": "space"}, "root.space"},
		{"not", "guests", "", map[string]string{"namespace": "space", "namespace.parentqueue": "root.above"}, "root.above.space"},
	} {
		app := newApp(fmt.Sprintf("app-%d", i), c.queue)
		app.User, app.Groups, app.Tags = c.user, []string{c.group}, c.tags
		f.submit(app)
		if got := waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == app.ID }).PlacedQueue; got != c.want {
			t.Errorf("%+v: placed in %s", c, got)
		}
	}
}

// TestQueuesThatRulesMake have what the template of their parent says. What the namespace says of
// resources takes the place of all that the template says of them.
func TestQueuesThatRulesMake(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf(`[{name: users, parent: true, childtemplate: {
		maxapplications: 1, properties: {application.sort.policy: fair}, resources: {max: {vcore: 3}, guaranteed: {vcore: 1}}}}]`, `
      - {name: user, create: true, parent: {name: fixed, value: root.users}, filter: {type: allow, users: [ann, bob]}}
      - {name: tag, value: namespace, create: true}`)))
	f.engage()
	for _, c := range []struct {
		user string
		tags map[string]string
		want string
	}{
		{"ann", nil, "root.users.ann: max vcore 3000, guaranteed vcore 1000, 1 applications, fair"},
		{"bob", map[string]string{"namespace.resourcequota": `{"resources":{"vcore":{"value":2000}}}`}, "root.users.bob: max vcore 2000, guaranteed vcore 0, 1 applications, fair"},
		{"eve", map[string]string{
			"namespace": "space", "namespace.resourcequota": `{"resources":{"vcore":{"value":5000}}}`,
			"namespace.resourceguaranteed": `{"resources":{"vcore":{"value":4000}}}`, "namespace.resourcemaxapps": "7",
		}, "root.space: max vcore 5000, guaranteed vcore 4000, 7 applications, fifo"},
	} {
		app := newApp("of-"+c.user, "")
		app.User, app.Tags = c.user, c.tags
		f.submit(app)
		queue := waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == app.ID }).PlacedQueue
		if got := f.engine.QueueSays(queue); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}
