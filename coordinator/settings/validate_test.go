package settings

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

const good = `partitions:
  - name: default
    placementrules:
      - name: provided
    queues:
      - name: root
        submitacl: '*'
        queues:
          - name: a
            resources:
              max: {vcore: 4, memory: 8G}
          - name: b
`

// said are the problems as "severity key:line message".
func said(problems []Problem) []string {
	var all []string
	for _, p := range problems {
		all = append(all, fmt.Sprintf("%s %s:%d %s", p.Severity, p.Key, p.Line, p.Message))
	}
	return all
}

// expect wants these problems and no others, each by parts that "…" separates.
func expect(t *testing.T, got []Problem, want ...string) {
	t.Helper()
	all := said(got)
	if len(all) != len(want) {
		t.Errorf("%d problems, want %d:\n%s", len(all), len(want), strings.Join(all, "\n"))
		return
	}
	for i, w := range want {
		rest, ok := all[i], false
		for part := range strings.SplitSeq(w, "…") {
			if _, rest, ok = strings.Cut(rest, part); !ok {
				t.Errorf("got  %s\nwant %s", all[i], w)
				break
			}
		}
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		data map[string]string
		want []string
	}{
		{"none", nil, nil},
		{"good", map[string]string{"queues.yaml": good, KeyLogLevel: "DEBUG", "log.core.scheduler.level": "-1", KeyQPS: "5", KeyBurst: "10"}, nil},
		{"no queues", map[string]string{"queues.yaml": "\n"}, nil},
		{"only comments", map[string]string{"queues.yaml": "# none\n"}, nil},
		{"typo", map[string]string{"service.clusterID": "x"}, []string{"warning service.clusterID:0 no such key, did you mean service.clusterId?"}},
		{"nobody's", map[string]string{"nothing.like.it": "x"}, []string{"warning nothing.like.it:0 no such key"}},
		{"logger", map[string]string{"log.core.shceduler.level": "INFO"}, []string{"no such logger, did you mean log.core.scheduler.level?"}},
		{"logger and level", map[string]string{"log.x.level": "LOUD"}, []string{"error log.x.level:0 unknown log level", "warning log.x.level:0 no such logger"}},
		{"gone", map[string]string{"service.operatorPlugins": "general"}, []string{"warning service.operatorPlugins:0 is gone"}},
		{"no effect", map[string]string{"service.schedulingInterval": "1s"}, []string{"warning service.schedulingInterval:0 has no effect here"}},
		{"no effect and bad", map[string]string{"service.schedulingInterval": "1"}, []string{"error service.schedulingInterval:0 is \"1\""}},
		{"another group", map[string]string{KeyPolicyGroup: "night", "queues.yaml": "{", "night.yaml": good}, []string{"warning queues.yaml:0 is not read"}},
		{"bad in the group", map[string]string{KeyPolicyGroup: "night", "night.yaml": "{"}, []string{"error night.yaml:1"}},
		{"misnamed queues", map[string]string{"queue.yaml": good}, []string{"warning queue.yaml:0 is not read: service.policyGroup selects queues.yaml"}},
		{"small burst", map[string]string{KeyQPS: "50", KeyBurst: "10"}, []string{"warning kubernetes.burst:0 is 10, less than kubernetes.qps (50)"}},
		{"admission's default counts", map[string]string{KeyBypassNamespaces: "("}, []string{"warning admissionController.filtering.bypassNamespaces:0…the default \"^kube-system$\" counts"}},
		{"admission trims", map[string]string{KeyBypassAuth: " true\n"}, nil},
		{"the scheduler does not", map[string]string{KeyUniqueAppID: " true\n"}, []string{"error admissionController.filtering.generateUniqueAppId:0"}},
		{"no UTF-8", map[string]string{KeyPlaceholderImage: "a\xff"}, []string{"error service.placeholderImage:0 is not UTF-8"}},
		{"all at once", map[string]string{KeyQPS: "x", KeyRunAsUser: "-1", KeyHotRefresh: "on", "queues.yaml": "{"},
			[]string{"error kubernetes.qps", "error service.enableConfigHotRefresh", "error service.placeholderRunAsUser", "error queues.yaml:1"}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, Validate(configMap(ConfigMap, c.data)), c.want...) })
	}
}

