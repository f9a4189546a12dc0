package record

import (
	"bytes"
	"errors"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// quantity is a resource.Quantity that is looked at before it is parsed: the
// parser rounds with big integers, and runs for minutes on 1e-2000000000.
type quantity struct{ resource.Quantity }

// Far beyond what Quantity itself writes.
const (
	maxQuantityLength = 64
	maxExponentDigits = 3
)

var errQuantity = errors.New("quantity out of range")

func (q *quantity) UnmarshalJSON(b []byte) error {
	if len(b) > maxQuantityLength {
		return errQuantity
	}
	if i := bytes.IndexAny(b, "eE"); i >= 0 {
		// What is not a digit here is a suffix such as Ei, and harmless.
		digits := bytes.TrimLeft(bytes.Trim(b[i+1:], `"+- `), "0")
		if len(digits) > maxExponentDigits {
			return errQuantity
		}
	}
	return q.Quantity.UnmarshalJSON(b)
}

// taskGroup decodes a v1alpha1.TaskGroup; its MinResource takes the place of
// the embedded one.
type taskGroup struct {
	v1alpha1.TaskGroup
	MinResource map[string]quantity `json:"minResource,omitempty"`
}

func decodeGroups(in [][]byte) ([]v1alpha1.TaskGroup, error) {
	raw, err := fromJSON[taskGroup]("task group", in)
	if err != nil || raw == nil {
		return nil, err
	}
	out := make([]v1alpha1.TaskGroup, len(raw))
	for i := range raw {
		out[i] = raw[i].TaskGroup
		if raw[i].MinResource == nil {
			continue
		}
		out[i].MinResource = make(map[string]resource.Quantity, len(raw[i].MinResource))
		for name, q := range raw[i].MinResource {
			out[i].MinResource[name] = q.Quantity
		}
	}
	return out, nil
}
