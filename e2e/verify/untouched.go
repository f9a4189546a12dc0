package verify

import (
	"fmt"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// Untouched checks that the pods that ran before a fault still run: none was
// deleted or marked for it, moved, restarted, or left phase Running at any
// later moment of the history. deleted names, by UID, those that the drill
// itself removed. Placeholders are there to go.
func Untouched(before history.Running, pods []history.PodEvent, gaps []history.Gap, deleted map[string]bool) Check {
	c := newCheck("running pods untouched")
	c.gaps(gaps)
	was := make(map[string]*history.Pod, len(before.Pods))
	for _, p := range before.Pods {
		if !deleted[p.UID] && !p.Placeholder {
			was[p.UID] = p
		}
	}
	if len(was) == 0 {
		c.failf("not proven: no pod ran before the fault")
	}
	if before.Next > len(pods) {
		c.failf("not proven: the history ends before the fault")
		return *c
	}
	hurt := map[string]bool{}
	for _, ev := range pods[before.Next:] {
		p := ev.Pod
		old := was[p.UID]
		if old == nil || hurt[p.UID] {
			continue
		}
		if what := change(old, ev); what != "" {
			hurt[p.UID] = true
			c.failf("pod %s/%s (%s), running on %s, %s at revision %d",
				p.Namespace, p.Name, p.UID, old.Node, what, ev.Revision)
		}
	}
	c.Detail = fmt.Sprintf("%d of %d pods that ran before the fault still run as they did",
		len(was)-len(hurt), len(was))
	return *c
}

// change says in what way the pod is not what it was; empty if it is.
func change(old *history.Pod, ev history.PodEvent) string {
	p := ev.Pod
	switch {
	case ev.Kind == history.Gone:
		return "was deleted"
	case p.Deleting && !old.Deleting:
		return "was marked for deletion"
	case p.Node != old.Node:
		return fmt.Sprintf("moved to %q", p.Node)
	case p.Phase != old.Phase:
		return fmt.Sprintf("became %s", p.Phase)
	case p.Restarts != old.Restarts:
		return fmt.Sprintf("restarted %d times", p.Restarts-old.Restarts)
	}
	return ""
}
