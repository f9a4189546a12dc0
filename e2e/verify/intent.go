package verify

import (
	"fmt"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// IntentOptions say what the leads told about themselves.
type IntentOptions struct {
	// Suspended are the epochs whose leads said that they let effects run ahead
	// of durability, as they may under the policy "available" while etcd is away.
	Suspended map[uint64]bool
}

// IntentBeforeBind checks that no pod was bound before the decision was durable:
// the first record that names the node for the pod was written by the epoch that
// bound it or, where a successor carries out what it found, by an older one. A
// binding whose record only a newer epoch wrote was an effect ahead of its
// commit, for its own lead was gone by then.
//
// It does not apply, and counts them, to such bindings of epochs that said that
// the guarantee is suspended, and of epochs that were claimed in an etcd whose
// data was lost later, maybe before the history could see all of it.
func IntentBeforeBind(
	pods []history.PodEvent, podGaps []history.Gap,
	events []history.EtcdEvent, etcdGaps []history.Gap, opts IntentOptions,
) Check {
	c := newCheck("intent before bind")
	c.gaps(podGaps)
	c.gaps(etcdGaps)
	known := readIntents(events)
	proven, suspended, wiped := 0, 0, 0
	for ev := range bindings(pods) {
		p := ev.Pod
		first, found := known.first[intent{p.UID, p.Node}]
		where := fmt.Sprintf("pod %s/%s (%s) was bound to %s at revision %d by epoch %d",
			p.Namespace, p.Name, p.UID, p.Node, ev.Revision, p.Epoch)
		switch {
		case found && first.epoch <= p.Epoch:
			proven++
		case opts.Suspended[p.Epoch]:
			suspended++
		case known.wiped(p.Epoch) && (!found || first.generation > known.claimed[p.Epoch]):
			wiped++
		case found:
			c.failf("%s, and first recorded there by epoch %d", where, first.epoch)
		default:
			c.failf("%s, and no record says so", where)
		}
	}
	if c.OK && proven+suspended+wiped == 0 {
		c.failf("not proven: no binding was observed")
	}
	c.Detail = fmt.Sprintf("%d bindings recorded by their own epoch or an older one", proven)
	if suspended > 0 {
		c.Detail += fmt.Sprintf("; does not apply to %d of epochs that said the guarantee is suspended", suspended)
	}
	if wiped > 0 {
		c.Detail += fmt.Sprintf("; does not apply to %d whose records were wiped with etcd", wiped)
	}
	return *c
}

// intent is a node for a pod.
type intent struct{ uid, node string }

// writing says who wrote something, in which data set of etcd.
type writing struct {
	epoch      uint64
	generation int
}

type intents struct {
	first      map[intent]writing
	claimed    map[uint64]int // generation of each epoch's claim
	generation int            // the last one
}

// wiped reports whether etcd lost its data after the epoch was claimed.
func (i intents) wiped(epoch uint64) bool { return i.claimed[epoch] < i.generation }

// readIntents leaves out what cannot be read or is not signed: that is for Fence
// to find, and proves nothing here.
func readIntents(events []history.EtcdEvent) intents {
	out := intents{first: map[intent]writing{}, claimed: map[uint64]int{}}
	for _, ev := range events {
		out.generation = max(out.generation, ev.Generation)
		if ev.Deleted {
			continue
		}
		e, err := decode(ev.Key, ev.Value)
		if err != nil || e.epoch == 0 {
			continue
		}
		switch e.kind {
		case kindLeader:
			out.claimed[e.epoch] = ev.Generation
		case kindTask:
			key := intent{e.taskID, e.node}
			if _, ok := out.first[key]; e.node != "" && !ok {
				out.first[key] = writing{e.epoch, ev.Generation}
			}
		}
	}
	return out
}
