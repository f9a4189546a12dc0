package predicates

import (
	"errors"

	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// errStillUnfit says that removing every victim is not enough.
var errStillUnfit = errors.New("the pod does not fit even without the victims")

// PreemptionFits looks for the shortest run of victims whose removal lets the
// pod run on the node. Victims are removed in order; the first start of them
// before anything is checked. It returns the index of the last one that has to
// go. A victim that is unknown or elsewhere frees nothing.
func (c *Cache) PreemptionFits(uid, node string, victims []string, start int) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, info, err := c.lookup(uid, node)
	if err != nil {
		return -1, err
	}
	own := c.ownState(e)
	if err := c.fitsNode(e, own, info); err != nil {
		return -1, err
	}
	t, err := c.newTrial(e, own, node)
	if err != nil {
		return -1, err
	}
	last := errStillUnfit
	for i, victim := range victims {
		if err := t.remove(victim); err != nil {
			return -1, err
		}
		if i < start {
			continue
		}
		if last = t.check(); last == nil {
			return i, nil
		}
	}
	return -1, last
}

// trial is a copy of one node, and of the state the pod is checked with, from
// which victims are removed.
type trial struct {
	c             *Cache
	e             *podEntry
	own           *ownState
	node          *framework.NodeInfo
	spread, inter *cycleState
	volumes       *volumeState // nil if the pod has none
}

func (c *Cache) newTrial(e *podEntry, own *ownState, node string) (*trial, error) {
	t := &trial{c: c, e: e, own: own, node: c.nodes[node].info.SnapshotConcrete()}
	if own.volumes {
		t.volumes = c.volumesOfPod(e).clone()
	}
	if !own.spread && !own.affine && !c.index.repelled() {
		return t, nil
	}
	spread, inter, err := c.neighbourStates(e, own)
	if err != nil {
		return nil, err
	}
	if spread != nil {
		t.spread = spread.clone()
	}
	if inter != nil {
		t.inter = inter.clone()
	}
	return t, nil
}

func (t *trial) remove(uid string) error {
	v := t.c.pods[uid]
	if v == nil || v.node != t.node.Node().Name {
		return nil
	}
	if err := t.node.RemovePod(klog.FromContext(t.c.ctx), v.pod); err != nil {
		return err
	}
	if t.volumes != nil {
		if err := t.giveBack(v); err != nil {
			return err
		}
	}
	if t.spread != nil {
		if err := t.forget(t.c.plugins.spread, t.spread, v); err != nil {
			return err
		}
	}
	if t.inter != nil {
		return t.forget(t.c.plugins.interPod, t.inter, v)
	}
	return nil
}

func (t *trial) forget(p fwk.PreFilterPlugin, state *cycleState, v *podEntry) error {
	if st := p.PreFilterExtensions().RemovePod(t.c.ctx, state, t.e.pod, v.info, t.node); !st.IsSuccess() {
		return refusal(p.Name(), st)
	}
	return nil
}

// giveBack takes a victim off the claims of which only one pod may have each.
func (t *trial) giveBack(v *podEntry) error {
	for i, p := range t.c.plugins.volumes {
		if i < len(t.volumes.skip) && !t.volumes.skip[i] && p.PreFilterExtensions() != nil { // PreFilter may have ended early
			if err := t.forget(p, &t.volumes.state, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *trial) check() error {
	if err := t.c.fitsRoom(t.e, t.own, t.node); err != nil {
		return err
	}
	if t.volumes != nil {
		if err := t.c.fitsVolumes(t.volumes, t.e.pod, t.node); err != nil {
			return err
		}
	}
	if t.spread != nil {
		if err := t.c.filter(t.c.plugins.spread, t.spread, t.e.pod, t.node); err != nil {
			return err
		}
	}
	if t.inter != nil {
		return t.c.filter(t.c.plugins.interPod, t.inter, t.e.pod, t.node)
	}
	return nil
}
