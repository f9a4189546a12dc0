package custom

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func evaluate(t *testing.T, change func(*Definition), object map[string]any) (Evaluation, error) {
	t.Helper()
	p, err := Compile("thing", thing(change), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Evaluate(&unstructured.Unstructured{Object: object}, Surroundings{SchedulerName: "yunikorn"})
}

func someThing(spec map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": "example.org/v1", "kind": "Thing", "spec": spec,
		"metadata": map[string]any{"namespace": "ns", "name": "a", "uid": "0123-4"},
	}
}

func TestErrorsNameTheObject(t *testing.T) {
	long := make([]any, 4000)
	for i := range long {
		long[i] = map[string]any{"name": strings.Repeat("x", 100)}
	}
	for _, tt := range []struct {
		name   string
		change func(*Definition)
		spec   map[string]any
		want   string
	}{
		{"missing", func(d *Definition) { d.Queue = "object.spec.queue" }, nil, "definition thing: ns/a: queue: no such key: queue"},
		{"wrong type", func(d *Definition) { d.Suspended = "object.spec.paused" }, map[string]any{"paused": "yes"}, "definition thing: ns/a: suspended: yields string, want bool"},
		{"not a number", func(d *Definition) { d.Groups = []Group{{Name: "'g'", MinMember: "object.spec.n"}} }, map[string]any{"n": "3"}, "groups[0].minMember: yields string, want int"},
		{"half a member", func(d *Definition) { d.Groups = []Group{{Name: "'g'", MinMember: "object.spec.n"}} }, map[string]any{"n": 1.5}, "groups[0].minMember: yields double, want int"},
		{"not a list", func(d *Definition) {
			d.Groups = []Group{{ForEach: "object.spec.n", Name: "'g'", MinMember: "1"}}
		}, map[string]any{"n": "x"}, "groups[0].forEach: yields string, want list or map"},
		{"too many groups", func(d *Definition) {
			d.Groups = []Group{{ForEach: "object.spec.n", Name: "'g'", MinMember: "1"}}
		}, map[string]any{"n": long}, "groups[0].forEach: yields more than 1000 elements"},
		{"template", func(d *Definition) { d.Template = "object.spec.t" }, map[string]any{"t": map[string]any{
			"spec": map[string]any{"containers": []any{"x"}}}}, "template: containers of the pod template: not a list of containers"},
		{"quantity that costs minutes", func(d *Definition) { d.Template = "object.spec.t" }, map[string]any{"t": map[string]any{
			"spec": map[string]any{"containers": []any{map[string]any{"resources": map[string]any{"requests": map[string]any{"cpu": "1e-2000000000"}}}}},
		}}, `template: the pod template: cpu: "1e-2000000000": not a quantity`},
		{"cost of a call", func(d *Definition) { d.Running = "object.spec.n.all(a, object.spec.n.all(b, a.name == b.name))" }, map[string]any{"n": long}, "running: operation cancelled: actual cost limit exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := evaluate(t, tt.change, someThing(tt.spec))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
			if is := (*EvaluationError)(nil); !errors.As(err, &is) || is.Object != "ns/a" || is.Definition != "thing" {
				t.Errorf("no EvaluationError: %#v", err)
			}
		})
	}
}

// Each expression stays below the limit of one, and all together exceed that of an object.
func TestTheExpressionsOfAnObjectShareABudget(t *testing.T) {
	list := make([]any, 100)
	for i := range list {
		list[i] = int64(i)
	}
	costly := "object.spec.n.exists(a, object.spec.n.exists(b, a + b < 0))"
	change := func(groups int) func(*Definition) {
		return func(d *Definition) {
			for range groups {
				d.Groups = append(d.Groups, Group{Name: costly + " ? 'a' : 'b'", MinMember: "0"})
			}
		}
	}
	if _, err := evaluate(t, change(1), someThing(map[string]any{"n": list})); err != nil {
		t.Errorf("one: %v", err)
	}
	_, err := evaluate(t, change(60), someThing(map[string]any{"n": list}))
	if err == nil || !strings.Contains(err.Error(), "cost more than 1000000 together") {
		t.Errorf("sixty: %v", err)
	}
}

