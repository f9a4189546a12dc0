package predicates

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// fitsVolumes runs the volume plugins with a state of its own: claims and
// volumes change without the cache being told.
func (c *Cache) fitsVolumes(pod *v1.Pod, n fwk.NodeInfo) error {
	return c.checkVolumes(c.ctx, &cycleState{}, pod, n)
}

func (c *Cache) checkVolumes(ctx context.Context, state *cycleState, pod *v1.Pod, n fwk.NodeInfo) error {
	for _, p := range c.plugins.volumes {
		result, st := p.PreFilter(ctx, state, pod, c.index.all)
		if st.IsSkip() {
			continue
		}
		if !st.IsSuccess() {
			return refusal(p.Name(), st)
		}
		if result != nil && !result.AllNodes() && !result.NodeNames.Has(n.Node().Name) {
			return &Refusal{Plugin: p.Name(), Reasons: []string{"node(s) didn't match the volumes' node affinity"}, Final: true}
		}
		if st := p.Filter(ctx, state, pod, n); !st.IsSuccess() {
			return refusal(p.Name(), st)
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
