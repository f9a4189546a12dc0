package custom

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	apiservercel "k8s.io/apiserver/pkg/cel"
)

func (e *evaluator) fail(field string, err error) {
	if e.err == nil {
		e.err = &EvaluationError{Definition: e.p.name, Field: field, Err: err}
	}
}

// evaluate returns what an expression yields, nil for nothing.
func (e *evaluator) evaluate(x *expression) ref.Val {
	if x == nil || e.err != nil {
		return nil
	}
	value, details, err := x.program.Eval(e.variables)
	if details != nil && details.ActualCost() != nil {
		e.left -= min(*details.ActualCost(), e.left)
	}
	switch {
	case err != nil:
		e.fail(x.field, err)
		return nil
	case e.left == 0:
		e.fail(x.field, fmt.Errorf("the expressions over this object cost more than %d together", uint64(costPerObject)))
		return nil
	}
	if optional, ok := value.(*types.Optional); ok {
		if !optional.HasValue() {
			return nil
		}
		value = optional.GetValue()
	}
	if value == types.NullValue {
		return nil
	}
	return value
}

func (e *evaluator) truth(x *expression) bool {
	value := e.evaluate(x)
	if value == nil {
		return false
	}
	is, ok := value.(types.Bool)
	if !ok {
		e.fail(x.field, mistyped(value, truth))
	}
	return bool(is)
}

func (e *evaluator) text(x *expression) string {
	value := e.evaluate(x)
	if value == nil {
		return ""
	}
	is, ok := value.(types.String)
	if !ok {
		e.fail(x.field, mistyped(value, text))
	}
	return string(is)
}

func (e *evaluator) number(x *expression) int64 {
	value := e.evaluate(x)
	switch is := value.(type) {
	case nil:
		return 0
	case types.Int:
		return int64(is)
	case types.Double: // JSON has no integers.
		if whole := math.Trunc(float64(is)); whole == float64(is) && math.Abs(whole) < 1<<53 {
			return int64(whole)
		}
	}
	e.fail(x.field, mistyped(value, number))
	return 0
}

// dictionary returns a map as JSON has it, nil for nothing.
func (e *evaluator) dictionary(x *expression) map[string]any {
	value := e.evaluate(x)
	if value == nil {
		return nil
	}
	out, err := plain(value, 0)
	if err != nil {
		e.fail(x.field, err)
		return nil
	}
	is, ok := out.(map[string]any)
	if !ok {
		e.fail(x.field, mistyped(value, dictionary))
	}
	return is
}

func mistyped(value ref.Val, want kinds) error {
	return fmt.Errorf("yields %s, want %s", value.Type().TypeName(), want)
}

// maxNesting bounds how deep a value may be.
const maxNesting = 32

// plain returns a value as JSON has it.
func plain(value ref.Val, depth int) (any, error) {
	if depth > maxNesting {
		return nil, errors.New("yields a value that is nested too deep")
	}
	switch is := value.(type) {
	case types.Null:
		return nil, nil
	case types.Bool, types.Int, types.Double, types.String:
		return value.Value(), nil
	case types.Uint:
		return fmt.Sprint(uint64(is)), nil
	case apiservercel.Quantity:
		return is.Quantity.String(), nil
	case *types.Optional:
		if !is.HasValue() {
			return nil, nil
		}
		return plain(is.GetValue(), depth+1)
	case traits.Mapper:
		return plainMap(is, depth)
	case traits.Lister:
		size := intOf(is.Size())
		out := make([]any, 0, size)
		for i := range size {
			element, err := plain(is.Get(number64(i)), depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, element)
		}
		return out, nil
	}
	return nil, fmt.Errorf("yields a value of type %s within another", value.Type().TypeName())
}

func plainMap(from traits.Mapper, depth int) (any, error) {
	out := make(map[string]any, intOf(from.Size()))
	for it := from.Iterator(); it.HasNext() == types.True; {
		key, ok := it.Next().(types.String)
		if !ok {
			return nil, errors.New("yields a map of which a key is not a string")
		}
		element, err := plain(from.Get(key), depth+1)
		if err != nil {
			return nil, err
		}
		out[string(key)] = element
	}
	return out, nil
}

func intOf(value ref.Val) int64 {
	n, _ := value.(types.Int)
	return int64(n)
}

func number64(i int64) ref.Val { return types.Int(i) }