// What users get wrong in their groups costs them the gang, as it does on pods, and
// nothing else.
func TestGroupsThatAreNone(t *testing.T) {
	groups := func(name, members, resource string) func(*Definition) {
		return func(d *Definition) {
			d.Groups = []Group{{Name: "'fine'", MinMember: "1"}, {Name: name, MinMember: members, MinResource: resource}}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*Definition)
		groups int
		want   string
	}{
		{"zero", groups("'none'", "0", ""), 1, `task group "none" is left out: it needs no member`},
		{"below zero", groups("'none'", "-3", ""), 1, `task group "none" is left out: it needs no member`},
		{"twice", groups("'fine'", "1", ""), 0, "is there twice"},
		{"without a name", groups("''", "1", ""), 0, "has no name"},
		{"too many", groups("'g'", "20001", ""), 0, "more than 20000 members"},
		{"far too many", groups("'g'", "9223372036854775807", ""), 0, "cannot unmarshal number 9223372036854775807"},
		{"resource", groups("'g'", "1", "{'cpu': 'much'}"), 0, "not a quantity"},
		{"negative", groups("'g'", "1", "{'cpu': -1}"), 0, "below zero"},
		{"not a number", groups("'g'", "1", "{'cpu': [1]}"), 0, "not a quantity"},
		{"fine", groups("'g'", "2", "{'cpu': dyn(0.5), 'memory': dyn(quantity('1Gi')), 'x.y/gpu': dyn(2u)}"), 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := evaluate(t, tt.change, someThing(nil))
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(e.Warnings, "; ")
			if len(e.App.TaskGroups) != tt.groups || !strings.Contains(said, tt.want) || (tt.want == "") != (said == "") {
				t.Errorf("%d groups, warnings %q; want %d, %q", len(e.App.TaskGroups), said, tt.groups, tt.want)
			}
		})
	}
}

func TestAppIDs(t *testing.T) {
	labelled := someThing(nil)
	labelled["metadata"].(map[string]any)["labels"] = map[string]any{"applicationId": "mine"}
	long := someThing(nil)
	long["metadata"].(map[string]any)["name"] = strings.Repeat("n", 80)
	for _, tt := range []struct {
		name   string
		appID  string
		object map[string]any
		want   string
	}{
		{"made up", "", someThing(nil), "thing-ns-a-0123"},
		{"made up, long", "", long, "thing-ns-" + strings.Repeat("n", 49) + "-0123"},
		{"label", "", labelled, "mine"},
		{"expression", "'x-' + object.metadata.name", labelled, "x-a"},
		{"expression without a value", "object.metadata.?labels[?'nothing']", labelled, "mine"},
		{"null", "object.metadata.name == 'a' ? dyn(null) : dyn('')", someThing(nil), "thing-ns-a-0123"},
	} {
		e, err := evaluate(t, func(d *Definition) { d.AppID = tt.appID }, tt.object)
		if err != nil || e.App.ApplicationID != tt.want || len(e.App.ApplicationID) > maxLabel {
			t.Errorf("%s: %q, %v; want %q", tt.name, e.App.ApplicationID, err, tt.want)
		}
	}
}

// Nobody checks who wrote an annotation on a custom resource.
func TestAnObjectDoesNotNameItsUserInfo(t *testing.T) {
	object := someThing(nil)
	object["metadata"].(map[string]any)["annotations"] = map[string]any{"yunikorn.apache.org/user.info": `{"user":"root"}`}
	e, err := evaluate(t, func(*Definition) {}, object)
	if err != nil || e.App.User != "nobody" {
		t.Errorf("user = %q, %v", e.App.User, err)
	}
}
