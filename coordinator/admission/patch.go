package admission

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Operation is one of a JSON patch.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patch collects what is to be changed in an object.
type patch []Operation

func (p *patch) add(value any, path ...string) {
	*p = append(*p, Operation{Op: "add", Path: pointer(path), Value: value})
}

// set adds entries to a map of strings that is at path and holds had. What is there
// already is not written again: nothing else in the map is touched.
func (p *patch) set(had, want map[string]string, path ...string) {
	if had == nil {
		if len(want) > 0 {
			p.add(want, path...)
		}
		return
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if now, ok := had[key]; !ok || now != want[key] {
			p.add(want[key], append(slices.Clone(path), key)...)
		}
	}
}

// pointer is a path as JSON patches have it.
func pointer(path []string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, part := range path {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}

// encode returns the patch, nil if it changes nothing.
func (p patch) encode() ([]byte, error) {
	if len(p) == 0 {
		return nil, nil
	}
	return json.Marshal([]Operation(p))
}

// index is the part of a path that names an element of a list.
func index(i int) string { return strconv.Itoa(i) }
