package drill

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// TestResizesInPlace: what a running pod takes of its queue follows its resize, up and down, while
// it has to wait for room and when it never gets any, and every successor knows it.
// This test plays the kubelet.
func TestResizesInPlace(t *testing.T) {
	t.Parallel()
	l := up(t, func(o *lab.Options) { o.Queues = lab.Queues("4", "64Gi") })
	s := begin(t, l)
	r := resizing{t, s, create(t, s, podOf("grows", "grows", requests("1")))}
	bound(t, s, r.pod)
	n := 0
	// room says whether cpu is left in the queue, before and after a failover.
	room := func(cpu string, want bool) {
		t.Helper()
		n++
		probe := create(t, s, podOf("probes", fmt.Sprint("probe-", n), requests(cpu)))
		if want {
			bound(t, s, probe)
		} else {
			scheduled(t, s, probe, v1.ConditionFalse, "SchedulingSkipped")
			succeed(t, s, nil)
			after := create(t, s, podOf("probes", fmt.Sprint("probe-after-", n), requests("10m")))
			bound(t, s, after) // it leads on, and comes after the one before
			now, err := s.Lab.Client().CoreV1().Pods(probe.Namespace).Get(t.Context(), probe.Name, metav1.GetOptions{})
			if err != nil || now.Spec.NodeName != "" {
				t.Errorf("after the failover there is room for %s: it is on %q, %v", cpu, now.Spec.NodeName, err)
			}
			r.remove(after)
		}
		r.remove(probe)
	}
	room("3", true)
	r.asks("2")
	r.says("2", "2", "")
	room("3", false)
	r.asks("1")
	r.says("1", "2", "") // it is to have less and still uses it
	room("3", false)
	r.says("1", "1", "")
	room("3", true)
	r.asks("3")
	r.says("1", "1", v1.PodReasonDeferred)
	room("2", false)
	r.asks("30")
	r.says("1", "1", v1.PodReasonInfeasible)
	room("3", true)
	// The verdict counts what pods ask for, which here is more than there is.
}

// resizing is a pod that is resized.
type resizing struct {
	t   *testing.T
	s   *Session
	pod *v1.Pod
}

// asks has the pod ask for more or less.
func (r resizing) asks(cpu string) {
	r.t.Helper()
	r.edit("resize", func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse(cpu)
	})
}

// says has the kubelet say what the pod has been given, what it uses, and why it is not resized.
func (r resizing) says(allocated, actual, reason string) {
	r.t.Helper()
	list := func(cpu string) v1.ResourceList { return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)} }
	r.edit("status", func(p *v1.Pod) {
		p.Status.ContainerStatuses = []v1.ContainerStatus{{
			Name: p.Spec.Containers[0].Name, AllocatedResources: list(allocated),
			Resources: &v1.ResourceRequirements{Requests: list(actual)},
		}}
		p.Status.Conditions = []v1.PodCondition{{Type: v1.PodScheduled, Status: v1.ConditionTrue}}
		if reason != "" {
			p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{
				Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(time.Now()),
			})
		}
	})
}

func (r resizing) edit(subresource string, change func(*v1.Pod)) {
	r.t.Helper()
	pods := r.s.Lab.Client().CoreV1().Pods(r.pod.Namespace)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		pod, err := pods.Get(r.t.Context(), r.pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(pod)
		if subresource == "resize" {
			_, err = pods.UpdateResize(r.t.Context(), pod.Name, pod, metav1.UpdateOptions{})
		} else {
			_, err = pods.UpdateStatus(r.t.Context(), pod, metav1.UpdateOptions{})
		}
		return err
	})
	if err != nil {
		r.t.Fatalf("%s: %v", subresource, err)
	}
}

func (r resizing) remove(pod *v1.Pod) {
	r.t.Helper()
	if err := r.s.Delete(r.t.Context(), pod); err != nil {
		r.t.Fatal(err)
	}
}
