package verify

import (
	"fmt"
	"iter"
	"sort"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// Scheduler is the spec.schedulerName whose pods the coordinator binds.
const Scheduler = "yunikorn"

// Expected is a pod that must have been bound.
type Expected struct {
	Namespace string
	Name      string
	UID       string
}

func (e Expected) String() string { return e.Namespace + "/" + e.Name }

// BoundOnce checks that each expected pod was assigned exactly once, and that
// no pod at all was assigned twice. The history shows every assignment that
// took effect. The audit log, where it is not nil, shows what the API server
// answered: at most one success for each pod, and one where the pod was
// assigned while the history was recorded.
func BoundOnce(expected []Expected, pods []history.PodEvent, gaps []history.Gap, audit []Binding) Check {
	c := newCheck("bound once")
	c.gaps(gaps)
	assigned := assignments(c, pods)
	accepted := successes(c, pods, audit)

	bound, seen := 0, make(map[string]bool, len(expected))
	for _, e := range expected {
		if seen[e.UID] {
			c.failf("pod %s is expected twice", e)
			continue
		}
		seen[e.UID] = true
		switch a := assigned[e.UID]; {
		case e.UID == "":
			c.failf("pod %s was never created", e)
		case a == nil:
			c.failf("pod %s (%s) was never seen", e, e.UID)
		case a.nodes == 0:
			c.failf("pod %s (%s) was never bound", e, e.UID)
		case audit != nil && !a.base && accepted[e.UID] == nil:
			c.failf("pod %s (%s) is bound, and the audit log knows of no binding", e, e.UID)
		default:
			bound++
		}
	}
	if len(expected) == 0 {
		c.failf("not proven: no pod was expected")
	}
	refused, unanswered := 0, 0
	for _, b := range audit {
		switch {
		case b.Code == 0:
			unanswered++
		case !b.Accepted():
			refused++
		}
	}
	c.Detail = fmt.Sprintf("%d of %d pods bound once", bound, len(expected))
	if audit != nil {
		c.Detail += fmt.Sprintf("; audit log: %d bindings accepted, %d refused", len(audit)-refused-unanswered, refused)
		if unanswered > 0 {
			c.Detail += fmt.Sprintf(", %d not answered", unanswered)
		}
	}
	return *c
}

// assignment sums up what the history says of one pod.
type assignment struct {
	// nodes counts assignments; base says that it was assigned from the start.
	nodes int
	base  bool
	node  string
}

// assignments counts how often each pod got a node.
func assignments(c *Check, pods []history.PodEvent) map[string]*assignment {
	out := map[string]*assignment{}
	for _, ev := range pods {
		p := ev.Pod
		a := out[p.UID]
		if a == nil {
			a = &assignment{}
			out[p.UID] = a
		}
		if p.Node == a.node {
			continue
		}
		if a.nodes > 0 {
			c.failf("pod %s/%s (%s) moved from node %q to %q at revision %d",
				p.Namespace, p.Name, p.UID, a.node, p.Node, ev.Revision)
		}
		a.nodes++
		a.node = p.Node
		a.base = ev.Kind == history.Base
	}
	return out
}

// successes counts the accepted bindings of each pod and returns, by UID, those
// that assigned it or may have.
func successes(c *Check, pods []history.PodEvent, audit []Binding) map[string]*Binding {
	uids := uidsByName(pods)
	out := map[string]*Binding{}
	for i := range audit {
		b := &audit[i]
		if !b.Accepted() && !b.Unknown() {
			continue
		}
		uid := b.UID
		if uid == "" {
			// Without a precondition the name decides, if it was used once.
			if all := uids[b.Namespace+"/"+b.Name]; len(all) == 1 {
				uid = all[0]
			} else if b.Accepted() {
				c.failf("a binding of %s/%s was accepted that names no UID", b.Namespace, b.Name)
				continue
			}
		}
		prev := out[uid]
		switch {
		case prev == nil, !prev.Accepted():
			out[uid] = b
		case b.Accepted():
			c.failf("pod %s/%s (%s): two bindings accepted, to %s by epoch %d and to %s by epoch %d",
				b.Namespace, b.Name, uid, prev.Node, prev.Epoch, b.Node, b.Epoch)
		}
	}
	return out
}

func uidsByName(pods []history.PodEvent) map[string][]string {
	out := map[string][]string{}
	known := map[string]bool{}
	for _, ev := range pods {
		if !known[ev.Pod.UID] {
			known[ev.Pod.UID] = true
			name := ev.Pod.Namespace + "/" + ev.Pod.Name
			out[name] = append(out[name], ev.Pod.UID)
		}
	}
	return out
}

// OneEpochBinds checks that epochs took turns: no binding of an older epoch
// took effect after one of a newer. The revisions at which pods became
// assigned are the exact order. The audit log adds what was answered: a binding
// received after one of a newer epoch had been completed must not have been
// accepted. user, if not empty, limits the log to one account.
func OneEpochBinds(pods []history.PodEvent, gaps []history.Gap, audit []Binding, user string) Check {
	c := newCheck("one epoch binds")
	c.gaps(gaps)
	perEpoch := map[uint64]int{}
	var newest uint64
	for ev := range bindings(pods) {
		p := ev.Pod
		switch {
		case p.Epoch == 0:
			c.failf("pod %s/%s was bound at revision %d by nobody's epoch", p.Namespace, p.Name, ev.Revision)
		case p.Epoch < newest:
			c.failf("pod %s/%s was bound at revision %d by epoch %d after epoch %d had bound",
				p.Namespace, p.Name, ev.Revision, p.Epoch, newest)
		}
		newest = max(newest, p.Epoch)
		perEpoch[p.Epoch]++
	}
	auditOrder(c, audit, user)
	if len(perEpoch) == 0 {
		c.failf("not proven: no binding was observed")
	}
	c.Detail = "bindings by epoch: " + countsByEpoch(perEpoch)
	return *c
}

// bindings yields the events by which pods of the scheduler got their nodes.
func bindings(pods []history.PodEvent) iter.Seq[history.PodEvent] {
	return func(yield func(history.PodEvent) bool) {
		node := map[string]string{}
		for _, ev := range pods {
			p := ev.Pod
			before := node[p.UID]
			node[p.UID] = p.Node
			if before != "" || p.Node == "" || ev.Kind == history.Base || p.Scheduler != Scheduler {
				continue
			}
			if !yield(ev) {
				return
			}
		}
	}
}

// auditOrder looks for a binding that was received when a newer epoch's had
// been completed. Overlapping requests prove nothing about their order.
func auditOrder(c *Check, audit []Binding, user string) {
	var accepted []Binding
	for _, b := range audit {
		if b.Accepted() && b.Epoch != 0 && (user == "" || b.User == user) {
			accepted = append(accepted, b)
		}
	}
	byReceipt := append([]Binding(nil), accepted...)
	sort.SliceStable(byReceipt, func(i, j int) bool { return byReceipt[i].Received.Before(byReceipt[j].Received) })
	sort.SliceStable(accepted, func(i, j int) bool { return accepted[i].Completed.Before(accepted[j].Completed) })
	var newest uint64
	done := 0
	for _, b := range byReceipt {
		for done < len(accepted) && accepted[done].Completed.Before(b.Received) {
			newest = max(newest, accepted[done].Epoch)
			done++
		}
		if b.Epoch < newest {
			c.failf("audit log: a binding of %s/%s by epoch %d was received at %s, after epoch %d had bound, and accepted",
				b.Namespace, b.Name, b.Epoch, b.Received.Format("15:04:05.000000"), newest)
		}
	}
}

func countsByEpoch(m map[uint64]int) string {
	epochs := make([]uint64, 0, len(m))
	for e := range m {
		epochs = append(epochs, e)
	}
	sort.Slice(epochs, func(i, j int) bool { return epochs[i] < epochs[j] })
	s := ""
	for i, e := range epochs {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%d: %d", e, m[e])
	}
	return s
}
