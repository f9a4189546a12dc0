package kube

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// terminated puts a container into a pod that has ended with a message.
func terminated(message string) option {
	return func(p *v1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, v1.ContainerStatus{
			Name: "understudy", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Message: message}},
		})
	}
}

// restarted puts a container into a pod that runs after one has ended.
func restarted(message string) option {
	return func(p *v1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, v1.ContainerStatus{
			Name: "understudy", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}},
			LastTerminationState: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Message: message}},
		})
	}
}

func home(p *v1.Pod) { p.Namespace = "home" }

func TestOnlyTheKubeletProvesADeath(t *testing.T) {
	s := newServer(pod("r0", home, restarted(TerminationMessage("r0_EARLIER"))))
	c := s.cluster(t, ClusterConfig{Namespace: "home"})
	dead := make(chan string, 100)
	fatal(t, c.OnDeath(func(incarnation string) { dead <- incarnation }))
	next := func(want string) {
		t.Helper()
		select {
		case got := <-dead:
			if got != want {
				t.Fatalf("%s is said to be dead, want %s", got, want)
			}
		case <-t.Context().Done():
			t.Fatalf("%s is not said to be dead", want)
		}
	}
	next("r0_EARLIER")

	// Pods are seen in the order in which they were written, so that the last
	// shows what came of those before.
	write := func(p *v1.Pod) {
		t.Helper()
		_, err := s.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{})
		fatal(t, err)
	}
	// The fake forgets what is written between a listing and the watch after it.
	for known, i := c.PodCount(), 0; c.PodCount() == known; i++ {
		write(pod(fmt.Sprintf("probe-%d", i)))
		<-time.After(time.Millisecond)
	}
	message := TerminationMessage
	write(pod("r1", home, in(v1.PodFailed)))                                                             // a controller says so
	write(pod("r2", home, terminated("The container could not be located when the pod was terminated"))) // nobody knows
	write(pod("r3", home, terminated(message("r4_A"))))                                                  // another replica's
	write(pod("r5", terminated(message("r5_A"))))                                                        // another namespace
	write(pod("r6", home, terminated(`{"msg":"lease holder","to":"understudy incarnation r6_A"}`)))      // a log
	write(pod("r7", home, terminated("understudy incarnation")))
	write(pod("r", home, terminated(message("r8_A"))))
	fatal(t, s.CoreV1().Pods("home").Delete(t.Context(), "r1", metav1.DeleteOptions{}))

	write(pod("r9", home, in(v1.PodFailed), terminated(message("r9_A"))))
	next("r9_A")
	write(pod("r10", home, restarted("out of memory: "+message("r10_A"))))
	next("r10_A")
	p := pod("r11", home, version("1"))
	write(p)
	p = pod("r11", home, version("2"), restarted(message("r11_A")), terminated(message("r11_B")))
	_, err := s.CoreV1().Pods("home").Update(t.Context(), p, metav1.UpdateOptions{})
	fatal(t, err)
	next("r11_A")
	next("r11_B")
}
