package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Parse decodes and checks a configuration file. What the file leaves out has
// the value of Default. The error holds an *Error for every mistake.
func Parse(data []byte) (Config, error) {
	cfg := Default()
	// The head has no default: a file that does not say what it is, is not one.
	cfg.APIVersion, cfg.Kind = "", ""

	d := decoder{lines: map[string]int{}}
	if root := d.document(data); root != nil {
		d.value(root, "", reflect.ValueOf(&cfg).Elem())
	}
	// The checks run even where fields could not be read, so that one run shows
	// all there is to repair; a field that was reported once is not again.
	var errs []error
	for _, e := range d.errs {
		errs = append(errs, e)
	}
	if !d.broken {
		for _, e := range cfg.check() {
			if slices.ContainsFunc(d.errs, func(o *Error) bool { return o.covers(e.Field) }) {
				continue
			}
			e.Line = d.lines[e.Field]
			errs = append(errs, e)
		}
	}
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
	}
	return cfg, nil
}

// Error is one mistake in a configuration.
type Error struct {
	// Field is the path of the field as in the file, such as
	// election.leaseDuration or etcd.endpoints[1]; empty for the file as such.
	Field string
	// Line counts from one; zero if the field is not in the file.
	Line    int
	Message string
}

// covers reports whether a mistake in field follows from this one.
func (e *Error) covers(field string) bool {
	rest, below := strings.CutPrefix(field, e.Field)
	return below && (e.Field == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Error puts the place before the message.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// decoder walks a YAML tree along the type it is to fill. yaml.v3's own strict
// mode is not enough: it stops at the first problem of a mapping and names Go
// types where a user needs the path of a field.
type decoder struct {
	errs  []*Error
	lines map[string]int
	// broken is set when the text is no YAML at all, which leaves nothing to check.
	broken bool
}

func (d *decoder) fail(path string, line int, format string, args ...any) {
	d.errs = append(d.errs, &Error{Field: path, Line: line, Message: fmt.Sprintf(format, args...)})
}

// document returns the root of the one document in data, nil after a failure.
func (d *decoder) document(data []byte) *yaml.Node {
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := in.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // Empty: the checks say what is missing.
	case err != nil:
		d.broken = true
		d.fail("", 0, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	if err := in.Decode(&more); !errors.Is(err, io.EOF) {
		d.broken = true
		d.fail("", more.Line, "more than one document in the file")
		return nil
	}
	return doc.Content[0]
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	nodeType     = reflect.TypeFor[yaml.Node]()
)

// Decode fills the struct that into points to with the settings, in the way in which the
// file itself is read: a field that the struct does not have is a mistake, and what is
// left out stays as it is. The error holds an *Error for every mistake.
func (m Manager) Decode(into any) error {
	d := decoder{lines: map[string]int{}}
	if m.Settings.Kind != 0 {
		d.value(&m.Settings, "settings", reflect.ValueOf(into).Elem())
	}
	errs := make([]error, len(d.errs))
	for i, e := range d.errs {
		errs[i] = e
	}
	return errors.Join(errs...)
}

func (d *decoder) value(n *yaml.Node, path string, v reflect.Value) {
	d.lines[path] = n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case v.Type() == nodeType:
		v.Set(reflect.ValueOf(*n))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, path, v.Elem())
	case v.Kind() == reflect.Map:
		d.table(n, path, v)
	case v.Type() == durationType:
		d.duration(n, path, v)
	case v.Kind() == reflect.Struct:
		d.mapping(n, path, v)
	case v.Kind() == reflect.Slice:
		d.sequence(n, path, v)
	default:
		d.scalar(n, path, v)
	}
}

func (d *decoder) mapping(n *yaml.Node, path string, v reflect.Value) {
	if isNull(n) {
		return // "http:" with everything below it commented out
	}
	if n.Kind != yaml.MappingNode {
		d.fail(path, n.Line, "is %s, want a mapping of fields", kind(n))
		return
	}
	fields := fieldsOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		at := join(path, name)
		index, known := fields[name]
		switch first, again := seen[name]; {
		case key.Kind != yaml.ScalarNode:
			d.fail(path, key.Line, "a field name is %s, want a string", kind(key))
		case again:
			d.fail(at, key.Line, "is set twice, first in line %d", first)
		case !known:
			d.fail(at, key.Line, "unknown field%s", suggestion(name, fields))
		default:
			d.value(value, at, v.Field(index))
		}
		seen[name] = key.Line
	}
}

// table reads a mapping whose keys are the user's own.
func (d *decoder) table(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, n.Line, "is %s, want a mapping", kind(n))
		return
	}
	table := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		if table.MapIndex(reflect.ValueOf(key.Value)).IsValid() {
			d.fail(join(path, key.Value), key.Line, "is set twice")
			continue
		}
		d.value(n.Content[i+1], join(path, key.Value), item)
		table.SetMapIndex(reflect.ValueOf(key.Value), item)
	}
	v.Set(table)
}

func (d *decoder) sequence(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fail(path, n.Line, "is %s, want a list", kind(n))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, fmt.Sprintf("%s[%d]", path, i), list.Index(i))
	}
	v.Set(list)
}

func (d *decoder) duration(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		d.fail(path, n.Line, `is %s, want a duration with its unit, such as "2.5s"`, kind(n))
		return
	}
	parsed, err := time.ParseDuration(n.Value)
	if err != nil {
		d.fail(path, n.Line, `is %q, want a duration with its unit, such as "2.5s"`, n.Value)
		return
	}
	v.SetInt(int64(parsed))
}

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value) {
	tag := ""
	if n.Kind == yaml.ScalarNode {
		tag = n.ShortTag()
	}
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" {
			d.fail(path, n.Line, "is %s, want a string", kind(n))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if tag != "!!bool" || err != nil {
			d.fail(path, n.Line, "is %s, want true or false", kind(n))
			return
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if tag != "!!int" || err != nil {
			d.fail(path, n.Line, "is %s, want a whole number", kind(n))
			return
		}
		v.SetInt(i)
	case reflect.Float32:
		f, err := strconv.ParseFloat(n.Value, 32)
		if (tag != "!!int" && tag != "!!float") || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.fail(path, n.Line, "is %s, want a number", kind(n))
			return
		}
		v.SetFloat(f)
	default:
		// Only a field of a new kind in Config gets here, in its author's first test.
		d.fail(path, n.Line, "the schema has a field of type %s, which cannot be decoded", v.Type())
	}
}

// fieldsOf maps the names of the fields of a struct to their indices.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		fields[t.Field(i).Tag.Get("yaml")] = i
	}
	return fields
}

// suggestion names the field that differs from name in case only, the mistake
// that is hardest to see.
func suggestion(name string, fields map[string]int) string {
	for known := range fields {
		if strings.EqualFold(known, name) {
			return fmt.Sprintf(", did you mean %q?", known)
		}
	}
	return ""
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kind says what a node is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if isNull(n) {
		return "empty"
	}
	return strconv.Quote(n.Value)
}
