package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// halfTaken are configurations that the core's own validation passes, and that a core has
// applied a part of, or starts without, by the time it finds them wrong.
var halfTaken = map[string]string{
	"a rule that nobody knows":     queuesOf("[{name: a, resources: {max: {vcore: 7}}}]", "[{name: fixd, value: root.a}]"),
	"a tag rule without a tag":     queuesOf("[{name: b}]", "[{name: tag, create: true}]"),
	"a rule below a recovery rule": queuesOf("[{name: b}]", "[{name: user, create: true, parent: {name: recovery}}]"),
	"spaces in an access list":     queuesOf("[{name: b, submitacl: 'alice  dev'}]", ""),
	"a template of no resources":   queuesOf("[{name: b, parent: true, childtemplate: {resources: {max: {vcore: many}}}}]", ""),
	"an error in a partition that comes later": queuesOf("[{name: b}]", "[{name: fixed, value: root.b}]") +
		"  - {name: gpu, queues: [{name: root, queues: [{name: c, adminacl: 'a  b'}]}]}\n",
	"no partition to schedule in": "partitions: [{name: gpu, queues: [{name: root}]}]\n",
}

// TestARefusedConfigurationChangesNothing, also if the core finds out too late.
func TestARefusedConfigurationChangesNothing(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: a, properties: {priority.offset: '3'}, resources: {max: {vcore: 2}}}]", "")))
	f.node("n1")
	of := f.fed(newApp("a", "root.a"))
	f.engage()
	before := f.engine.Rules()
	for _, name := range slices.Sorted(maps.Keys(halfTaken)) {
		err := f.engine.Configure(map[string]string{"queues.yaml": halfTaken[name], "log.level": "ERROR"})
		if err == nil || !strings.Contains(err.Error(), "queues.yaml: ") {
			t.Errorf("%s: %v", name, err)
		}
		if now := f.engine.Rules(); !slices.Equal(now, before) {
			t.Errorf("%s: what the core schedules by has become\n%s\nfrom\n%s", name, strings.Join(now, "\n"), strings.Join(before, "\n"))
		}
	}
	f.ok(f.differ(of))
}

// forgetful is a core that says that it has refused configurations when it has taken them.
type forgetful struct {
	api.SchedulerAPI
	refuse func() bool
}

func (c forgetful) UpdateConfiguration(r *si.UpdateConfigurationRequest) error {
	if err := c.SchedulerAPI.UpdateConfiguration(r); err != nil || !c.refuse() {
		return err
	}
	return errors.New("this queue cannot be changed any more")
}

// TestWhatTheCoreHasTakenInPartIsTakenBack, as often as that happens; and if it cannot be,
// the owner of the engine is told, who knows no rules to schedule by any more.
func TestWhatTheCoreHasTakenInPartIsTakenBack(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	var stuck []error
	first := queuesOf("[{name: a, resources: {max: {vcore: 2}}}, {name: b}]", "")
	f := start(t, func(c *engine.Config) {
		withQueues(first)(c)
		c.OnStuck = func(err error) { stuck = append(stuck, err) }
	})
	refusals := 1
	f.engine.BetweenCore(func(core api.SchedulerAPI) api.SchedulerAPI {
		return forgetful{core, func() bool { refusals--; return refusals >= 0 }}
	})
	f.node("n1")
	f.engage()
	before := f.engine.Rules()
	other := map[string]string{
		"queues.yaml": queuesOf("[{name: a, resources: {max: {vcore: 1}}}, {name: c}]", "[{name: user, create: true}]"), "log.level": "ERROR",
	}
	for range 3 {
		refusals = 1
		if err := f.engine.Configure(other); err == nil {
			t.Fatal("the refusal is lost")
		}
		f.engine.CleanQueues()
		if now := f.engine.Rules(); !slices.Equal(now, before) {
			t.Errorf("the core schedules by\n%s\nand not by\n%s", strings.Join(now, "\n"), strings.Join(before, "\n"))
		}
	}
	if len(stuck) > 0 {
		t.Errorf("told %v", stuck)
	}
	refusals = 2
	if err := f.engine.Configure(other); err == nil || len(stuck) != 1 || !errors.Is(stuck[0], engine.ErrStuck) {
		t.Errorf("%v, told %v", err, stuck)
	}
}

