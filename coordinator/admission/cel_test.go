package admission

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// evaluate says what CEL makes of an expression.
func evaluate(t *testing.T, expression string, vars map[string]any) any {
	t.Helper()
	options := []cel.EnvOption{cel.OptionalTypes(), ext.Strings(ext.StringsVersion(2))}
	for _, name := range []string{"request", "object", "oldObject", "namespaceObject"} {
		options = append(options, cel.Variable(name, cel.DynType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		t.Fatalf("%s: %v", expression, issues.Err())
	}
	program, err := env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := program.Eval(vars)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	if list, err := out.ConvertToNative(stringsType); err == nil {
		return list
	}
	return out.Value()
}

func asker(who authenticationv1.UserInfo, namespace string) map[string]any {
	groups := []any{}
	for _, g := range who.Groups {
		groups = append(groups, g)
	}
	return map[string]any{"userInfo": map[string]any{"username": who.Username, "groups": groups}, "namespace": namespace}
}

// stringsType is a list of texts.
var stringsType = reflect.TypeFor[[]string]()

var people = []authenticationv1.UserInfo{
	{Username: "ann", Groups: annGroups}, {Username: "nobody"}, {Username: controller},
	{Username: `o"brien`, Groups: []string{`a,b`, `c\`, "line\nbreak", "tab\there", "]}", ""}},
	{Username: "\u2028é漢\x7f", Groups: []string{"\x00\x01\x1f", `\u0041`, `\"`, "</script>&"}},
}

// What the API server computes has to be what the replicas compute, to the letter.
func TestCELNamesUsersAsGoDoes(t *testing.T) {
	for _, who := range people {
		if got, want := evaluate(t, celUserInfo(), map[string]any{"request": asker(who, "")}), userInfo(who); got != want {
			t.Errorf("CEL %s\nGo  %s", got, want)
		}
	}
}

// YuniKorn's admission controller marshals the user: what it has written passes the guard.
func TestUsersAreNamedAsYuniKornNamesThem(t *testing.T) {
	for _, who := range people {
		type yunikorn struct {
			User   string   `json:"user"`
			Groups []string `json:"groups"`
		}
		want, err := json.Marshal(yunikorn{who.Username, append([]string{}, who.Groups...)})
		if got := userInfo(who); err != nil || got != string(want) {
			t.Errorf("%s, want %s, %v", got, want, err)
		}
	}
}

func TestCELTrustsWhomGoTrusts(t *testing.T) {
	for _, config := range []set{nil, {keyTrust: "false"}, {keySystem: `"bri, é`}, {keyUsers: "^ann$,x"}, {keyGroups: `^]}$,^c\\$`}} {
		s := settingsOf(t, config)
		for _, who := range people {
			_, want := s.trusts(who.Username, who.Groups)
			if got := evaluate(t, celTrusted(s), map[string]any{"request": asker(who, "")}); got != want {
				t.Errorf("%v, %q: CEL %v, Go %v", config, who.Username, got, want)
			}
		}
	}
}

func TestCELTreatsNamespacesAsGoDoes(t *testing.T) {
	for _, config := range []set{nil, {keyBypass: "^a"}, {keyProcess: "a,b$"}, {keyProcess: "a", keyBypass: "a$"}, {keyProcess: "[a-c]{2}"}} {
		s := settingsOf(t, config)
		for _, name := range []string{"a", "ab", "xb", "kube-system", "none"} {
			for _, annotations := range []set{nil, {annotationEnable: "true"}, {annotationEnable: "false"}, {annotationEnable: "?"}} {
				want := s.treat(name, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}}).process
				metadata := map[string]any{}
				if annotations != nil {
					metadata["annotations"] = annotations
				}
				got := evaluate(t, celChoose(annotationEnable, s.Process, s.Bypass), map[string]any{
					"request": asker(people[0], name), "namespaceObject": map[string]any{"metadata": metadata},
				})
				if got != want {
					t.Errorf("%v, %s, %v: CEL %v, Go %v", config, name, annotations, got, want)
				}
			}
		}
	}
}

// The policies find user.info in all templates in which the rules find it.
func TestCELFindsTheTemplates(t *testing.T) {
	for _, w := range append(append([]Workload{podWorkload()}, BuiltIn()...), Custom()...) {
		for i, p := range w.Annotations {
			object := map[string]any{}
			grow(object, append(slices.Clone(p.Within), p.Below...))
			only := Workload{Name: w.Name, Annotations: []Place{p}}
			places, err := only.holders(raw(t, object).Raw)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, place := range places {
				want = append(want, place.annotations[userKey])
			}
			got := evaluate(t, celValues("object", p), map[string]any{"object": object})
			list, ok := got.([]string)
			slices.Sort(list)
			if slices.Sort(want); !ok || len(want) == 0 || !slices.Equal(list, want) {
				t.Errorf("%s, place %d: CEL %v, Go %v", w.Name, i, got, want)
			}
			none, _ := evaluate(t, celValues("object", p), map[string]any{"object": map[string]any{}}).([]string)
			for _, value := range none {
				if value != "" {
					t.Errorf("%s, place %d: %v in nothing", w.Name, i, none)
				}
			}
		}
	}
}

// grow makes an object that has what a path leads to, twice where it leads to several.
func grow(at map[string]any, path []string) {
	if len(path) == 0 {
		at[userKey] = fmt.Sprintf("user-%d", len(fmt.Sprint(at)))
		return
	}
	inner := func(i int) map[string]any {
		next := map[string]any{"nth": fmt.Sprint(i)}
		rest := path[1:]
		if len(path) > 1 && (path[1] == everyItem || path[1] == everyKey) {
			rest = path[2:]
		}
		grow(next, rest)
		return next
	}
	switch {
	case len(path) > 1 && path[1] == everyItem:
		at[path[0]] = []any{inner(1), inner(10)}
	case len(path) > 1 && path[1] == everyKey:
		at[path[0]] = map[string]any{"x": inner(1), "y": inner(10)}
	default:
		at[path[0]] = inner(1)
	}
}
