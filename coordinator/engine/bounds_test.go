package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func asks(name v1.ResourceName, quantity string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests[name] = resource.MustParse(quantity) }
}

// manyContainers ask for more than an int64 together.
func manyContainers(p *v1.Pod) {
	one := p.Spec.Containers[0]
	p.Spec.Containers = nil
	for i := range 5 {
		c := *one.DeepCopy()
		c.Name = fmt.Sprint("c", i)
		c.Resources.Requests[v1.ResourceMemory] = *resource.NewQuantity(1<<62, resource.BinarySI)
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
}

// A pod that asks for more than can be counted is placed nowhere, with a quota
// and without, and is told so; what waits beside it is placed, also once it has
// gone; and so it is on a node that says it has more than can be counted, or on
// which such a pod was put by hand.
func TestQuantitiesThatOverflow(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.node("endless", func(n *v1.Node) {
		n.Status.Allocatable[v1.ResourceMemory] = resource.MustParse("1e30")
		n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("10P")
	})
	open, small := newApp("open", "root.a"), newApp("small", "root.small")
	f.do(ledger.SubmitApp{App: open, Recovery: true}, ledger.SubmitApp{App: small, Recovery: true})
	var held []*ledger.Task
	for _, node := range []string{"n1", "endless"} {
		for i := range 2 { // twice: their sum must not wrap either
			pod := f.pod(fmt.Sprint("by hand", i, node), "1m", asks(v1.ResourceMemory, "1e30"), on(node))
			held = append(held, newTask(open, pod))
			f.do(ledger.Restore{App: open, Task: held[len(held)-1]})
			pod = f.pod(fmt.Sprint("foreign", i, node), "1m", asks(v1.ResourceMemory, "1e30"), on(node))
			f.ok(f.engine.SetForeign(pod))
		}
	}
	f.ok(f.differ(held...))
	// They are over what the cluster has, which keeps everybody from it.
	f.ok(f.engine.Drop(t.Context(), open.ID))
	f.ok(f.differ())
	f.do(ledger.SubmitApp{App: open, Recovery: true})
	f.node("n2")
	f.engage()
	sizes := map[string]func(*v1.Pod){
		"10P":  asks(v1.ResourceCPU, "10P"),
		"wrap": asks(v1.ResourceCPU, "18446744073709553"),
		"1e30": asks(v1.ResourceMemory, "1e30"),
		"many": manyContainers,
		"gpu":  asks("example.com/gpu", "9223372036854775807"),
	}
	var big []*ledger.Task
	for name, size := range sizes {
		for _, app := range []*ledger.App{open, small} {
			task := newTask(app, f.pod(name+app.ID, "1m", size))
			big = append(big, task)
			f.do(ledger.Ask{App: app, Task: task})
		}
	}
	for _, app := range []*ledger.App{open, small} {
		beside := newTask(app, f.pod("beside"+app.ID, "1"))
		f.do(ledger.Ask{App: app, Task: beside})
		if node := f.allocated(beside.ID); node != "n2" {
			t.Errorf("put on %s, beside what is over it", node)
		}
	}
	for _, task := range big {
		if task.AppID == open.ID {
			f.until("it is told what is wrong with "+task.ID, func() bool {
				for _, r := range f.reasons {
					if strings.HasPrefix(r, task.ID+": ") && strings.Contains(r, "Insufficient") {
						return true
					}
				}
				return false
			})
		}
		f.preds.RemovePod(task.ID)
		f.do(ledger.Release{Task: task, Termination: ledger.StoppedByRM})
	}
	after := newTask(open, f.pod("after", "1"))
	f.do(ledger.Ask{App: open, Task: after})
	f.allocated("after")
	if n := count(f, func(e ledger.Allocated) bool {
		return !slices.Contains([]string{"besideopen", "besidesmall", "after"}, e.TaskID)
	}); n != 0 {
		t.Errorf("%d placed that fit nowhere: %s", n, show(f.events))
	}
}

// A gang that no number counts is not admitted where there is a quota.
func TestGangThatOverflows(t *testing.T) {
	if isolated(t) {
		return
	}
	f := start(t, withQueues(quotaQueues))
	f.node("n1")
	f.engage()
	for name, group := range map[string]v1alpha1.TaskGroup{
		"size":    {Name: "g", MinMember: 2, MinResource: map[string]resource.Quantity{"cpu": resource.MustParse("10P")}},
		"members": {Name: "g", MinMember: 1<<31 - 1, MinResource: map[string]resource.Quantity{"cpu": resource.MustParse("9000000000000")}},
	} {
		app := newApp(name, "root.small")
		app.TaskGroups = []v1alpha1.TaskGroup{group}
		f.do(ledger.SubmitApp{App: app})
		waitFor(f, func(e ledger.AppRejected) bool { return e.AppID == name })
	}
}

func TestResourcesAreBounded(t *testing.T) {
	p := newPod("p", "18446744073709553", asks(v1.ResourceMemory, "1e30"))
	if got := engine.ResourcesOf(p); got["vcore"] != ledger.Most || got["memory"] != ledger.Most {
		t.Errorf("got %v", got)
	}
}
