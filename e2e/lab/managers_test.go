package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestParseManagers(t *testing.T) {
	list := []any{map[string]any{"name": "job", "settings": map[string]any{"preset": "job"}}, map[string]any{"name": "general"}}
	for name, c := range map[string]struct {
		text string
		want []any
	}{
		"list":      {"- {name: job, settings: {preset: job}}\n- name: general\n", list},
		"field":     {"schedulerName: yunikorn\nmanagers:\n- {name: job, settings: {preset: job}}\n- name: general\n", list},
		"no field":  {"schedulerName: yunikorn\n", nil},
		"no list":   {"managers: {name: general}\n", nil},
		"none":      {"[]\n", nil},
		"empty":     {"", nil},
		"malformed": {"- {\n", nil},
	} {
		got, err := ParseManagers([]byte(c.text))
		if !reflect.DeepEqual(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s: %v (%v), want %v", name, got, err, c.want)
		}
	}
}

func TestReadManifests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b.yaml", "# nothing but a comment\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: last}\n")
	write("a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: first}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: second, generation: 7}\n")
	write("README.md", "not a manifest")
	names := func(path string) (names []string) {
		t.Helper()
		objects, err := ReadManifests(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			names = append(names, o.GetName())
		}
		return names
	}
	if got, want := names(dir), []string{"first", "second", "last"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the directory holds %v, want %v", got, want)
	}
	if got, want := names(filepath.Join(dir, "b.yaml")), []string{"last"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the file holds %v, want %v", got, want)
	}
	write("c.yaml", "apiVersion: v1\nkind: Pod\nkind: Node\n")
	if _, err := ReadManifests(dir); err == nil {
		t.Error("a key that is there twice went unnoticed")
	}
	if _, err := ReadManifests(filepath.Join(dir, "missing.yaml")); err == nil {
		t.Error("a file that is missing went unnoticed")
	}
}