func TestBothConfigMaps(t *testing.T) {
	packed := configMap(ConfigMap, map[string]string{"queues.yaml": "{"})
	packed.BinaryData = map[string][]byte{"queues.yaml.gz": zipped(t, good)}
	broken := &v1.ConfigMap{BinaryData: map[string][]byte{"queues.yaml.gz": []byte("none"), "x": zipped(t, "y")}}
	broken.Name = ConfigMap
	bad, fine := map[string]string{KeyQPS: "x"}, map[string]string{KeyQPS: "1"}
	for _, c := range []struct {
		name string
		held []*v1.ConfigMap
		want []string
	}{
		{"bad under good", []*v1.ConfigMap{configMap(DefaultsConfigMap, bad), configMap(ConfigMap, fine)}, nil},
		{"good under bad", []*v1.ConfigMap{configMap(DefaultsConfigMap, fine), configMap(ConfigMap, bad)}, []string{"error kubernetes.qps"}},
		{"only the first", []*v1.ConfigMap{configMap(DefaultsConfigMap, bad), nil}, []string{"error kubernetes.qps"}},
		{"gzip over plain", []*v1.ConfigMap{nil, packed}, []string{"warning queues.yaml:0 is not read: queues.yaml.gz overrides it"}},
		{"broken gzip", []*v1.ConfigMap{configMap(DefaultsConfigMap, bad), broken}, []string{"error queues.yaml.gz:0 neither gzip", "error kubernetes.qps", "warning x:0 no such key"}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, Validate(c.held...), c.want...) })
	}
	if got := Validate(configMap(DefaultsConfigMap, bad), configMap(ConfigMap, map[string]string{"what.is.this": ""})); got[0].ConfigMap != DefaultsConfigMap || got[1].ConfigMap != ConfigMap {
		t.Errorf("the wrong ConfigMap is named: %v", said(got))
	}
}

