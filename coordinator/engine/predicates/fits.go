package predicates

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodeaffinity"

	"github.com/understudy-ha/understudy/replica/failpoint"
)

// Refusal is the error of a pod that does not fit a node. Its text is the same
// for every node that refuses for the same reasons.
type Refusal struct {
	// Plugin is the name of the first plugin that refused.
	Plugin string
	// Reasons are the plugin's own words.
	Reasons []string
	// Final says that removing pods from the node would not help.
	Final bool
}

func (r *Refusal) Error() string { return strings.Join(r.Reasons, ", ") }

func refusal(plugin string, s *fwk.Status) error {
	switch s.Code() {
	case fwk.Unschedulable, fwk.UnschedulableAndUnresolvable, fwk.Pending:
		return &Refusal{Plugin: plugin, Reasons: s.Reasons(), Final: s.Code() == fwk.UnschedulableAndUnresolvable}
	default:
		return fmt.Errorf("%s: %w", plugin, s.AsError())
	}
}

// Fits reports whether the pod can run on the node, now (allocate), or could
// once there is room (not allocate). It returns nil, a *Refusal, or another
// error if the question could not be answered.
func (c *Cache) Fits(uid, node string, allocate bool) error {
	failpoint.Hit(failpoint.Predicates) // without the lock: one that hangs holds up nobody else
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, n, err := c.lookup(uid, node)
	if err != nil {
		return err
	}
	own := c.ownState(e)
	if err := c.fitsNode(e, own, n); err != nil || !allocate {
		return err
	}
	// A pod that is assumed on this very node already would otherwise be in its
	// own way.
	if e.node == node && e.assumed {
		return nil
	}
	if err := c.fitsRoom(e, own, n); err != nil {
		return err
	}
	if own.volumes {
		if err := c.fitsVolumes(c.volumesOfPod(e), e.pod, n); err != nil {
			return err
		}
	}
	return c.fitsNeighbours(e, own, n)
}

func (c *Cache) lookup(uid, node string) (*podEntry, fwk.NodeInfo, error) {
	e := c.pods[uid]
	if e == nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknownPod, uid)
	}
	n := c.nodes[node]
	if n == nil || !n.known() {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknownNode, node)
	}
	return e, n.info, nil
}

// ownState is what follows from the pod alone.
type ownState struct {
	state cycleState
	// err is why the pod fits no node at all.
	err error
	// nodes restricts the pod to some nodes by name, unless it is nil.
	nodes sets.Set[string]
	// These say which checks the pod is subject to.
	named, selective, ports, volumes, spread, affine bool
}

func (c *Cache) ownState(e *podEntry) *ownState {
	if s := e.own.Load(); s != nil {
		return s
	}
	pod := e.pod
	s := &ownState{
		named:   pod.Spec.NodeName != "",
		volumes: len(c.plugins.volumes) > 0 && usesVolumes(pod),
		spread:  mustSpread(pod),
		affine:  hasRequiredTerms(pod),
	}
	if _, st := c.plugins.resources.PreFilter(c.ctx, &s.state, pod, nil); !st.IsSuccess() {
		s.err = refusal(c.plugins.resources.Name(), st)
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		s.err = &Refusal{Plugin: names.DynamicResources, Reasons: []string{reasonClaims}, Final: true}
		e.own.Store(s)
		return s
	}
	if len(e.boundless) > 0 {
		s.err = &Refusal{Plugin: c.plugins.resources.Name(), Reasons: e.boundless, Final: true}
		e.own.Store(s)
		return s
	}
	result, st := c.plugins.affinity.PreFilter(c.ctx, &s.state, pod, nil)
	switch {
	case st.IsSkip():
	case !st.IsSuccess():
		s.err = refusal(c.plugins.affinity.Name(), st)
	default:
		s.selective = true
		if result != nil {
			s.nodes = result.NodeNames
		}
	}
	_, st = c.plugins.ports.PreFilter(c.ctx, &s.state, pod, nil)
	s.ports = !st.IsSkip()
	e.own.Store(s)
	return s
}

func mustSpread(pod *v1.Pod) bool {
	for i := range pod.Spec.TopologySpreadConstraints {
		if pod.Spec.TopologySpreadConstraints[i].WhenUnsatisfiable == v1.DoNotSchedule {
			return true
		}
	}
	return false
}

func hasRequiredTerms(pod *v1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	return a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 ||
		a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0
}

// What a node has against a pod whose binding it has been refused.
const (
	avoided       = "Avoided"
	reasonAvoided = "node(s) for which the binding of the pod was refused"
)

// reasonClaims is what every node has against a pod with ResourceClaims. Nobody here allocates
// them, and a kubelet does not start a pod whose claims are not allocated: such a pod would take
// its place for nothing.
const reasonClaims = "node(s) cannot be given to a pod with resourceClaims: they are not supported"

// fitsNode checks what concerns the node as such, whoever runs on it.
func (c *Cache) fitsNode(e *podEntry, own *ownState, n fwk.NodeInfo) error {
	if own.err != nil {
		return own.err
	}
	p, node := c.plugins, n.Node()
	if slices.Contains(c.avoid[string(e.pod.UID)], node.Name) {
		return &Refusal{Plugin: avoided, Reasons: []string{reasonAvoided}, Final: true}
	}
	if own.named {
		if err := c.filter(p.name, &own.state, e.pod, n); err != nil {
			return err
		}
	}
	if node.Spec.Unschedulable {
		if err := c.filter(p.unschedulable, &own.state, e.pod, n); err != nil {
			return err
		}
	}
	if len(node.Spec.Taints) > 0 {
		if err := c.filter(p.taints, &own.state, e.pod, n); err != nil {
			return err
		}
	}
	if own.nodes != nil && !own.nodes.Has(node.Name) {
		return &Refusal{Plugin: p.affinity.Name(), Reasons: []string{nodeaffinity.ErrReasonPod}, Final: true}
	}
	if own.selective {
		return c.filter(p.affinity, &own.state, e.pod, n)
	}
	return nil
}

// fitsRoom checks what the pod would take of the node, but for its volumes.
func (c *Cache) fitsRoom(e *podEntry, own *ownState, n fwk.NodeInfo) error {
	if own.ports {
		if err := c.filter(c.plugins.ports, &own.state, e.pod, n); err != nil {
			return err
		}
	}
	return c.filter(c.plugins.resources, &own.state, e.pod, n)
}

// fitsNeighbours checks rules between pods.
func (c *Cache) fitsNeighbours(e *podEntry, own *ownState, n fwk.NodeInfo) error {
	if !own.spread && !own.affine && !c.index.repelled() {
		return nil
	}
	spread, inter, err := c.neighbourStates(e, own)
	if err != nil {
		return err
	}
	if spread != nil {
		if err := c.filter(c.plugins.spread, spread, e.pod, n); err != nil {
			return err
		}
	}
	if inter != nil {
		return c.filter(c.plugins.interPod, inter, e.pod, n)
	}
	return nil
}

func (c *Cache) filter(p fwk.FilterPlugin, state fwk.CycleState, pod *v1.Pod, n fwk.NodeInfo) error {
	if st := p.Filter(c.ctx, state, pod, n); !st.IsSuccess() {
		return refusal(p.Name(), st)
	}
	return nil
}
