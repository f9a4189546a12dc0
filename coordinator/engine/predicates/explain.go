package predicates

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Explanation says why a pod fits no node.
type Explanation struct {
	// Fits is how many of Nodes could take the pod now.
	Fits, Nodes int
	// Counts says how many nodes gave each reason, Examples names the first of them.
	Counts   map[string]int
	Examples map[string]string
}

func (x Explanation) note(reason, node string) {
	if x.Counts[reason]++; x.Counts[reason] == 1 {
		x.Examples[reason] = node
	}
}

// Message is a sentence for people, such as
// "0/3 nodes fit: 2 Insufficient cpu, 1 node(s) had untolerated taint(s)".
func (x Explanation) Message() string {
	head := fmt.Sprintf("%d/%d nodes fit", x.Fits, x.Nodes)
	if len(x.Counts) == 0 {
		return head
	}
	reasons := x.reasons()
	slices.SortStableFunc(reasons, func(a, b string) int { return x.Counts[b] - x.Counts[a] })
	for i, r := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", x.Counts[r], r)
	}
	return head + ": " + strings.Join(reasons, ", ")
}

// Key is the same for explanations that differ in numbers only.
func (x Explanation) Key() string { return strings.Join(x.reasons(), ", ") }

func (x Explanation) reasons() []string {
	out := make([]string, 0, len(x.Counts))
	for r := range x.Counts {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}

// Explain checks the pod against every node.
func (c *Cache) Explain(uid string) (Explanation, error) {
	names := c.NodeNames()
	x := Explanation{Nodes: len(names), Counts: make(map[string]int), Examples: make(map[string]string)}
	for _, name := range names {
		// One node at a time, so that a large cluster does not keep writers
		// waiting.
		err := c.Fits(uid, name, true)
		var r *Refusal
		switch {
		case err == nil:
			x.Fits++
		case errors.As(err, &r):
			for _, reason := range r.Reasons {
				x.note(reason, name)
			}
		case errors.Is(err, ErrUnknownPod):
			return x, err
		case errors.Is(err, ErrUnknownNode):
			x.Nodes--
		default:
			x.note(err.Error(), name)
		}
	}
	return x, nil
}