// replaced puts other text into good queues.
func replaced(pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(good, pairs[i]) {
			panic("good queues have no " + pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(good)
}

func TestQueues(t *testing.T) {
	const a = "          - name: a\n"
	for _, c := range []struct {
		name, text string
		want       []string // after "queues.yaml:"
	}{
		{"unknown field", replaced("placementrules", "placementRules"), []string{"error 3 unknown field placementRules, did you mean placementrules?"}},
		{"two unknown fields", replaced("submitacl", "submitACL", "resources", "resource"),
			[]string{"error 7 unknown field submitACL, did you mean submitacl?", "error 10 unknown field resource, did you mean resources?"}},
		{"nothing like it", replaced("submitacl: '*'", "colour: red"), []string{"error 7 unknown field colour"}},
		{"wrong type", replaced(a, a+"            maxapplications: many\n"), []string{`error 10 is "many", want whole number`}},
		{"list for mapping", replaced("{vcore: 4, memory: 8G}", "[1]"), []string{"error 11 is a list, want a mapping"}},
		{"text for list", "partitions:\n  - name: default\n    queues: none\n", []string{`error 3 is "none", want a list`}},
		{"twice in a mapping", replaced(a, a+"            name: c\n"), []string{"error 10 field name is set twice, first in line 9"}},
		{"a tab", replaced("    placementrules", "\tplacementrules"), []string{"error…tab"}},
		{"no YAML", "partitions: [\n", []string{"error"}},
		{"no UTF-8", "partitions: \xff", []string{"error 0 is not UTF-8", "error"}},
		{"second document", good + "---\npartitions: []\n", []string{"warning 13 only the first document"}},
		{"two bad amounts", replaced("vcore: 4, memory: 8G", "vcore: 1.5, memory: 8m"),
			[]string{`error 11 queue root.a: max: memory is "8m": invalid suffix`, `error 11 queue root.a: max: vcore is "1.5": invalid quantity`}},
		{"over the parent", replaced("max: {vcore: 4, memory: 8G}", "max: {vcore: 4}\n            queues: [{name: c, resources: {max: {vcore: 8}}}]"),
			[]string{"error 12 queue root.a.c: max resource of parent"}},
		{"guaranteed over max", replaced("max: {vcore: 4, memory: 8G}", "max: {vcore: 4}\n              guaranteed: {vcore: 8}"),
			[]string{"error 11 queue root.a: guaranteed resource"}},
		{"sum of children", replaced("max: {vcore: 4, memory: 8G}", "guaranteed: {vcore: 4}\n            queues: [{name: c, resources: {guaranteed: {vcore: 3}}}, {name: d, resources: {guaranteed: {vcore: 3}}}]"),
			[]string{"error 11 queue root.a: guaranteed resource of parent"}},
		{"bad name", replaced("name: b", "name: b.c"), []string{"error 12 queue root.b.c: "}},
		{"the same name", replaced("name: b", "name: A"), []string{"error 12 queue root.a: duplicate child name"}},
		{"limit without users", replaced(a, a+"            limits: [{limit: x, maxapplications: 1}]\n"), []string{"error 10 queue root.a: empty user and group lists"}},
		{"the second limit", replaced(a, a+"            limits:\n              - {limit: x, users: [u], maxapplications: 1}\n              - {limit: y, users: [u], maxapplications: 1}\n"),
			[]string{"error 12 queue root.a: duplicated user name"}},
		{"limit over the queue", replaced(a, a+"            limits: [{limit: x, users: [u], maxresources: {vcore: 9}}]\n"), []string{"error 10 queue root.a: invalid MaxResources"}},
		{"access", replaced("'*'", "'a b c'"), []string{"error 7 queue root: multiple spaces"}},
		{"root with resources", replaced("submitacl: '*'", "resources: {max: {vcore: 1}}"), []string{"error 7 queue root: root queue must not have resource limits"}},
		{"maxapplications of children", replaced("submitacl: '*'", "maxapplications: 2"), []string{"error 9 queue root.a: maxApplications is either undefined", "error 12 queue root.b: maxApplications is either undefined"}},
		{"rule of no kind", replaced("name: provided", "name: provide"), []string{"error 4 placement rule: unknown rule name specified provide"}},
		{"the second rule", replaced("- name: provided", "- name: provided\n      - {name: fixed, value: root.nowhere}"), []string{"error 5 placement rule: placement rule no. #1"}},
		{"two rules alike", replaced("- name: provided", "- name: provide\n      - name: user\n      - name: provide"),
			[]string{"error 4 placement rule: unknown rule name", "error 6 placement rule: unknown rule name"}},
		{"two limits alike", replaced(a, a+"            limits:\n              - {limit: x, users: [u], maxapplications: 1}\n              - {limit: y, maxapplications: 1}\n              - {limit: y, maxapplications: 1}\n"),
			[]string{"error 12 queue root.a: empty user and group lists"}},
		{"two queues alike", replaced("name: a", "name: a.x", "name: b", "name: b.x"), []string{"error 9 queue root.a.x: invalid queue name", "error 12 queue root.b.x: invalid queue name"}},
		{"limits of the partition", replaced("    placementrules", "    limits: [{limit: x, users: [u], maxapplications: 1}, {limit: y, users: [u], maxapplications: 1}]\n    placementrules"),
			[]string{"error 3 limits of the partition: duplicated user name"}},
		{"rule without a value", replaced("name: provided", "name: tag"), []string{"error 4 placement rule: a tag queue rule must have a tag name"}},
		{"filter", replaced("name: provided", "name: provided\n        filter: {type: allow, users: ['(']}"), []string{"error 4 placement rule: invalid rule filter user list"}},
		{"node sort policy", replaced("    queues:\n      - name: root", "    nodesortpolicy: {type: best}\n    queues:\n      - name: root"), []string{"error 5 nodesortpolicy: undefined policy: best"}},
		{"several in several queues", replaced("name: b", "name: b/ c", "'*'", "'a b c'", "name: provided", "name: provide"),
			[]string{"error 4 placement rule", "error 7 queue root: multiple", "error 12 queue root.b/ c"}},
		{"template", replaced(a, a+"            parent: true\n            childtemplate: {resources: {max: {vcore: x}}}\n"), []string{`error 11 queue root.a: childtemplate max: vcore is "x"`}},
		{"by an alias", "partitions:\n  - name: default\n    queues:\n      - name: root\n        queues:\n          - &a {name: a, resources: {max: {vcore: x}}}\n          - {<<: *a, name: b}\n",
			[]string{`error 6 queue root.a: max: vcore is "x"`, `error 6 queue root.b: max: vcore is "x"`}},
		{"partition twice", good + "  - name: Default\n    queues: [{name: root}]\n", []string{"error 13 partition default is there twice"}},
		{"another partition", good + "  - name: gpu\n    queues: [{name: root}]\n", []string{"warning 13 partition gpu: only the partition default"}},
		{"no partition", "partitions: []\n", []string{"warning 0 there is no partition default"}},
		{"without a root", "partitions:\n  - name: default\n    queues:\n      - name: a\n        submitacl: 'a b c'\n      - name: b\n", []string{"error 5 queue root.a: multiple spaces"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, w := range c.want {
				c.want[i] = strings.Replace(w, " ", " queues.yaml:", 1)
			}
			expect(t, Validate(configMap(ConfigMap, map[string]string{"queues.yaml": c.text})), c.want...)
		})
	}
}

func TestOddities(t *testing.T) {
	with := func(properties string) string {
		return replaced("- name: b\n", "- name: b\n            properties:\n"+properties)
	}
	line := func(text string) string { return "              " + text + "\n" }
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"all that there are", with(line("application.sort.policy: fair") + line("application.sort.priority: disabled") + line("priority.policy: Fence") +
			line("priority.offset: '-5'") + line("preemption.policy: disabled") + line("preemption.delay: 1m") + line("quota.preemption.delay: 0s") +
			line("application.unschedasks.backoff: '3'") + line("application.unschedasks.backoff.delay: 10s")), nil},
		{"unknown", with(line("application.sort.polcy: fair")), []string{"warning queues.yaml:14 queue root.b: application.sort.polcy: no such property, did you mean application.sort.policy?"}},
		{"values", with(line("application.sort.policy: FAIR") + line("priority.offset: high") + line("preemption.delay: '0'") + line("preemption.policy: never") + line("application.unschedasks.backoff: '-1'")),
			[]string{`:14 queue root.b: application.sort.policy: is "FAIR", want fifo or fair`, ":15…want a whole number from", ":16…want a duration above zero", ":17…want default or fence or disabled", ":18…want a whole number"}},
		{"gone", with(line("application.sort.policy: stateaware")), []string{"stateaware is gone, fifo counts"}},
		{"quota preemption off", with(line("quota.preemption.delay: 1m")), []string{"quota.preemption.delay has no effect: preemption.quotapreemptionenabled is not true"}},
		{"quota preemption on", strings.Replace(with(line("quota.preemption.delay: 1m")), "    placementrules", "    preemption: {quotapreemptionenabled: true}\n    placementrules", 1), nil},
		{"resolver", replaced("    placementrules", "    usergroupresolver: {type: unix}\n    placementrules"), []string{"warning queues.yaml:3 usergroupresolver is \"unix\", want os or ldap"}},
		{"resolver of the system", replaced("    placementrules", "    usergroupresolver: {type: os}\n    placementrules"), []string{"warning queues.yaml:3 usergroupresolver is \"os\", so each replica looks users without groups up in its own /etc/passwd"}},
		{"resolver by LDAP", replaced("    placementrules", "    usergroupresolver: {type: ldap}\n    placementrules"), []string{"warning queues.yaml:3 usergroupresolver is \"ldap\", so each replica asks LDAP about users without groups, as the files in /run/secrets/ldap say"}},
		{"resolver of tests", replaced("    placementrules", "    usergroupresolver: {type: test}\n    placementrules"), []string{"warning queues.yaml:3 usergroupresolver is \"test\", so each replica knows the users of the core's own tests"}},
		{"no resolver", replaced("    placementrules", "    usergroupresolver: {type: ''}\n    placementrules"), nil},
		{"zeros", replaced("{vcore: 4, memory: 8G}", "{vcore: 0}"), []string{"warning queues.yaml:11 queue root.a: max has zeros alone"}},
		{"a zero beside others", replaced("{vcore: 4, memory: 8G}", "{vcore: 0, memory: 1}"), nil},
		{"filter of several", replaced("name: provided", "name: provided\n        filter:\n          users: [ann, 'b.*']"), []string{`warning queues.yaml:6 rule provided: "b.*" matches nobody`}},
		{"filter in capitals", replaced("name: provided", "name: provided\n        filter: {type: Deny, users: [ann]}"), []string{"warning queues.yaml:5 rule provided: the filter's type Deny counts as allow"}},
		{"filter of a parent", replaced("name: provided", "name: provided\n        parent: {name: user, filter: {groups: [a, '+b']}}"), []string{`rule user: "+b" matches nobody`}},
		{"access", replaced("'*'", "'ann,+bob dev'"), []string{`warning queues.yaml:7 queue root: "+bob" in submitacl matches nobody`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Validate(configMap(ConfigMap, map[string]string{"queues.yaml": c.text}))
			if c.name == "values" {
				slices.SortFunc(got, func(a, b Problem) int {
					return strings.Compare(fmt.Sprint(a.Line == 14, b.Line), fmt.Sprint(b.Line == 14, a.Line))
				})
				slices.Reverse(got)
			}
			expect(t, got, c.want...)
		})
	}
}

