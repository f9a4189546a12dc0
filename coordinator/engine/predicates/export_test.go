package predicates

import fwk "k8s.io/kube-scheduler/framework"

// FitsAnew answers as Fits does of a pod that may run now, with the volume plugins asked one after
// the other about this node alone, as they are in kube-scheduler.
func (c *Cache) FitsAnew(uid, node string) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, n, err := c.lookup(uid, node)
	if err != nil {
		return err
	}
	state := &cycleState{}
	var run []checker
	for _, p := range c.plugins.volumes {
		result, st := p.PreFilter(c.ctx, state, e.pod, c.index.all)
		switch {
		case st.IsSkip():
			continue
		case !st.IsSuccess():
			return refusal(p.Name(), st)
		case result != nil && !result.AllNodes() && !result.NodeNames.Has(n.Node().Name):
			return refusal(p.Name(), fwk.NewStatus(fwk.Unschedulable))
		}
		run = append(run, p)
	}
	for _, p := range run {
		if err := c.filter(p, state, e.pod, n); err != nil {
			return err
		}
	}
	return nil
}
