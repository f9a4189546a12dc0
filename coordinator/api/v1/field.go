package v1

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is one of an item's, as JSON has it.
type field struct {
	name string
	at   int // in the struct
	// filter makes it a parameter; fixed says that it never changes of an item.
	filter, fixed bool
	// omit leaves it out if it is empty.
	omit bool
	doc  string
	of   reflect.Type
}

// fieldsOf returns the fields of a struct in order.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		api := strings.Split(f.Tag.Get("api"), ",")
		all = append(all, field{
			name: name, at: i, omit: strings.Contains(options, "omit"), doc: f.Tag.Get("doc"), of: f.Type,
			filter: slices.Contains(api, "filter"), fixed: slices.Contains(api, "fixed"),
		})
	}
	return all
}

// is reports whether the field has one of the values.
func (f field) is(item reflect.Value, values []string) bool {
	return slices.Contains(values, fmt.Sprint(item.Field(f.at).Interface()))
}

// checked says what is wrong with a value to filter by, empty for nothing.
func (f field) checked(value string) string {
	var err error
	if f.of.Kind() != reflect.String {
		err = json.Unmarshal([]byte(value), reflect.New(f.of).Interface())
	}
	if err != nil || value == "null" && f.of.Kind() != reflect.String {
		return fmt.Sprintf("%s: %q is not a %s", f.name, value, f.of.Kind())
	}
	return ""
}

// encode writes an item as JSON, with some of its fields, or if there are none with all.
func encode(item any, some []field) ([]byte, error) {
	if len(some) == 0 {
		return json.Marshal(item)
	}
	of := reflect.ValueOf(item)
	out := []byte{'{'}
	for _, f := range some {
		value := of.Field(f.at)
		if f.omit && empty(value) {
			continue
		}
		body, err := json.Marshal(value.Interface())
		if err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, f.name...)
		out = append(out, '"', ':')
		out = append(out, body...)
	}
	return append(out, '}'), nil
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() == 0
	}
	return v.IsZero()
}
