package workload

import (
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// MaxMembers is how many members a gang can have: more placeholders than this at once
// are of no use, for all are held until the last one has its place, and each costs
// memory in every replica.
const MaxMembers = 20_000

// parseTaskGroups reads a value of AnnotationTaskGroups. One mistake makes the
// whole list count as none: a gang that lacks a group must not run as if it
// were complete.
func parseTaskGroups(value string, found *problems) []v1alpha1.TaskGroup {
	if value == "" {
		return nil
	}
	groups, err := DecodeTaskGroups(value)
	if err != nil {
		found.add(AnnotationTaskGroups, "no gang is scheduled: %v", err)
		return nil
	}
	return groups
}

// rawTaskGroup keeps the quantities apart, so that they can be looked at before
// they are parsed.
type rawTaskGroup struct {
	v1alpha1.TaskGroup
	MinResource map[string]json.RawMessage `json:"minResource,omitempty"`
}

// DecodeTaskGroups reads a JSON list of task groups, as AnnotationTaskGroups holds it and
// as resources have it in their spec. An error names the first mistake.
func DecodeTaskGroups(value string) ([]v1alpha1.TaskGroup, error) {
	var raw []rawTaskGroup
	if err := json.Unmarshal([]byte(value), &raw); err != nil {
		return nil, fmt.Errorf("not a JSON list of task groups: %w", err)
	}
	groups := make([]v1alpha1.TaskGroup, 0, len(raw))
	names := make(map[string]bool, len(raw))
	members := int64(0)
	for i := range raw {
		group := raw[i].TaskGroup
		if group.Name == "" {
			return nil, fmt.Errorf("task group %d has no name", i)
		}
		if names[group.Name] {
			return nil, fmt.Errorf("task group %s is there twice", shown(group.Name))
		}
		names[group.Name] = true
		if group.MinMember <= 0 {
			return nil, fmt.Errorf("minMember of task group %s is %d, not above zero", shown(group.Name), group.MinMember)
		}
		if members += int64(group.MinMember); members > MaxMembers {
			return nil, fmt.Errorf("the task groups have more than %d members", MaxMembers)
		}
		var err error
		if group.MinResource, err = decodeResources(raw[i].MinResource); err != nil {
			return nil, fmt.Errorf("minResource of task group %s: %w", shown(group.Name), err)
		}
		groups = append(groups, group)
	}
	if len(groups) == 0 {
		return nil, nil
	}
	return groups, nil
}

func decodeResources(raw map[string]json.RawMessage) (map[string]resource.Quantity, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	out := make(map[string]resource.Quantity, len(raw))
	for name, value := range raw {
		// A quantity may be written as a string or as a number.
		text := string(value)
		if len(value) > 0 && value[0] == '"' {
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, err
			}
		}
		quantity, err := ParseQuantity(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, shown(text), err)
		}
		out[name] = quantity
	}
	return out, nil
}

// Bounds on what is passed to the parser of quantities, which works with big
// integers and needs minutes for the likes of 1e-2000000000.
const (
	maxQuantityLength = 32
	maxExponentDigits = 2
)

var (
	errNotQuantity = errors.New("not a quantity")
	errNegative    = errors.New("below zero")
)

// ParseQuantity parses a quantity that somebody wrote: it is not negative, and takes no
// time to speak of, whatever it is.
func ParseQuantity(text string) (resource.Quantity, error) {
	if len(text) > maxQuantityLength || exponentDigits(text) > maxExponentDigits {
		return resource.Quantity{}, errNotQuantity
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return resource.Quantity{}, errNotQuantity
	}
	if quantity.Sign() < 0 {
		return resource.Quantity{}, errNegative
	}
	return quantity, nil
}

// exponentDigits counts the digits after an e or E. The suffix E has none.
func exponentDigits(text string) (n int) {
	after := false
	for _, c := range text {
		switch {
		case c == 'e' || c == 'E':
			after = true
		case after && c >= '0' && c <= '9':
			n++
		}
	}
	return n
}
