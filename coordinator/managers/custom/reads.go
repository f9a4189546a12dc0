package custom

import (
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// fields are those that expressions read of an object, by name. A field of which
// everything is read has the value nil.
type fields map[string]fields

// add notes a path from the object down.
func (f fields) add(path []string) {
	for i, name := range path {
		below, known := f[name]
		switch {
		case known && below == nil:
			return // all of it is read already
		case i == len(path)-1:
			f[name] = nil
			return
		case !known:
			below = make(fields)
			f[name] = below
		}
		f = below
	}
}

// note adds what an expression reads. It reports false for one that reads the object as
// a whole.
func (f fields) note(source *cel.Ast) bool { return f.visit(ast.NavigateAST(source.NativeRep())) }

func (f fields) visit(e ast.NavigableExpr) bool {
	if path, ok := pathOf(e); ok {
		f.add(path)
		return len(path) > 0
	}
	for _, child := range e.Children() {
		if !f.visit(child) {
			return false
		}
	}
	return true
}

// pathOf returns the path to a field of the object, and false for another expression.
func pathOf(e ast.Expr) ([]string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return nil, e.AsIdent() == varObject
	case ast.SelectKind:
		path, ok := pathOf(e.AsSelect().Operand())
		return append(path, e.AsSelect().FieldName()), ok
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.OptSelect, operators.OptIndex, operators.Index:
		default:
			return nil, false
		}
		args := call.Args()
		if len(args) != 2 || args[1].Kind() != ast.LiteralKind {
			return nil, false
		}
		name, ok := args[1].AsLiteral().(types.String)
		if !ok {
			return nil, false
		}
		path, ok := pathOf(args[0])
		return append(path, string(name)), ok
	}
	return nil, false
}

// trim takes away what the definition does not read of an object, such as a status that
// lists each step of a workflow.
func (p *Program) trim(object *unstructured.Unstructured) {
	if p.reads != nil {
		p.reads.keep(object.Object)
	}
}

// keep deletes everything else.
func (f fields) keep(value map[string]any) {
	for name, content := range value {
		below, read := f[name]
		if !read {
			delete(value, name)
			continue
		}
		if content, ok := content.(map[string]any); ok && below != nil {
			below.keep(content)
		}
	}
}