// changeable is a configuration of which anything may be missing.
func changeable(r *rand.Rand) string {
	maybe := func(texts ...string) string {
		if i := r.IntN(len(texts) + 1); i < len(texts) {
			return ", " + texts[i]
		}
		return ""
	}
	properties := func() string {
		var set []string
		for _, p := range []string{
			"application.sort.policy: fair", "application.sort.priority: disabled", "priority.offset: '5'", "priority.policy: fence",
			"preemption.policy: disabled", "preemption.policy: fence", "preemption.delay: 7s", "quota.preemption.delay: 1h",
			"application.unschedasks.backoff: '4'", "application.unschedasks.backoff.delay: 9s", "unknown: x",
		} {
			key, _, _ := strings.Cut(p, ":")
			if r.IntN(4) == 0 && !slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, key+":") }) {
				set = append(set, p)
			}
		}
		return maybe("properties: {" + strings.Join(set, ", ") + "}")
	}
	limits := func() string {
		return maybe("limits: [{limit: l, users: [alice], maxresources: {vcore: 1}}]", "limits: [{limit: l, users: [bob], maxapplications: 4}]",
			"limits: [{limit: l, users: [alice, '*'], maxresources: {vcore: 1}}]", "limits: [{limit: l, groups: [dev], maxresources: {vcore: 1}}]",
			"limits: [{limit: l, users: ['*'], maxapplications: 3}]")
	}
	template := func() string {
		return maybe("childtemplate: {resources: {max: {vcore: 2}}}", "childtemplate: {maxapplications: 3, properties: {priority.offset: '2'}}")
	}
	queue := func(name, more string) string {
		return "{name: " + name + properties() + limits() + maybe("resources: {max: {vcore: 6}}", "resources: {guaranteed: {vcore: 1}}") +
			maybe("submitacl: 'alice'") + maybe("maxapplications: 6") + more + "}"
	}
	below := queue("x", "")
	if r.IntN(2) == 0 {
		below += ", " + queue("y", "")
	}
	root := "{name: root, submitacl: '*'" + properties() + limits() + template() + maybe("maxapplications: 8") + ", queues: [" +
		queue("a", "") + ", " + queue("p", template()+", queues: ["+below+"]") + ", {name: d, parent: true" + template() + ", queues: [{name: e, parent: true" + template() + "}]}]}"
	partition := "{name: default" + maybe("nodesortpolicy: {type: binpacking}", "nodesortpolicy: {type: fair, resourceweights: {memory: 3.0}}") +
		maybe("preemption: {enabled: false}", "preemption: {quotapreemptionenabled: true}") +
		", placementrules: [{name: provided, create: true}" + maybe("{name: tag, value: namespace, create: true}", "{name: user, create: true}") + "], queues: [" + root + "]}"
	return "partitions: [" + partition + maybe("{name: gpu, queues: [{name: root, limits: [{limit: l, users: [alice], maxapplications: 1}]}]}") + "]\n"
}

// rulesUnder has the engine run under a configuration, and returns by what it schedules.
func (f *fixture) rulesUnder(n int) []string {
	f.t.Helper()
	f.engine.CleanQueues()
	app := newApp(fmt.Sprint("late", n), "root.d.e.late") // has the template of the day
	f.submit(app)
	rules := f.engine.Rules()
	f.ok(f.engine.Drop(f.t.Context(), app.ID))
	f.engine.CleanQueues()
	return rules
}

// TestAReconfiguredCoreIsAsOneThatStarts: whatever a core was configured to before, it
// schedules by the configuration in force and nothing else: what has been removed from it
// has no effect any more (YUNIKORN-3245), nor has what was once overridden.
func TestAReconfiguredCoreIsAsOneThatStarts(t *testing.T) {
	skipUnderRace(t)
	const courses, fresh = 60, 15
	if file := os.Getenv(replayEnv); file != "" {
		underEach(t, file)
		return
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 8))
	var all []string
	for len(all) < courses {
		if c := changeable(r); engine.Validate(map[string]string{"queues.yaml": c}) == nil {
			all = append(all, c)
		}
	}
	under := func(name string, configurations ...string) (rules [][]string) {
		file := filepath.Join(dir, name)
		write(t, file, configurations)
		t.Setenv(replayEnv, file)
		isolated(t)
		read(t, file+".out", &rules)
		return rules
	}
	reconfigured := under("reconfigured", all...)
	for n := courses - fresh; n < courses; n++ {
		want := under(fmt.Sprint("fresh", n), all[n])[0]
		for _, line := range reconfigured[n] {
			if !slices.Contains(want, line) {
				t.Errorf("after %d changes, and not in a core that starts:\n%s", n, line)
			}
		}
		for _, line := range want {
			if !slices.Contains(reconfigured[n], line) {
				t.Errorf("not after %d changes, and in a core that starts:\n%s", n, line)
			}
		}
		if t.Failed() {
			t.Fatalf("under %s", all[n])
		}
	}
}

// underEach notes by what an engine schedules that is given configurations one after the
// other.
func underEach(t *testing.T, file string) {
	var all []string
	read(t, file, &all)
	f := start(t, withQueues(all[0]))
	f.node("n1")
	for i, queue := range []string{"root.a", "root.p.x"} {
		app := newApp(fmt.Sprint("app", i), queue)
		app.User, app.PlacedQueue = []string{"alice", "bob"}[i], queue
		f.fed(app)
		defer f.do(ledger.ForgetApp{AppID: app.ID})
	}
	f.engage()
	rules := [][]string{f.rulesUnder(0)}
	for n, queues := range all[1:] {
		f.configure(queues)
		rules = append(rules, f.rulesUnder(n+1))
	}
	write(t, file+".out", rules)
}
