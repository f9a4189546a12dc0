package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/election"
)

// The lead and its supervisor die at once, so that nobody is left to release the
// Lease. What others write about its pod does not prove that; what the kubelet writes
// does.
func TestDeathThatTheKubeletReports(t *testing.T) {
	s := onStage(t, time.Minute, 40*time.Second)
	name, incarnation := s.lead()
	message, err := s.Replica(name).TerminationMessage()
	s.do(err)
	if !strings.Contains(message, incarnation) {
		t.Fatalf("%s leaves %q to the kubelet", incarnation, message)
	}
	home := s.state.Namespace
	template, err := s.Client().CoreV1().Pods(home).Get(t.Context(), name, metav1.GetOptions{})
	s.do(err)
	put := func(namespace, name string) { s.put(template, namespace, name) }
	put(home, name)
	s.do(s.Kill(lab.SupervisorOf(name), syscall.SIGKILL))

	for _, c := range []struct {
		what string
		do   func()
	}{
		{"the node is not ready", func() { s.nodeNotReady() }},
		{"the pod has been deleted", func() {
			zero := int64(0)
			s.do(s.Client().CoreV1().Pods(home).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero}))
		}},
		{"a controller has failed the pod", func() {
			put(home, name)
			s.report(home, name, func(p *corev1.PodStatus) { p.Phase, p.Reason = corev1.PodFailed, "NodeLost" })
		}},
		{"an earlier incarnation has ended", func() {
			s.report(home, name, ended(strings.ReplaceAll(message, incarnation, name+"_ABCDEFGHIJ")))
		}},
		{"the kubelet has lost the container", func() {
			s.report(home, name, ended("The container could not be located when the pod was terminated"))
		}},
		{"a pod of another name says so", func() {
			put(home, "another")
			s.report(home, "another", ended(message))
		}},
		{"a pod of another namespace says so", func() {
			put("default", name)
			s.report("default", name, ended(message))
		}},
	} {
		c.do()
		// Longer than a watch takes, and pods are seen in order: what is too late for
		// this one fails the next.
		<-time.After(500 * time.Millisecond)
		if got := s.holder(t.Context()); got != incarnation {
			t.Fatalf("%s, and %q took the lease from %s", c.what, got, incarnation)
		}
	}

	at := time.Now()
	s.report(home, name, ended(message))
	took, why := s.followed(incarnation, at)
	t.Logf("the lease was taken after %v", took)
	if why != election.Dead {
		t.Errorf("it was free because %s", why)
	}
}

// ended is how a kubelet reports a container that runs again after it has ended.
func ended(message string) func(*corev1.PodStatus) {
	now := metav1.Now()
	return func(p *corev1.PodStatus) {
		p.Phase, p.Reason = corev1.PodRunning, ""
		p.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "understudy", Image: "understudy:dev", ImageID: "sha", RestartCount: 1, ContainerID: "containerd://2",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: "OOMKilled", Message: message, StartedAt: now, FinishedAt: now, ContainerID: "containerd://1",
			}},
		}}
	}
}

// put makes a pod on a node, in place of one of that name, and waits until it runs.
// From then on its status is the test's to write.
func (s *stage) put(like *corev1.Pod, namespace, name string) {
	s.t.Helper()
	ctx, pods := s.t.Context(), s.Client().CoreV1().Pods(namespace)
	zero := int64(0)
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); !apierrors.IsNotFound(err) {
		s.do(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: like.Labels}, Spec: *like.Spec.DeepCopy()}
	pod.Spec.NodeName = "node-0000"
	_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	s.do(err)
	s.do(until(ctx, func() bool {
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		s.do(err)
		return pod.Status.Phase == corev1.PodRunning
	}))
}

// report writes the status of a pod.
func (s *stage) report(namespace, name string, change func(*corev1.PodStatus)) {
	s.t.Helper()
	pods := s.Client().CoreV1().Pods(namespace)
	s.do(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		pod, err := pods.Get(s.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(&pod.Status)
		_, err = pods.UpdateStatus(s.t.Context(), pod, metav1.UpdateOptions{})
		return err
	}))
}

func (s *stage) nodeNotReady() {
	s.t.Helper()
	nodes := s.Client().CoreV1().Nodes()
	list, err := nodes.List(s.t.Context(), metav1.ListOptions{})
	s.do(err)
	for i := range list.Items {
		node := &list.Items[i]
		for j := range node.Status.Conditions {
			if c := &node.Status.Conditions[j]; c.Type == corev1.NodeReady {
				c.Status, c.Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
			}
		}
		_, err := nodes.UpdateStatus(s.t.Context(), node, metav1.UpdateOptions{})
		s.do(err)
	}
}
