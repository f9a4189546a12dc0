package custom

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// thing is a definition to change.
func thing(change func(*Definition)) Definition {
	d := Definition{APIVersion: "example.org/v1", Kind: "Thing"}
	change(&d)
	return d
}

// thingSchema is as a CRD has it.
func thingSchema(t testing.TB) *spec.Schema {
	t.Helper()
	const crd = `{"type":"object","properties":{
		"apiVersion":{"type":"string"},"kind":{"type":"string"},"metadata":{"type":"object"},
		"spec":{"type":"object","properties":{
			"paused":{"type":"boolean"},"namespace":{"type":"string"},"since":{"type":"string","format":"date-time"},
			"size":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},
			"template":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"metadata":{"type":"object"}}},
			"parts":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"replicas":{"type":"integer","format":"int32"}}}},
			"named":{"type":"object","additionalProperties":{"type":"object","properties":{"replicas":{"type":"integer"}}}}}},
		"status":{"type":"object","properties":{"phase":{"type":"string","enum":["Ready",""]},"extra":{"type":"object"}}}}}`
	schema := &spec.Schema{}
	if err := json.Unmarshal([]byte(crd), schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestMistakesNameTheirPlace(t *testing.T) {
	nested := "object.spec.parts.all(a, object.spec.parts.all(b, object.spec.parts.all(c, object.spec.parts.all(d, a.name == b.name && c.name == d.name))))"
	for _, tt := range []struct {
		name   string
		change func(*Definition)
		typed  bool // only seen with the schema
		want   string
	}{
		{"no kind", func(d *Definition) { d.Kind = "" }, false, "definition thing: kind: apiVersion and kind are needed"},
		{"syntax", func(d *Definition) { d.Queue = "object.spec +" }, false, "definition thing: queue: 1:14: Syntax error"},
		{"second line", func(d *Definition) { d.Queue = "'a' +\n  nothing" }, false, "definition thing: queue: 2:3: undeclared reference to 'nothing'"},
		{"type", func(d *Definition) { d.Failed = "'yes'" }, false, "definition thing: failed: yields string, want bool"},
		{"optional type", func(d *Definition) { d.AppID = "optional.of(1)" }, false, "definition thing: appID: yields optional_type(int), want string"},
		{"cost", func(d *Definition) { d.Running = nested }, false, "definition thing: running: costs up to"},
		{"selector", func(d *Definition) { d.Pods.Selector = "a in b" }, false, "definition thing: pods.selector: "},
		{"label and owner", func(d *Definition) { d.Pods.Label, d.Pods.Owner = "x", &Owner{} }, false, "definition thing: pods.owner: pods are found by label or by owner"},
		{"depth", func(d *Definition) { d.Pods.Owner = &Owner{Depth: 3} }, false, "definition thing: pods.owner.through: a chain of several owners"},
		{"deep", func(d *Definition) { d.Pods.Owner = &Owner{Depth: 99} }, false, "definition thing: pods.owner.depth: 99 is not between"},
		{"through", func(d *Definition) { d.Pods.Owner = &Owner{Through: []Kind{{Kind: "Job"}}} }, false, "definition thing: pods.owner.through[0]: "},
		{"group name", func(d *Definition) { d.Groups = []Group{{MinMember: "1"}} }, false, "definition thing: groups[0].name: is needed"},
		{"group member", func(d *Definition) { d.Groups = []Group{{Name: "'a'", MinMember: "'1'"}} }, false, "definition thing: groups[0].minMember: yields string, want int"},
		{"each outside", func(d *Definition) { d.Groups = []Group{{Name: "each.name", MinMember: "1"}} }, false, "definition thing: groups[0].name: 1:1: undeclared reference to 'each'"},
		{"pod outside", func(d *Definition) { d.Queue = "pod.metadata.name" }, false, "definition thing: queue: 1:1: undeclared reference to 'pod'"},
		{"pod group", func(d *Definition) { d.Pods.Group = "object.spec.x" }, false, "definition thing: pods.group: 1:1: undeclared reference to 'object'"},

		{"unknown field", func(d *Definition) { d.Suspended = "object.spec.pausd" }, true, "definition thing: suspended: 1:12: undefined field 'pausd'"},
		{"field type", func(d *Definition) { d.Suspended = "object.spec.namespace" }, true, "definition thing: suspended: yields string, want bool"},
		{"optional field", func(d *Definition) { d.Queue = "object.?status.?fase" }, true, "definition thing: queue: 1:15: undefined field 'fase'"},
		{"of each", func(d *Definition) {
			d.Groups = []Group{{ForEach: "object.spec.parts", Name: "each.nam", MinMember: "1"}}
		}, true, "definition thing: groups[0].name: 1:5: undefined field 'nam'"},
		{"of each of a map", func(d *Definition) {
			d.Groups = []Group{{ForEach: "object.spec.named", Name: "key", MinMember: "each.replica"}}
		}, true, "definition thing: groups[0].minMember: 1:5: undefined field 'replica'"},
		{"metadata", func(d *Definition) { d.Queue = "object.metadata.label['q']" }, true, "definition thing: queue: 1:16: undefined field 'label'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, plain := Compile("thing", thing(tt.change), nil)
			_, typed := Compile("thing", thing(tt.change), thingSchema(t))
			if tt.typed && plain != nil {
				t.Errorf("without a schema: %v", plain)
			}
			if !tt.typed && (plain == nil || !strings.Contains(plain.Error(), tt.want)) {
				t.Errorf("without a schema: %v\nwant %s", plain, tt.want)
			}
			if typed == nil || !strings.Contains(typed.Error(), tt.want) {
				t.Errorf("with the schema: %v\nwant %s", typed, tt.want)
			}
			if mistake := (*Error)(nil); !errors.As(typed, &mistake) || mistake.Definition != "thing" {
				t.Errorf("no Error: %v", typed)
			}
		})
	}
}

// All mistakes are named at once.
func TestAllMistakesAreNamed(t *testing.T) {
	_, err := Compile("thing", thing(func(d *Definition) { d.Queue, d.User, d.Groups = "1", "2", []Group{{}} }), nil)
	for _, field := range []string{"queue", "user", "groups[0].name", "groups[0].minMember"} {
		if err == nil || !strings.Contains(err.Error(), ": "+field+": ") {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
}

// What a schema leaves open may be used with it.
func TestSchemaLeavesOpenWhatItDoesNotSay(t *testing.T) {
	for _, source := range []string{
		"object.spec.template.spec.containers[0].name", "object.status.extra.anything", "string(object.spec.size)",
		"object.metadata.labels['a/b']", "object.metadata.?annotations[?'a'].orValue('')", "object.spec.namespace",
		"object.metadata.namespace", "object.spec.since", "object.kind", "object.spec.named['x'].replicas == 1 ? 'a' : 'b'",
	} {
		if _, err := Compile("thing", thing(func(d *Definition) { d.Queue = source }), thingSchema(t)); err != nil {
			t.Error(err)
		}
	}
}

func TestParse(t *testing.T) {
	if _, err := Parse([]byte("apiVersion: v1\nkind: Thing\nquue: \"'a'\"\n")); err == nil || !strings.Contains(err.Error(), "quue") {
		t.Errorf("a field that does not exist: %v", err)
	}
	if _, err := Parse([]byte("preset: nothing\n")); err == nil || !strings.Contains(err.Error(), "jobset") {
		t.Errorf("a preset that does not exist: %v", err)
	}
	d, err := Parse([]byte("preset: jobset\nqueue: \"'root.sets'\"\ngroups: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != "JobSet" || d.Queue != "'root.sets'" || len(d.Groups) != 0 || d.Failed == "" {
		t.Errorf("a preset with changes: %+v", d)
	}
	again, err := Preset("jobset")
	if err != nil || again.Queue != "" || len(again.Groups) != 1 {
		t.Errorf("the preset itself has changed: %+v, %v", again, err)
	}
}

func ExampleError() {
	_, err := Compile("thing", Definition{APIVersion: "example.org/v1", Kind: "Thing", Queue: "objekt.spec.queue"}, nil)
	var mistake *Error
	fmt.Println(errors.As(err, &mistake), mistake.Field, mistake.Line, mistake.Column)
	// Output: true queue 1 1
}
