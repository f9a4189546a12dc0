package predicates

import (
	"encoding/json"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
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

// Explaining explains many pods: nodes are looked at once for all those that the plugins cannot
// tell apart. Its answers are those of the moment in which it was asked first; it is for one
// goroutine.
type Explaining struct {
	cache *Cache
	known map[string]Explanation
}

// Explaining begins to explain.
func (c *Cache) Explaining() *Explaining {
	return &Explaining{cache: c, known: make(map[string]Explanation)}
}

// Explain answers as Cache.Explain does. The maps of an answer are not to be changed.
func (x *Explaining) Explain(uid string) (Explanation, error) {
	shape, err := x.cache.shape(uid)
	if err != nil {
		return Explanation{}, err
	}
	if known, ok := x.known[shape]; ok {
		return known, nil
	}
	found, err := x.cache.Explain(uid)
	if err == nil {
		x.known[shape] = found
	}
	return found, err
}

// shape is the same for pods that the plugins cannot tell apart: it spells out all that they read
// of a pod that has no node.
func (c *Cache) shape(uid string) (string, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.pods[uid]
	if e == nil {
		return "", fmt.Errorf("%w: %s", ErrUnknownPod, uid)
	}
	own, spec := c.ownState(e), &e.pod.Spec
	parts := struct {
		Namespace   string
		Node, Named string
		Avoid       []string
		Labels      map[string]string
		Spec        v1.PodSpec
	}{
		Namespace: e.pod.Namespace, Node: e.node, Named: spec.NodeName, Avoid: c.avoid[uid],
		Spec: v1.PodSpec{
			Containers: takes(spec.Containers), InitContainers: takes(spec.InitContainers), Overhead: spec.Overhead,
			Resources: spec.Resources, HostNetwork: spec.HostNetwork, NodeSelector: spec.NodeSelector, Affinity: spec.Affinity,
			Tolerations: spec.Tolerations, TopologySpreadConstraints: spec.TopologySpreadConstraints,
			ResourceClaims: spec.ResourceClaims,
		},
	}
	if own.spread || own.affine || c.index.repelled() {
		parts.Labels = e.pod.Labels
	}
	if own.volumes {
		parts.Spec.Volumes = spec.Volumes
		parts.Node += "/" + e.pod.Name // the claims of ephemeral volumes have it in their names
	}
	key, err := json.Marshal(parts)
	if err != nil {
		// Not reachable with these types; a key of its own is always right.
		return uid, nil
	}
	return string(key), nil
}

// takes is what containers take of a node.
func takes(containers []v1.Container) []v1.Container {
	out := make([]v1.Container, len(containers))
	for i := range containers {
		c := &containers[i]
		out[i] = v1.Container{Resources: c.Resources, Ports: c.Ports, RestartPolicy: c.RestartPolicy}
	}
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
