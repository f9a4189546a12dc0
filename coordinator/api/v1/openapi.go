package v1

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// document is the description of the interface, made from the types and the kinds.
type document struct{ *spec3.OpenAPI }

// OpenAPI returns the description of the interface, as docs/openapi.json has it.
func OpenAPI() ([]byte, error) {
	d := document{&spec3.OpenAPI{
		Version: "3.0.0",
		Info: &spec.Info{InfoProps: spec.InfoProps{
			Title: "Understudy", Version: "v1",
			Description: "What is scheduled, and who leads. Read-only, from every replica.",
		}},
		Paths:      &spec3.Paths{Paths: make(map[string]*spec3.Path)},
		Components: &spec3.Components{Schemas: make(map[string]*spec.Schema)},
	}}
	for _, t := range []reflect.Type{reflect.TypeFor[Error](), reflect.TypeFor[Gone](), reflect.TypeFor[Mark]()} {
		d.schema(t)
	}
	for _, k := range kinds() {
		k.describe(&d)
	}
	body, err := json.MarshalIndent(d.OpenAPI, "", "  ")
	return append(body, '\n'), err
}

func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	if _, bad := parse(r, nil, nil, false); bad != nil {
		bad.Write(w)
		return
	}
	body, err := OpenAPI()
	if err != nil {
		(&Error{http.StatusInternalServerError, "Failed", err.Error()}).Write(w)
		return
	}
	_, _ = w.Write(body) // the client has gone: nobody to tell
}

// describe adds the two paths of a kind.
func (k *kind[T]) describe(d *document) {
	item := d.schema(reflect.TypeFor[T]())
	list := d.object(reflect.TypeFor[List[T]]())
	list.Properties["items"] = *spec.ArrayProperty(item)
	d.Components.Schemas[reflect.TypeFor[T]().Name()+"List"] = &list

	parameters := []*spec3.Parameter{k.chooses(), parameter("query", paramLimit, "at most so many items, 1 to 10000; all without it", spec.Int64Property()),
		parameter("query", paramContinue, "what the list before has in its field continue", spec.StringProperty())}
	if k.stale {
		parameters = append(parameters, stale())
	}
	for _, f := range k.fields() {
		if f.filter {
			parameters = append(parameters, parameter("query", f.name, "only items with one of these values, which commas separate", spec.StringProperty()))
		}
	}
	get := operation("list "+k.about, parameters, d.ref(reflect.TypeFor[T]().Name()+"List"), d)
	if k.followed != nil {
		get.Parameters = append(get.Parameters,
			parameter("query", paramWatch, "true for events (text/event-stream): put, delete, resync and mark; without limit and continue", spec.BooleanProperty()),
			parameter("query", paramRevision, "of a watch: the revision after which it goes on", spec.Int64Property()),
			parameter("header", "Last-Event-ID", "of a watch: the same, as browsers send it", spec.StringProperty()))
		get.Responses.StatusCodeResponses[http.StatusOK].Content[eventStream] = media(spec.StringProperty())
	}
	d.Paths.Paths[Prefix+k.name] = &spec3.Path{PathProps: spec3.PathProps{Get: get}}

	id := parameter("path", "id", "of the "+k.one, spec.StringProperty())
	id.Required = true
	parameters = []*spec3.Parameter{id, k.chooses()}
	if k.stale {
		parameters = append(parameters, stale())
	}
	one := operation("one "+k.one, parameters, item, d)
	one.Responses.StatusCodeResponses[http.StatusNotFound] = response("there is none", contentType, d.ref("Error"))
	d.Paths.Paths[Prefix+k.name+"/{id}"] = &spec3.Path{PathProps: spec3.PathProps{Get: one}}
}

const contentType = "application/json"

func (k *kind[T]) chooses() *spec3.Parameter {
	return parameter("query", paramFields, "only these fields of each item, which commas separate", spec.StringProperty())
}

func stale() *spec3.Parameter {
	return parameter("query", paramStale, "an understudy may answer, from its view", spec.StringProperty())
}

func parameter(in, name, about string, schema *spec.Schema) *spec3.Parameter {
	return &spec3.Parameter{ParameterProps: spec3.ParameterProps{Name: name, In: in, Description: about, Schema: schema}}
}

func operation(about string, parameters []*spec3.Parameter, answer *spec.Schema, d *document) *spec3.Operation {
	return &spec3.Operation{OperationProps: spec3.OperationProps{
		Summary: about, Parameters: parameters,
		Responses: &spec3.Responses{ResponsesProps: spec3.ResponsesProps{StatusCodeResponses: map[int]*spec3.Response{
			http.StatusOK:                 response("the answer", contentType, answer),
			http.StatusBadRequest:         response("the request is wrong", contentType, d.ref("Error")),
			http.StatusServiceUnavailable: response("nobody can answer now", contentType, d.ref("Error")),
		}}},
	}}
}

func response(about, content string, schema *spec.Schema) *spec3.Response {
	return &spec3.Response{ResponseProps: spec3.ResponseProps{
		Description: about, Content: map[string]*spec3.MediaType{content: media(schema)},
	}}
}

func media(schema *spec.Schema) *spec3.MediaType {
	return &spec3.MediaType{MediaTypeProps: spec3.MediaTypeProps{Schema: schema}}
}

func (d *document) ref(name string) *spec.Schema {
	return spec.RefSchema("#/components/schemas/" + name)
}

// schema describes a type; that of a struct is among the components.
func (d *document) schema(t reflect.Type) *spec.Schema {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return spec.DateTimeProperty()
	case t.Kind() == reflect.Pointer:
		return d.schema(t.Elem())
	case t.Kind() == reflect.Struct:
		if _, known := d.Components.Schemas[t.Name()]; !known {
			object := d.object(t)
			d.Components.Schemas[t.Name()] = &object
		}
		return d.ref(t.Name())
	case t.Kind() == reflect.Slice:
		return spec.ArrayProperty(d.schema(t.Elem()))
	case t.Kind() == reflect.Map:
		return spec.MapProperty(d.schema(t.Elem()))
	case t.Kind() == reflect.Bool:
		return spec.BooleanProperty()
	case t.Kind() == reflect.String:
		return spec.StringProperty()
	case t.Kind() == reflect.Float64:
		return spec.Float64Property()
	case t.Kind() == reflect.Int32:
		return spec.Int32Property()
	}
	return spec.Int64Property()
}

// object describes a struct, its fields by what tags say of them.
func (d *document) object(t reflect.Type) spec.Schema {
	object := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"object"}, Properties: make(map[string]spec.Schema)}}
	for _, f := range fieldsOf(t) {
		if strings.HasPrefix(f.of.String(), "[]") && f.name == "items" {
			object.Required = append(object.Required, f.name)
			continue // of a list: whoever asks knows what is in it
		}
		property := *d.schema(f.of)
		if f.doc != "" && property.Ref.String() == "" {
			property.Description = f.doc
		}
		object.Properties[f.name] = property
		if !f.omit {
			object.Required = append(object.Required, f.name)
		}
	}
	return object
}
