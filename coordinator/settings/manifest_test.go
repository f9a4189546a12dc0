package settings

import (
	"errors"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

const manifests = `apiVersion: v1
kind: ConfigMap
metadata: {name: yunikorn-configs, namespace: yunikorn}
data:
  queues.yaml: |
    partitions:
      - name: default
        queues: [{name: root, colour: red}]
  service.clusterId: "x"
  kubernetes.qps: 5
---
# nothing
---
kind: Deployment
metadata: {name: d}
---
apiVersion: v1
kind: List
items:
  - kind: ConfigMap
    metadata: {name: yunikorn-defaults}
    data: {log.level: LOUD}
`

func TestReadFile(t *testing.T) {
	f, err := ReadFile([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.ConfigMaps) != 2 || f.ConfigMaps[0].Name != ConfigMap || f.ConfigMaps[0].Namespace != "yunikorn" || f.ConfigMaps[1].Data[KeyLogLevel] != "LOUD" {
		t.Fatalf("%+v", f.ConfigMaps)
	}
	expect(t, f.Problems, "error kubernetes.qps:0 is not a text: put 5 in quotes")
	held, err := Ordered(f.ConfigMaps, DefaultsConfigMap, ConfigMap)
	if err != nil || held[0].Name != DefaultsConfigMap {
		t.Fatalf("%v, %v", held, err)
	}
	problems := Validate(held...)
	expect(t, problems, "error log.level:0 unknown log level", "error queues.yaml:3 unknown field colour")
	lines := strings.Split(manifests, "\n")
	for i, want := range []string{"LOUD", "colour: red"} {
		p := problems[i]
		if line := f.Line(p.ConfigMap, p.Key, p.Line); line == 0 || !strings.Contains(lines[line-1], want) {
			t.Errorf("%s: line %d", p.Key, line)
		}
	}
}

func TestKindsOfFiles(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		data map[string]string
	}{
		"queues":      {good, map[string]string{"queues.yaml": good}},
		"keys":        {"log.level: INFO\nservice.clusterId: x\n", map[string]string{"log.level": "INFO", "service.clusterId": "x"}},
		"JSON":        {`{"kind":"ConfigMap","data":{"a":"b"}}`, map[string]string{"a": "b"}},
		"no data":     {"kind: ConfigMap\n", map[string]string{}},
		"data is odd": {"kind: ConfigMap\ndata: [1]\n", map[string]string{}},
	} {
		f, err := ReadFile([]byte(c.text))
		if err != nil || len(f.ConfigMaps) != 1 || len(f.ConfigMaps[0].Data) != len(c.data) {
			t.Errorf("%s: %+v, %v", name, f, err)
			continue
		}
		for key, value := range c.data {
			if f.ConfigMaps[0].Data[key] != value {
				t.Errorf("%s: %s is %q", name, key, f.ConfigMaps[0].Data[key])
			}
		}
	}
	for name, text := range map[string]string{"nothing": "", "a list": "[1]", "another kind": "kind: Pod\n", "a mapping of other things": "a: {b: c}\n"} {
		if _, err := ReadFile([]byte(text)); !errors.Is(err, ErrNoConfiguration) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadFile([]byte("a: [")); err == nil || errors.Is(err, ErrNoConfiguration) {
		t.Errorf("no YAML: %v", err)
	}
	packed, err := ReadFile([]byte("kind: ConfigMap\nmetadata: {name: x}\nbinaryData: {queues.yaml.gz: '?', a: AQ==}\ndata: {a: {b: c}, a: d}\n"))
	if err != nil || string(packed.ConfigMaps[0].BinaryData["a"]) != "\x01" {
		t.Fatalf("%+v, %v", packed, err)
	}
	expect(t, packed.Problems, "error a:0 is not a text", "error a:0 is set twice", "error queues.yaml.gz:0 is not base64")
}

func TestOrdered(t *testing.T) {
	a, b, plain := configMap("a", nil), configMap("b", nil), configMap("", nil)
	if held, err := Ordered([]*v1.ConfigMap{plain, b, configMap("other", nil), a}, "a", "b"); err != nil || !slices.Equal(held, []*v1.ConfigMap{a, b, plain}) {
		t.Errorf("%v, %v", held, err)
	}
	if _, err := Ordered([]*v1.ConfigMap{configMap("other", nil)}, "a", "b"); !errors.Is(err, ErrNoConfiguration) || !strings.Contains(err.Error(), "other") {
		t.Errorf("%v", err)
	}
}

func FuzzReadFile(f *testing.F) {
	for _, seed := range []string{manifests, good, "a.b: c", "kind: List\nitems: [{kind: List, items: [&a {kind: ConfigMap, data: *a}]}]", "kind: [ConfigMap]", "<<: {kind: ConfigMap}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := ReadFile(text)
		if err != nil {
			return
		}
		for _, p := range Validate(file.ConfigMaps...) {
			if line := file.Line(p.ConfigMap, p.Key, p.Line); line < 0 {
				t.Fatalf("line %d", line)
			}
		}
	})
}