// Many queues with many mistakes are not looked at for ever, and large ones are read.
func TestManyQueues(t *testing.T) {
	var b strings.Builder
	b.WriteString("partitions:\n  - name: default\n    queues:\n      - name: root\n        queues:\n")
	for i := 0; b.Len() < 1<<20; i++ {
		fmt.Fprintf(&b, "          - {name: q%d, resources: {max: {vcore: 1}, guaranteed: {vcore: 2}}}\n", i)
	}
	got := Validate(configMap(ConfigMap, map[string]string{"queues.yaml": b.String()}))
	if len(got) == 0 || got[0].Severity != Error || len(got) > maxMistakes {
		t.Errorf("%d problems", len(got))
	}
	for _, p := range got {
		if strings.HasPrefix(p.Message, "queue") && !strings.Contains(p.Message, fmt.Sprintf("queue root.q%d: ", p.Line-6)) {
			t.Errorf("line %d: %s", p.Line, p.Message)
		}
	}
}

// What is said goes to the API server and to terminals.
func TestWhatIsSaidIsBounded(t *testing.T) {
	data := map[string]string{KeyQPS: strings.Repeat("ü", 1<<16), "queues.yaml": "partitions:\n" + strings.Repeat("  - {a: 1, b: 2, c: 3}\n", 1000)}
	for i := range 1000 {
		data[fmt.Sprint("unknown.", i)] = "x"
	}
	got := Validate(configMap(ConfigMap, data))
	if n := len(got); n != maxProblems+1 || got[0].Key != KeyQPS || got[n-2].Severity != Error || !strings.Contains(got[n-1].Message, "more problems") || got[n-1].Severity != Error {
		t.Errorf("%d problems: %v", len(got), said(got)[max(0, len(got)-2):])
	}
	for _, p := range got {
		if len(p.Message) > 3*maxMessage {
			t.Errorf("a message of %d bytes", len(p.Message))
		}
	}
}

