package custom

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What trim takes away makes no difference to what is said of an object.
func TestTrimTakesAwayWhatNobodyReads(t *testing.T) {
	for _, name := range Presets() {
		p, ex := compiled(t, name), readExample(t, name)
		for _, state := range slices.Sorted(maps.Keys(ex.States)) {
			object := manifest(t, ex.Object, ex.States[state].Patch)
			unread := object.DeepCopy()
			for _, field := range []string{"spec", "status"} {
				content, _ := unread.Object[field].(map[string]any)
				if content == nil {
					content = map[string]any{}
					unread.Object[field] = content
				}
				content["unread"] = map[string]any{"much": "of it"}
			}
			want, err := p.Evaluate(unread, Surroundings{SchedulerName: "yunikorn"})
			if err != nil {
				t.Fatal(err)
			}
			p.trim(unread)
			got, err := p.Evaluate(unread, Surroundings{SchedulerName: "yunikorn"})
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %+v, %v\nwant %+v", name, state, got, err, want)
			}
			for _, field := range []string{"spec", "status"} {
				if left, ok, _ := unstructured.NestedFieldNoCopy(unread.Object, field, "unread"); ok {
					t.Errorf("%s, %s: %s.unread = %v is kept", name, state, field, left)
				}
			}
		}
	}
}

func TestReads(t *testing.T) {
	for _, tt := range []struct {
		source string
		want   fields // besides apiVersion, kind and metadata; nil for everything
	}{
		{"object.spec.a", fields{"spec": {"a": nil}}},
		{"object.?spec[?'a'].?b.orValue('')", fields{"spec": {"a": {"b": nil}}}},
		{"object['spec'].a[0].b", fields{"spec": {"a": nil}}},
		{"has(object.spec.a) ? object.spec.a.b : object.status.c", fields{"spec": {"a": nil}, "status": {"c": nil}}},
		{"object.spec.list.map(o, o.name + object.status.x)[0]", fields{"spec": {"list": nil}, "status": {"x": nil}}},
		{"object.spec[object.status.key]", fields{"spec": nil, "status": {"key": nil}}},
		{"'x' in object ? 'a' : 'b'", nil},
		{"[object].map(o, o.spec.a)[0]", nil},
	} {
		p, err := Compile("thing", thing(func(d *Definition) { d.Queue = tt.source }), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(tt.want)
		if want != nil {
			maps.Copy(want, fields{"apiVersion": nil, "kind": nil, "metadata": nil})
		}
		if !reflect.DeepEqual(p.reads, want) {
			t.Errorf("%s reads %v, want %v", tt.source, p.reads, want)
		}
	}
}
