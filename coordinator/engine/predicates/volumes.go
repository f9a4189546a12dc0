package predicates

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumebinding"
)

// volumesLast is for how long what the volume plugins found of a pod is used. Claims and volumes
// change without the cache being told. What has changed meanwhile is noticed by BindVolumes,
// which looks anew.
const volumesLast = 100 * time.Millisecond

// volumeState is what the volume plugins found of a pod, whatever the node. It may be read by
// several goroutines.
type volumeState struct {
	pods  uint64 // the generation
	until time.Time
	state cycleState
	// err is why the pod fits no node at all.
	err error
	// skip says which plugins have nothing to check, in their order; nodes restricts the pod to some
	// nodes by name, unless it is nil, for the plugin restricted.
	skip       []bool
	nodes      sets.Set[string]
	restricted string
	// local are its claims, if only volumes that exist come into question for all of them.
	local []*v1.PersistentVolumeClaim
}

// volumesOfPod returns what the volume plugins find of a pod. It is kept for as long as the pod is
// likely to be asked about: to find it out for each node would take the square of their number,
// as it goes through all volumes of a class.
func (c *Cache) volumesOfPod(e *podEntry) *volumeState {
	now := time.Now()
	if v := e.volumes.Load(); v != nil && v.pods == c.gens.pods && now.Before(v.until) {
		return v
	}
	v := &volumeState{pods: c.gens.pods, until: now.Add(volumesLast)}
	for _, p := range c.plugins.volumes {
		result, st := p.PreFilter(c.ctx, &v.state, e.pod, c.index.all)
		v.skip = append(v.skip, st.IsSkip())
		if !st.IsSkip() && !st.IsSuccess() {
			v.err = refusal(p.Name(), st)
			break
		}
		if result != nil && !result.AllNodes() {
			v.nodes, v.restricted = result.NodeNames, p.Name()
		}
	}
	v.local = c.localClaims(e.pod)
	e.volumes.Store(v)
	return v
}

// clone copies it for a trial.
func (v *volumeState) clone() *volumeState {
	out := *v
	out.state = *v.state.clone()
	return &out
}

// fitsVolumes asks the volume plugins about a node.
func (c *Cache) fitsVolumes(v *volumeState, pod *v1.Pod, n fwk.NodeInfo) error {
	if v.err != nil {
		return v.err
	}
	if v.nodes != nil && !v.nodes.Has(n.Node().Name) {
		return &Refusal{Plugin: v.restricted, Reasons: []string{"node(s) didn't match the volumes' node affinity"}, Final: true}
	}
	for i, p := range c.plugins.volumes {
		if v.skip[i] {
			continue
		}
		if checker(c.plugins.binding) == p && !c.hasLocal(v.local, n.Node()) {
			return &Refusal{Plugin: p.Name(), Reasons: []string{string(volumebinding.ErrReasonBindConflict)}, Final: true}
		}
		if err := c.filter(p, &v.state, pod, n); err != nil {
			return err
		}
	}
	return nil
}

// errNoVolumes says that BindVolumes was called on a cache without volumes.
var errNoVolumes = errors.New("the cache was built without volumes")

// BindVolumes binds the pod's claims for the node it is going to be bound to,
// and waits until they are bound: it selects and claims volumes that exist,
// and has the others provisioned. It is to be called before the pod is bound;
// for a pod without claims it does nothing. Unlike the other methods it talks
// to the API server and may take long. A *Refusal among its errors says that
// the pod does not fit the node any more: others have taken the volumes, or none
// can be made there.
func (c *Cache) BindVolumes(ctx context.Context, uid, node string) error {
	pod, info, err := c.volumesOf(uid, node)
	if err != nil || info == nil {
		return err
	}
	if c.plugins.binding == nil {
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, errNoVolumes)
	}
	// The plugin reads the node off the pod, and looks it up in the factory.
	pod = pod.DeepCopy()
	pod.Spec.NodeName = node
	state, err := c.reserveVolumes(ctx, pod, info)
	if err != nil {
		return fmt.Errorf("volumes of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if st := c.plugins.binding.PreBind(ctx, state, pod, node); !st.IsSuccess() {
		c.plugins.binding.Unreserve(ctx, state, pod, node)
		return fmt.Errorf("volumes of pod %s/%s: %w", pod.Namespace, pod.Name, c.unbound(st.AsError()))
	}
	return nil
}

// unbound tells a failure to reach the API server, which is to be repeated, from
// what became of the volumes, for which the plugin wants the pod to be placed anew.
func (c *Cache) unbound(err error) error {
	var network net.Error
	if errors.As(err, &network) || apierrors.ReasonForError(err) != metav1.StatusReasonUnknown ||
		errors.Is(err, context.Canceled) {
		return err
	}
	return &Refusal{Plugin: c.plugins.binding.Name(), Reasons: []string{err.Error()}}
}

// HasClaims reports whether BindVolumes may have something to do for the pod.
func (c *Cache) HasClaims(uid string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.pods[uid]
	return e != nil && hasClaims(e.pod)
}

func hasClaims(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool {
		return v.PersistentVolumeClaim != nil || v.Ephemeral != nil
	})
}

// volumesOf returns the pod and a copy of its node, or a nil node if the pod
// has no volumes to bind.
func (c *Cache) volumesOf(uid, node string) (*v1.Pod, *framework.NodeInfo, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, _, err := c.lookup(uid, node)
	if err != nil {
		return nil, nil, err
	}
	if hasClaims(e.pod) {
		return e.pod, c.nodes[node].info.SnapshotConcrete(), nil
	}
	return e.pod, nil, nil
}

// reserveVolumes chooses volumes and marks them taken, so that no other pod is
// given the same one meanwhile.
func (c *Cache) reserveVolumes(ctx context.Context, pod *v1.Pod, n *framework.NodeInfo) (*cycleState, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	binding := c.plugins.binding
	state := &cycleState{}
	if _, st := binding.PreFilter(ctx, state, pod, c.index.all); st.IsSkip() {
		return state, nil
	} else if !st.IsSuccess() {
		return nil, refusal(binding.Name(), st)
	}
	if st := binding.Filter(ctx, state, pod, n); !st.IsSuccess() {
		return nil, refusal(binding.Name(), st)
	}
	if st := binding.Reserve(ctx, state, pod, n.Node().Name); !st.IsSuccess() {
		return nil, refusal(binding.Name(), st)
	}
	return state, nil
}
