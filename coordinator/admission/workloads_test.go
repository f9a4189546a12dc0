package admission

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/managers/custom"
)

// templated is an object with a pod template at a place; metadata may be nil.
func templated(within []string, metadata map[string]any) map[string]any {
	object := map[string]any{}
	at := object
	for _, key := range within {
		next := map[string]any{}
		at[key] = next
		at = next
	}
	at["spec"] = map[string]any{"containers": []any{}}
	if metadata != nil {
		at["metadata"] = metadata
	}
	return object
}

func annotated(annotations set) map[string]any {
	inner := map[string]any{}
	for k, v := range annotations {
		inner[k] = v
	}
	return map[string]any{"labels": map[string]any{"a": "b"}, "annotations": inner}
}

func TestWorkloads(t *testing.T) {
	const refused = "user ann with groups"
	other := map[string]any{"labels": map[string]any{"other": "b"}}
	for _, w := range BuiltIn() {
		within := w.Annotations[0].Within
		for _, c := range []struct {
			name    string
			config  set
			user    string
			is, was map[string]any // metadata of the template
			updated bool
			refusal string
			want    string // user.info
		}{
			{name: "created", want: annInfo},
			{name: "created with annotations", is: annotated(set{"x": "y"}), want: annInfo},
			{name: "created in a bypassed namespace", config: set{keyBypass: "team"}},
			{name: "created where there are no labels", config: set{keyNoLabel: "team"}},
			{name: "created where there are no labels, with an app ID", config: set{keyNoLabel: "team"}, is: map[string]any{"labels": map[string]any{appKey: "a"}}, want: annInfo},
			{name: "created with a name", is: annotated(set{userKey: annInfo}), want: annInfo},
			{name: "forged", is: annotated(set{userKey: bobInfo}), refusal: refused},
			{name: "forged in a bypassed namespace", config: set{keyBypass: "team"}, is: annotated(set{userKey: bobInfo}), refusal: refused},
			{name: "named by a controller", user: controller, is: annotated(set{userKey: bobInfo}), want: bobInfo},
			{name: "no authentication", config: set{keyBypassAuth: "true"}, is: annotated(set{userKey: bobInfo}), want: bobInfo},
			{name: "updated", updated: true, is: annotated(set{userKey: bobInfo, "x": "y"}), was: annotated(set{userKey: bobInfo}), want: bobInfo},
			{name: "forged later", updated: true, is: annotated(set{userKey: bobInfo}), was: annotated(set{userKey: annInfo}), refusal: refused},
			{name: "replaced without it", updated: true, is: other, was: annotated(set{userKey: bobInfo}), want: bobInfo},
			{name: "old and unchanged", updated: true, is: other, was: other},
			{name: "old and changed", updated: true, is: other, was: annotated(set{"x": "y"}), want: annInfo},
			{name: "old and changed by a controller", updated: true, user: controller, is: other, was: annotated(set{"x": "y"})},
		} {
			t.Run(w.Name+"/"+c.name, func(t *testing.T) {
				var old any
				if c.updated {
					old = templated(within, c.was)
				}
				req := requestFor(t, w.Group+"/"+w.Resource, templated(within, c.is), old)
				if c.user != "" {
					req.UserInfo.Username = c.user
				}
				rules := Rules{Settings: settingsOf(t, c.config), SchedulerName: "yunikorn", Workloads: BuiltIn(), Facts: known{}}
				d, err := rules.Mutate(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(d.Refusal, c.refusal) || (c.refusal == "") != (d.Refusal == "") {
					t.Fatalf("refusal %q, want %q", d.Refusal, c.refusal)
				}
				if c.refusal != "" {
					return
				}
				object := patched(t, req, d)
				if got := inMap(object, append(slices.Clone(within), "metadata", "annotations")...)[userKey]; got != c.want {
					t.Errorf("user.info %q, want %q", got, c.want)
				}
				req.Object = raw(t, object)
				if again, err := rules.Mutate(t.Context(), req); err != nil || again.Refusal != "" || len(again.Patch) > 0 {
					t.Errorf("asked again: %+v, %v", again, err)
				}
			})
		}
	}
}

// A controller that finds its ReplicaSet changed would make another, for ever.
func TestReplicaSetsOfControllersAreLeftAlone(t *testing.T) {
	req := requestFor(t, "apps/replicasets", templated([]string{"spec", "template"}, nil), nil)
	req.UserInfo.Username = controller
	d, err := Rules{Settings: settingsOf(t, nil), SchedulerName: "yunikorn", Workloads: BuiltIn(), Facts: known{}}.Mutate(t.Context(), req)
	if err != nil || d.Refusal != "" || len(d.Patch) > 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// withoutTemplates are kinds whose objects hold no pod template.
var withoutTemplates = []string{"trainjob"}

func TestEveryKindThatAManagerTakesIsKnown(t *testing.T) {
	var names []string
	for _, w := range append(BuiltIn(), Custom()...) {
		names = append(names, w.Name)
	}
	for _, preset := range custom.Presets() {
		definition, err := custom.Preset(preset)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(withoutTemplates, preset) {
			continue
		}
		if !slices.Contains(names, preset) {
			t.Errorf("nothing is known of %s", preset)
			continue
		}
		for _, w := range append(BuiltIn(), Custom()...) {
			version := strings.TrimPrefix(w.Group+"/"+w.Version, "/")
			if w.Name == preset && definition.APIVersion != version {
				t.Errorf("%s is %s, and not %s", preset, definition.APIVersion, version)
			}
		}
	}
}

// TestCustomResources tells the user to the examples, in every template.
func TestCustomResources(t *testing.T) {
	for _, c := range []struct{ workload, object, want string }{
		{"jobset", `{"spec":{"replicatedJobs":[{"template":{"spec":{"template":{"spec":{}}}}},{"template":{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}}]}}`,
			`{"spec":{"replicatedJobs":[{"template":{"spec":{"template":{"metadata":{"annotations":USER},"spec":{}}}}},{"template":{"spec":{"template":{"metadata":{"annotations":USER+}}}}}]}}`},
		{"rayjob", `{"spec":{"rayClusterSpec":{"headGroupSpec":{"template":{}},"workerGroupSpecs":[{"template":{}}]}}}`,
			`{"spec":{"rayClusterSpec":{"headGroupSpec":{"template":{"metadata":{"annotations":USER}}},"workerGroupSpecs":[{"template":{"metadata":{"annotations":USER}}}]}}}`},
		{"pytorchjob", `{"spec":{"pytorchReplicaSpecs":{"Master":{"template":{}},"Worker":{"template":{}}}}}`,
			`{"spec":{"pytorchReplicaSpecs":{"Master":{"template":{"metadata":{"annotations":USER}}},"Worker":{"template":{"metadata":{"annotations":USER}}}}}}`},
		{"leaderworkerset", `{"spec":{"leaderWorkerTemplate":{"workerTemplate":{}}}}`, `{"spec":{"leaderWorkerTemplate":{"workerTemplate":{"metadata":{"annotations":USER}}}}}`},
		{"workflow", `{"spec":{}}`, `{"spec":{"podMetadata":{"annotations":USER}}}`},
		{"flinkdeployment", `{"spec":{}}`, `{"spec":{"podTemplate":{"metadata":{"annotations":USER}}}}`},
		{"spark-operator", `{"spec":{"driver":{},"executor":{"annotations":{"a":"b"}}}}`, `{"spec":{"driver":{"annotations":USER},"executor":{"annotations":USER+}}}`},
	} {
		t.Run(c.workload, func(t *testing.T) {
			chosen, err := Choose([]string{c.workload})
			if err != nil {
				t.Fatal(err)
			}
			w := chosen[len(chosen)-1]
			req := requestFor(t, w.Group+"/"+w.Resource, json.RawMessage(c.object), nil)
			rules := Rules{Settings: settingsOf(t, nil), SchedulerName: "yunikorn", Workloads: chosen, Facts: known{}}
			d, err := rules.Mutate(t.Context(), req)
			if err != nil || d.Refusal != "" {
				t.Fatalf("%+v, %v", d, err)
			}
			user, _ := json.Marshal(set{userKey: annInfo})
			more, _ := json.Marshal(set{userKey: annInfo, "a": "b"})
			want := strings.NewReplacer("USER+", string(more), "USER", string(user)).Replace(c.want)
			if got, _ := json.Marshal(patched(t, req, d)); !sameJSON(t, got, []byte(want)) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	if _, err := Choose([]string{"nonsense"}); err == nil || !strings.Contains(err.Error(), "spark-operator") {
		t.Errorf("%v", err)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var of [2]any
	for i, data := range [][]byte{a, b} {
		if err := json.Unmarshal(data, &of[i]); err != nil {
			t.Fatal(err)
		}
	}
	x, _ := json.Marshal(of[0])
	y, _ := json.Marshal(of[1])
	return string(x) == string(y)
}

// The examples of presets are real objects: what is told has to fit into them.
func TestExamplesOfPresets(t *testing.T) {
	for _, w := range Custom() {
		data, err := os.ReadFile("../managers/custom/testdata/" + w.Name + ".yaml")
		if err != nil {
			continue // it is no preset
		}
		told := 0
		for _, object := range documents(t, data) {
			example, _ := object.(map[string]any)
			req := requestFor(t, w.Group+"/"+w.Resource, example["object"], nil)
			req.UserInfo.Username = controller // one of them names a user
			d, err := Rules{Settings: settingsOf(t, nil), SchedulerName: "yunikorn", Workloads: []Workload{w}, Facts: known{}}.Mutate(t.Context(), req)
			if err != nil || d.Refusal != "" {
				t.Errorf("%s: %+v, %v", w.Name, d, err)
			}
			req.Object = raw(t, patched(t, req, d))
			places, err := w.holders(req.Object.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, place := range places {
				if place.annotations[userKey] == "" {
					t.Errorf("%s: %s names nobody", w.Name, pointer(place.path))
				}
			}
			told += len(places)
		}
		if told == 0 {
			t.Errorf("%s: no example has a place for the user", w.Name)
		}
	}
}
