package custom

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/labels"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Error is a mistake in a definition.
type Error struct {
	// Definition is its name, and Field the path of the field, such as
	// groups[1].minMember.
	Definition, Field string
	// Line and Column are where in the expression, both from 1; zero if the mistake has
	// no place.
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	place := ""
	if e.Line > 0 {
		place = fmt.Sprintf("%d:%d: ", e.Line, e.Column)
	}
	return fmt.Sprintf("definition %s: %s: %s%s", e.Definition, e.Field, place, e.Message)
}

// Program is a definition that has been compiled. It is safe for concurrent use.
type Program struct {
	name       string
	definition Definition
	selector   labels.Selector
	depth      int
	// reads are the fields that it reads of an object, nil for all.
	reads fields

	match, template, scheduled            *expression
	appID, queue, user, message           *expression
	failed, succeeded, suspended, running *expression
	gang                                  *expression
	groups                                []group
	podGroup                              *expression
}

// Name returns the name that the definition was compiled under.
func (p *Program) Name() string { return p.name }

// group is a Group that has been compiled.
type group struct {
	forEach, name, minMember, template, minResource *expression
}

// expression is one field that has been compiled.
type expression struct {
	definition, field string
	program           cel.Program
}

// Compile checks a definition and returns it as a program. Types are checked against the
// schema of the objects, if there is one, and as far as they can be told without
// otherwise. What is wrong comes back as joined Errors.
func Compile(name string, d Definition, schema *spec.Schema) (*Program, error) {
	envs, err := newEnvironments(schema)
	if err != nil {
		return nil, fmt.Errorf("definition %s: schema of %s: %w", name, d.Kind, err)
	}
	c := &compiler{definition: name, envs: envs, reads: fields{"apiVersion": nil, "kind": nil, "metadata": nil}}
	if err := d.kind().check(); err != nil {
		c.wrong("kind", err)
	}
	p := &Program{name: name, definition: d}
	var wrong []fieldError
	p.selector, p.depth, wrong = d.Pods.check()
	for _, w := range wrong {
		c.wrong(w.field, w.err)
	}
	for _, f := range []struct {
		into   **expression
		field  string
		source string
		want   kinds
	}{
		{&p.match, "match", d.Match, truth}, {&p.template, "template", d.Template, dictionary},
		{&p.scheduled, "scheduled", d.Scheduled, truth},
		{&p.appID, "appID", d.AppID, text}, {&p.queue, "queue", d.Queue, text}, {&p.user, "user", d.User, text},
		{&p.failed, "failed", d.Failed, truth}, {&p.succeeded, "succeeded", d.Succeeded, truth},
		{&p.suspended, "suspended", d.Suspended, truth}, {&p.running, "running", d.Running, truth},
		{&p.message, "message", d.Message, text}, {&p.gang, "gang", d.Gang, truth},
	} {
		*f.into, _ = c.compile(c.scope(), f.field, f.source, f.want)
	}
	p.podGroup, _ = c.compile(scope{plain: envs.pod}, "pods.group", d.Pods.Group, text)
	for i := range d.Groups {
		p.groups = append(p.groups, c.group(fmt.Sprintf("groups[%d].", i), &d.Groups[i]))
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	p.reads = c.reads
	return p, nil
}

// compiler collects what is wrong with a definition.
type compiler struct {
	definition string
	envs       environments
	reads      fields
	errs       []error
}

// scope is where an expression is compiled: with types, if they are known, and without.
type scope struct{ plain, typed *cel.Env }

func (c *compiler) scope() scope { return scope{plain: c.envs.plain, typed: c.envs.typed} }

func (c *compiler) wrong(field string, err error) {
	c.errs = append(c.errs, &Error{Definition: c.definition, Field: field, Message: err.Error()})
}

func (c *compiler) group(prefix string, g *Group) group {
	out, in := group{}, c.scope()
	for _, f := range []struct{ field, source string }{{"name", g.Name}, {"minMember", g.MinMember}} {
		if f.source == "" {
			c.wrong(prefix+f.field, errors.New("is needed"))
		}
	}
	if g.ForEach != "" {
		var yields *cel.Type
		out.forEach, yields = c.compile(in, prefix+"forEach", g.ForEach, sequence)
		if out.forEach == nil {
			return out // Nothing is known of the variables of the others.
		}
		var err error
		if in, err = in.over(yields); err != nil {
			c.wrong(prefix+"forEach", err)
			return out
		}
	}
	out.name, _ = c.compile(in, prefix+"name", g.Name, text)
	out.minMember, _ = c.compile(in, prefix+"minMember", g.MinMember, number)
	out.template, _ = c.compile(in, prefix+"template", g.Template, dictionary)
	out.minResource, _ = c.compile(in, prefix+"minResource", g.MinResource, dictionary)
	return out
}

// over returns the scope of the elements of a list or map of the given type.
func (s scope) over(sequence *cel.Type) (scope, error) {
	plain, err := s.plain.Extend(cel.Variable(varEach, cel.DynType), cel.Variable(varKey, cel.DynType))
	if err != nil {
		return s, err
	}
	out := scope{plain: plain}
	if s.typed == nil {
		return out, nil
	}
	each, key := cel.DynType, cel.DynType
	switch element := bare(sequence); {
	case element.Kind() == types.ListKind:
		each, key = element.Parameters()[0], cel.IntType
	case element.Kind() == types.MapKind:
		key, each = element.Parameters()[0], element.Parameters()[1]
	}
	out.typed, err = s.typed.Extend(cel.Variable(varEach, each), cel.Variable(varKey, key))
	return out, err
}

// compile returns nil for an expression that is empty or wrong, and otherwise the type
// of what it yields too.
func (c *compiler) compile(in scope, field, source string, want kinds) (*expression, *cel.Type) {
	if strings.TrimSpace(source) == "" {
		return nil, nil
	}
	ast, ok := c.check(in.plain, field, source, want)
	if !ok {
		return nil, nil
	}
	yields := ast.OutputType()
	if in.typed != nil {
		typed, ok := c.check(in.typed, field, source, want)
		if !ok {
			return nil, nil
		}
		yields = typed.OutputType()
	}
	if c.reads != nil && !c.reads.note(ast) {
		c.reads = nil
	}
	program, err := in.plain.Program(ast, cel.CostLimit(costPerCall), cel.InterruptCheckFrequency(celconfig.CheckFrequency))
	if err != nil {
		c.wrong(field, err)
		return nil, nil
	}
	return &expression{definition: c.definition, field: field, program: program}, yields
}

// check parses an expression and checks types and cost.
func (c *compiler) check(env *cel.Env, field, source string, want kinds) (*cel.Ast, bool) {
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		for _, issue := range issues.Errors() {
			c.errs = append(c.errs, &Error{
				Definition: c.definition, Field: field,
				Line: issue.Location.Line(), Column: issue.Location.Column() + 1, Message: issue.Message,
			})
		}
		return nil, false
	}
	if yields := ast.OutputType(); !want.allow(yields) {
		c.wrong(field, fmt.Errorf("yields %s, want %s", yields, want))
		return nil, false
	}
	cost, err := estimate(env, ast)
	if err != nil {
		c.wrong(field, fmt.Errorf("estimating the cost: %w", err))
		return nil, false
	}
	if cost > maxEstimate {
		c.wrong(field, fmt.Errorf("costs up to %d, more than %d, if lists have %d elements", cost, maxEstimate, assumedSize))
		return nil, false
	}
	return ast, true
}

// kinds are the types that an expression may yield.
type kinds struct {
	name string
	any  []types.Kind
}

func (k kinds) String() string { return k.name }

var (
	truth      = kinds{"bool", []types.Kind{types.BoolKind}}
	text       = kinds{"string", []types.Kind{types.StringKind}}
	number     = kinds{"int", []types.Kind{types.IntKind}}
	dictionary = kinds{"map", []types.Kind{types.MapKind, types.StructKind}}
	sequence   = kinds{"list or map", []types.Kind{types.ListKind, types.MapKind}}
)

// allow reports whether a type is one of k, or may be as far as can be told.
func (k kinds) allow(t *cel.Type) bool {
	t = bare(t)
	if t.Kind() == types.DynKind || t.Kind() == types.AnyKind {
		return true
	}
	for _, kind := range k.any {
		if t.Kind() == kind {
			return true
		}
	}
	return false
}

// bare returns the type within an optional.
func bare(t *cel.Type) *cel.Type {
	if t.Kind() == types.OpaqueKind && t.TypeName() == "optional_type" && len(t.Parameters()) == 1 {
		return t.Parameters()[0]
	}
	return t
}