// What the core refuses is refused here, and what it takes is taken, but for what it only looks
// at when it is too late.
func FuzzValidate(f *testing.F) {
	for _, seed := range []string{good, "{", "partitions: []", "a: &a [*a]", "a: &a {x: *a}\nb: *a", strings.Repeat("[", 1000), "partitions: [{queues: [{}]}]", "\xff", "<<: 1", "---\n---\n"} {
		f.Add(seed, "service.clusterId", "x")
	}
	f.Add(replaced("'*'", "'a b c'", "name: b", "name: A"), "queues.yaml.gz", "log.level")
	f.Fuzz(func(t *testing.T, queues, key, value string) {
		data := map[string]string{key: value, "queues.yaml": queues}
		problems := Validate(configMap(ConfigMap, data))
		refused := slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
		if err := Check(data); (err != nil) != refused {
			t.Fatalf("Check says %v, Validate says %v", err, said(problems))
		}
		_, errParse := Parse(data)
		if errParse != nil && !refused {
			t.Fatalf("Parse says %v, Validate says %v", errParse, said(problems))
		}
		if strings.TrimSpace(queues) != "" && key != "queues.yaml" && key != KeyPolicyGroup {
			if err := coreTakes(queues); err != nil && !refused {
				t.Fatalf("the core says %v, Validate says %v", err, said(problems))
			}
		}
		Changes(data, nil)
		Changes(nil, data)
	})
}
