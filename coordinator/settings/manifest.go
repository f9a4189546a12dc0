package settings

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	v1 "k8s.io/api/core/v1"
)

// File is what a text holds of a configuration.
type File struct {
	// ConfigMaps are those in the text. A plain queues.yaml, or a mapping of keys and values,
	// counts as one without a name.
	ConfigMaps []*v1.ConfigMap
	// Problems are what the API server would refuse.
	Problems []Problem
	// lines are where the values of keys begin in the text, less one, by ConfigMap and key.
	lines map[[2]string]int
}

// ErrNoConfiguration says that a text holds no ConfigMap, no queues and no keys.
var ErrNoConfiguration = errors.New("no ConfigMap, no queues and no keys of YuniKorn's")

// Line returns the line of the text for a line of a value; zero if it cannot be said.
func (f *File) Line(configMap, key string, line int) int {
	if begin, ok := f.lines[[2]string{configMap, key}]; ok {
		return begin + max(line, 1)
	}
	return 0
}

// ReadFile reads manifests of ConfigMaps, a plain queues.yaml, or a mapping of keys and values.
// Other objects are left out. The error is ErrNoConfiguration, or a *Problem
// that says why it is no YAML.
func ReadFile(text []byte) (*File, error) {
	f := &File{lines: make(map[[2]string]int)}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, message := explainYAML(strings.TrimPrefix(err.Error(), "yaml: "))
			return nil, &Problem{Line: line, Severity: Error, Message: message}
		}
		if len(document.Content) > 0 {
			f.read(document.Content[0], text)
		}
	}
	if len(f.ConfigMaps) == 0 {
		return nil, ErrNoConfiguration
	}
	return f, nil
}

func (f *File) read(n *yaml.Node, text []byte) {
	kind, data := below(n, "kind"), below(n, "data")
	switch {
	case kind != nil && kind.Value == "ConfigMap":
		f.manifest(n, data)
	case kind != nil && strings.HasSuffix(kind.Value, "List"):
		if items := below(n, "items"); items != nil {
			for _, item := range items.Content {
				f.read(item, text)
			}
		}
	case kind != nil || n.Kind != yaml.MappingNode:
	case below(n, "partitions") != nil:
		f.ConfigMaps = append(f.ConfigMaps, &v1.ConfigMap{Data: map[string]string{Default(KeyPolicyGroup) + suffixQueues: string(text)}})
		f.lines[[2]string{"", Default(KeyPolicyGroup) + suffixQueues}] = 0
	case slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return strings.ContainsRune(c.Value, '.') && c.Column == n.Column }):
		f.ConfigMaps = append(f.ConfigMaps, &v1.ConfigMap{Data: f.values("", n)})
	}
}

func (f *File) manifest(n, data *yaml.Node) {
	cm := &v1.ConfigMap{}
	if metadata := below(n, "metadata"); metadata != nil {
		if name := below(metadata, "name"); name != nil {
			cm.Name = name.Value
		}
		if namespace := below(metadata, "namespace"); namespace != nil {
			cm.Namespace = namespace.Value
		}
	}
	cm.Data = f.values(cm.Name, data)
	for key, packed := range f.values(cm.Name, below(n, "binaryData")) {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(packed), ""))
		if err != nil {
			f.Problems = append(f.Problems, Problem{ConfigMap: cm.Name, Key: key, Severity: Error, Message: "is not base64"})
			continue
		}
		if cm.BinaryData == nil {
			cm.BinaryData = make(map[string][]byte)
		}
		cm.BinaryData[key] = decoded
	}
	f.ConfigMaps = append(f.ConfigMaps, cm)
}

// values reads a mapping of texts, and notes where each begins.
func (f *File) values(configMap string, n *yaml.Node) map[string]string {
	data := make(map[string]string)
	if n == nil || n.Kind != yaml.MappingNode {
		return data
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		l := list{configMap: configMap, key: key.Value}
		begin := value.Line - 1
		if value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			begin++ // the text begins below the sign for it
		}
		_, twice := data[key.Value]
		switch {
		case twice:
			l.errorf(0, "is set twice")
		case value.Kind != yaml.ScalarNode:
			l.errorf(0, "is not a text")
		case value.ShortTag() != "!!str" && value.ShortTag() != "!!binary" && value.ShortTag() != "!!null":
			l.errorf(0, "is not a text: put %s in quotes", value.Value)
		}
		f.Problems = append(f.Problems, l.all...)
		if value.Kind == yaml.ScalarNode && value.ShortTag() != "!!null" {
			data[key.Value] = value.Value
		} else {
			data[key.Value] = ""
		}
		f.lines[[2]string{configMap, key.Value}] = begin
	}
	return data
}

// Ordered returns ConfigMaps of these names in the order in which they override each other; one
// without a name comes last. Of ConfigMaps of one name, the later counts. The error names those
// that are none of them, if there is nothing else.
func Ordered(all []*v1.ConfigMap, names ...string) ([]*v1.ConfigMap, error) {
	held := make([]*v1.ConfigMap, len(names)+1)
	var others []string
	for _, cm := range all {
		switch at := slices.Index(names, cm.Name); {
		case at >= 0:
			held[at] = cm
		case cm.Name == "":
			held[len(names)] = cm
		default:
			others = append(others, cm.Name)
		}
	}
	if slices.ContainsFunc(held, func(cm *v1.ConfigMap) bool { return cm != nil }) {
		return held, nil
	}
	return nil, fmt.Errorf("%w: want a ConfigMap %s, found %s", ErrNoConfiguration, strings.Join(names, " or "), strings.Join(others, ", "))
}
