package settings

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	openapi "k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is generated")

func TestSchemaIsUpToDate(t *testing.T) {
	const file = "../../docs/queues.schema.json"
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile(file)
	if err == nil && bytes.Equal(is, want) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./coordinator/settings -run %s -update", file, t.Name())
	}
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// schema is that for a validator which follows no references, as deep as queues are here.
func schema(t *testing.T) *spec.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	defs := root["$defs"].(map[string]any)
	for _, key := range []string{"$defs", "$schema", "$id"} {
		delete(root, key)
	}
	var expand func(v any, depth int) any
	expand = func(v any, depth int) any {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if depth == 0 {
					return map[string]any{}
				}
				return expand(defs[strings.TrimPrefix(ref, "#/$defs/")], depth-1)
			}
			out := make(map[string]any)
			for key, value := range v {
				out[key] = expand(value, depth)
			}
			return out
		case []any:
			out := make([]any, len(v))
			for i := range v {
				out[i] = expand(v[i], depth)
			}
			return out
		}
		return v
	}
	text, err = json.Marshal(expand(root, 7))
	if err != nil {
		t.Fatal(err)
	}
	s := &spec.Schema{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchema(t *testing.T) {
	v := openapi.NewSchemaValidator(schema(t), nil, "", strfmt.Default)
	const all = `partitions:
  - name: default
    placementrules:
      - {name: tag, value: namespace, create: true, filter: {type: deny, users: [ann], groups: ['^x$']}, parent: {name: Fixed, value: root.a}}
    limits: [{limit: x, users: ['*'], maxresources: {vcore: 1, memory: 1Gi}, maxapplications: 3}]
    preemption: {enabled: true, quotapreemptionenabled: false}
    nodesortpolicy: {type: binpacking, resourceweights: {vcore: 1.5, memory: 0}}
    usergroupresolver: {type: ldap}
    queues:
      - name: root
        submitacl: '*'
        adminacl: ann dev
        queues:
          - name: a
            parent: true
            childtemplate: {maxapplications: 1, properties: {application.sort.policy: fifo}, resources: {max: {vcore: 500m}}}
            resources: {guaranteed: {memory: 1G}, max: {memory: 2G, nvidia.com/gpu: 2}}
            properties: {priority.offset: 5, somebody.elses: 'true'}
checksum: x
`
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"good", good, true},
		{"everything", all, true},
		{"unknown field", strings.Replace(all, "submitacl", "submitACL", 1), false},
		{"unknown field below", strings.Replace(all, "guaranteed:", "guarantee:", 1), false},
		{"list for mapping", strings.Replace(all, "{memory: 1G}", "[1]", 1), false},
		{"amount", strings.Replace(all, "1Gi", "1.5Gi", 1), false},
		{"negative amount", strings.Replace(all, "vcore: 1,", "vcore: -1,", 1), false},
		{"name", strings.Replace(all, "name: a\n", "name: a.b\n", 1), false},
		{"maxapplications", strings.Replace(all, "maxapplications: 3", "maxapplications: -3", 1), false},
		{"boolean", strings.Replace(all, "enabled: true", "enabled: often", 1), false},
		{"rule", strings.Replace(all, "name: tag", "name: tags", 1), false},
		{"filter", strings.Replace(all, "type: deny", "type: refuse", 1), false},
		{"node sort policy", strings.Replace(all, "binpacking", "best", 1), false},
		{"weight", strings.Replace(all, "vcore: 1.5", "vcore: -1.5", 1), false},
	} {
		var data any
		if err := yaml.Unmarshal([]byte(c.text), &data); err != nil {
			t.Fatal(err)
		}
		result := v.Validate(data)
		if result.IsValid() != c.ok {
			t.Errorf("%s: %v", c.name, result.AsError())
		}
		// The core has the same opinion.
		if err := coreTakes(c.text); (err == nil) != c.ok && c.name != "rule" {
			t.Errorf("%s: the core says %v", c.name, err)
		}
	}
}
