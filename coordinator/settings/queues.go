package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
	"go.yaml.in/yaml/v3"

	"github.com/understudy-ha/understudy/coordinator/engine/chatter"
)

// parseQueues reads queues as the core does, without checking what they say. What could be read
// comes with the error.
func parseQueues(text string) (*configs.SchedulerConfig, error) {
	conf := &configs.SchedulerConfig{}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(conf); err != nil && !errors.Is(err, io.EOF) {
		return conf, err
	}
	return conf, nil
}

// isDefault reports whether a partition of this name is the one that is scheduled.
func isDefault(name string) bool {
	return name == "" || strings.EqualFold(name, configs.DefaultPartition)
}

// checkQueues says everything that is wrong with queues.
func (l *list) checkQueues(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	chatter.Capture() // the core logs what it also returns
	conf, err := parseQueues(text)
	if typed := (*yaml.TypeError)(nil); errors.As(err, &typed) {
		for _, mistake := range typed.Errors {
			line, message := explainYAML(mistake)
			l.errorf(line, "%s", message)
		}
	} else if err != nil {
		line, message := explainYAML(strings.TrimPrefix(err.Error(), "yaml: "))
		l.errorf(line, "%s", message)
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	var document, more yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return // nothing but comments
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		l.warnf(more.Line, "only the first document is read")
	}
	c := checker{list: l, document: &document, budget: maxChecked, partial: err != nil}
	c.partitions(conf)
	slices.SortStableFunc(l.all, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}

var (
	yamlLine    = regexp.MustCompile(`^line (\d+): (?s:(.*))$`)
	yamlUnknown = regexp.MustCompile(`^field (.+) not found in type (\S+)$`)
	yamlKind    = regexp.MustCompile("^cannot unmarshal (!!\\w+)(?: `((?s:.*))`)? into (\\S+)$")
	yamlTwice   = regexp.MustCompile(`^mapping key (".*") already defined at line (\d+)$`)
)

// explainYAML puts a mistake that the YAML library has found into the words of users.
func explainYAML(mistake string) (line int, message string) {
	if m := yamlLine.FindStringSubmatch(mistake); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits; zero if too many
		mistake = m[2]
	}
	if m := yamlUnknown.FindStringSubmatch(mistake); m != nil {
		var fields []string
		if t, ok := types[m[2]]; ok {
			fields = fieldNames(t)
		}
		return line, "unknown field " + m[1] + hint(nearest(m[1], fields))
	}
	if m := yamlKind.FindStringSubmatch(mistake); m != nil {
		is := map[string]string{"!!seq": "a list", "!!map": "a mapping"}[m[1]]
		if is == "" {
			is = strconv.Quote(m[2])
		}
		return line, fmt.Sprintf("is %s, want %s", is, wanted(m[3]))
	}
	if m := yamlTwice.FindStringSubmatch(mistake); m != nil {
		return line, fmt.Sprintf("field %s is set twice, first in line %s", strings.Trim(m[1], `"`), m[2])
	}
	return line, mistake
}

// wanted says what a type of Go is in YAML.
func wanted(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["), strings.HasPrefix(goType, "configs."):
		return "a mapping"
	case strings.HasPrefix(goType, "uint"):
		return string(Uint)
	case goType == "bool":
		return string(Bool)
	case strings.HasPrefix(goType, "float"):
		return "a number"
	}
	return "text"
}

// types are those of the core's configuration, by the names that the YAML library gives them.
var types = typesBelow(reflect.TypeFor[configs.SchedulerConfig](), make(map[string]reflect.Type))

func typesBelow(t reflect.Type, found map[string]reflect.Type) map[string]reflect.Type {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		typesBelow(t.Elem(), found)
	case reflect.Struct:
		if _, known := found[t.String()]; known {
			break
		}
		found[t.String()] = t
		for i := range t.NumField() {
			typesBelow(t.Field(i).Type, found)
		}
	}
	return found
}

// fieldNames are the fields of a type of the core as YAML calls them.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		names = append(names, fieldName(t.Field(i)))
	}
	return names
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "" {
		name = strings.ToLower(f.Name)
	}
	return name
}

// at returns the node at a path of fields and indices, or the last before what is not there.
func at(n *yaml.Node, path ...any) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, step := range path {
		next := below(n, step)
		if next == nil {
			break
		}
		n = next
	}
	return n
}

// below returns what a mapping or list has; nil if it does not.
func below(n *yaml.Node, step any) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch step := step.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && step < len(n.Content) {
			return n.Content[step]
		}
	case string:
		if n.Kind != yaml.MappingNode {
			return nil
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "<<" {
				if found := below(n.Content[i+1], step); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// keyLine is the line of a key in the mapping at a path; that of the mapping if it is not there.
func keyLine(n *yaml.Node, key string) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.MappingNode {
		if i := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return c.Value == key }); i >= 0 {
			return n.Content[i].Line
		}
	}
	return n.Line
}
