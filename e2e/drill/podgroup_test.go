package drill

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// gangs are PodGroups of three pods each, of which every pod fills a node.
type gangs struct{ *managed }

func (g gangs) create(name string) {
	g.t.Helper()
	_, err := g.Client().SchedulingV1beta1().PodGroups("default").Create(g.ctx, &schedulingv1beta1.PodGroup{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: schedulingv1beta1.PodGroupSpec{SchedulingPolicy: schedulingv1beta1.PodGroupSchedulingPolicy{
			Gang: &schedulingv1beta1.GangSchedulingPolicy{MinCount: 3},
		}},
	}, metav1.CreateOptions{})
	g.do(err)
}

func (g gangs) pod(group string, i int) {
	g.t.Helper()
	pod := podOf("", fmt.Sprintf("%s-%d", group, i), requests("1"), func(p *v1.Pod) {
		p.Labels = map[string]string{"gang": group}
		p.Spec.SchedulingGroup = &v1.PodSchedulingGroup{PodGroupName: &group}
	}, annotated("yunikorn.apache.org/schedulingPolicyParameters", "placeholderTimeoutInSeconds=3"))
	made, err := g.Client().CoreV1().Pods("default").Create(g.ctx, pod, metav1.CreateOptions{})
	g.do(err)
	if made.Spec.SchedulingGroup == nil {
		g.t.Fatal("the API server does not know spec.schedulingGroup")
	}
}

// bound is how many pods of a group have a node.
func (g gangs) bound(group string) (n int) {
	g.t.Helper()
	pods, err := g.Client().CoreV1().Pods("default").List(g.ctx, metav1.ListOptions{LabelSelector: "gang=" + group})
	g.do(err)
	for i := range pods.Items {
		if pods.Items[i].Spec.NodeName != "" {
			n++
		}
	}
	return n
}

func (g gangs) awaitBound(group string, want int) {
	g.t.Helper()
	g.do(await(g.ctx, fmt.Sprintf("%d pods of %s", want, group), func() (bool, error) { return g.bound(group) == want, nil }))
}

// awaitHeld waits until the mirror knows of a pod of a group that has a node and awaits the
// others.
func (g gangs) awaitHeld(group string) {
	g.t.Helper()
	g.do(await(g.ctx, "half of "+group, func() (bool, error) {
		_, tasks, err := mirrored(g.ctx, g.Lab)
		for _, of := range tasks {
			for _, t := range of {
				if t.TaskGroup == "default/"+group && t.State == ledger.TaskStateAllocated {
					return true, nil
				}
			}
		}
		return false, err
	}))
}

// awaitCondition waits for PodGroupInitiallyScheduled of a group.
func (g gangs) awaitCondition(group string, status metav1.ConditionStatus, reason string) {
	g.t.Helper()
	var last *metav1.Condition
	err := await(g.ctx, "the condition of "+group, func() (bool, error) {
		object, err := g.Client().SchedulingV1beta1().PodGroups("default").Get(g.ctx, group, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		last = apimeta.FindStatusCondition(object.Status.Conditions, schedulingv1beta1.PodGroupInitiallyScheduled)
		return last != nil && last.Status == status && last.Reason == reason, nil
	})
	if err != nil {
		g.t.Fatalf("%v; it is %+v", err, last)
	}
}

func (g gangs) remove(group string, i int) {
	g.t.Helper()
	g.do(g.Client().CoreV1().Pods("default").Delete(g.ctx, fmt.Sprintf("%s-%d", group, i), metav1.DeleteOptions{}))
}

// TestPodGroupsAreBoundWhole: of two gangs that do not fit together one runs, and nobody of
// the other, also under a lead that finds half of it decided. One that runs is not held back
// again: a pod that takes the place of another runs under the next lead.
func TestPodGroupsAreBoundWhole(t *testing.T) {
	t.Parallel()
	g := gangs{enable(t, []any{map[string]any{"name": "podgroup"}, map[string]any{"name": "general"}},
		func(change func(*lab.Options)) *lab.Lab {
			return up(t, func(o *lab.Options) {
				change(o)
				o.PodGroups, o.Nodes = true, 4
				o.Node.CPU = "1500m"
			})
		})}
	g.create("a")
	for i := range 2 {
		g.pod("a", i)
	}
	g.pod("b", 0) // its group does not exist yet
	g.create("b")
	for i := 1; i < 3; i++ {
		g.pod("b", i)
	}
	g.awaitBound("b", 3)
	g.awaitCondition("b", metav1.ConditionTrue, "Scheduled")
	g.pod("a", 2)
	g.awaitHeld("a")
	if n := g.bound("a"); n > 0 {
		t.Errorf("%d pods of a gang without room are bound", n)
	}
	g.killLead(nil)
	g.awaitCondition("a", metav1.ConditionFalse, schedulingv1beta1.PodGroupReasonUnschedulable)
	if n := g.bound("a"); n > 0 {
		t.Errorf("a lead that found half a gang bound %d pods", n)
	}

	g.remove("b", 0)
	g.awaitBound("b", 2)
	g.killLead(nil)
	g.pod("b", 3)
	g.awaitBound("b", 3)
	if n := g.bound("a"); n > 0 {
		t.Errorf("%d pods of a gang without room are bound", n)
	}

	for i := 1; i < 4; i++ {
		g.remove("b", i)
	}
	g.awaitBound("a", 3)
	g.awaitCondition("a", metav1.ConditionTrue, "Scheduled")
	g.awaitCondition("b", metav1.ConditionTrue, "Scheduled")

	// The mirror loses everything: what runs is there again, and is not held back.
	g.remove("a", 0)
	g.awaitBound("a", 2)
	g.wipe()
	g.pod("a", 3)
	g.awaitBound("a", 3)
}
