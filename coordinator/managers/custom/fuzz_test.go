package custom

import (
	"encoding/json"
	"errors"
	"testing"

	"go.yaml.in/yaml/v3"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "sigs.k8s.io/yaml"
)

// No definition and no object makes it panic or hang, and what it says of an object is
// whole.
func FuzzEvaluate(f *testing.F) {
	for _, name := range Presets() {
		d, err := Preset(name)
		if err != nil {
			f.Fatal(err)
		}
		definition, err := yaml.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		ex := readExample(f, name)
		object, err := json.Marshal(ex.Object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(definition, object)
	}
	f.Add([]byte("kind: A\napiVersion: v1\nqueue: object.a[object.b]\ngroups: [{forEach: object, name: key, minMember: each}]"), []byte(`{"kind":"A","apiVersion":"v1","b":1,"a":[null]}`))
	f.Fuzz(func(t *testing.T, definition, manifest []byte) {
		d, err := Parse(definition)
		if err != nil {
			return
		}
		p, err := Compile("fuzz", d, nil)
		if err != nil {
			return
		}
		var pod v1.Pod
		if kyaml.Unmarshal(manifest, &pod) == nil {
			p.fromPod(&pod)
			_, _ = p.groupOf(&pod, "yunikorn")
		}
		object := &unstructured.Unstructured{}
		if object.UnmarshalJSON(manifest) != nil {
			return
		}
		e, err := p.Evaluate(object, Surroundings{SchedulerName: "yunikorn", UserLabel: "user"})
		if is := (*EvaluationError)(nil); err != nil && !errors.As(err, &is) {
			t.Errorf("not an EvaluationError: %v", err)
		}
		if err == nil && e.Matches && (e.App.ApplicationID == "" || e.Phase == "" || e.App.User == "") {
			t.Errorf("no application: %+v", e)
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	for _, name := range Presets() {
		b.Run(name, func(b *testing.B) {
			p, ex := compiled(b, name), readExample(b, name)
			object := manifest(b, ex.Object, ex.States["running"].Patch)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Evaluate(object, Surroundings{SchedulerName: "yunikorn"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
