package kube

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// terminationPrefix begins the line of a termination message that names an
// incarnation. A log, which a kubelet may report instead, has no such line.
const terminationPrefix = "understudy incarnation "

// TerminationMessage is what a replica leaves in the termination log of its
// container, from its start on, for the kubelet to report when that has ended.
// What the container runtime has to say comes before it, on a line of its own.
func TerminationMessage(incarnation string) string {
	return "\n" + terminationPrefix + incarnation + "\n"
}

// incarnationIn returns the incarnation that a termination message names, empty if
// it names none.
func incarnationIn(message string) string {
	for line := range strings.Lines(message) {
		if incarnation, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), terminationPrefix); ok {
			return incarnation
		}
	}
	return ""
}

// OnDeath has dead called with every incarnation of a replica whose death the
// kubelet reports, maybe more than once: what names it is the termination message of
// a container that has terminated, in the pod in this namespace that the replica is
// called after. What is known already is told first. dead must not block.
func (c *Cluster) OnDeath(dead func(incarnation string)) error {
	look := func(obj any) {
		if pod, ok := obj.(*v1.Pod); ok && pod.Namespace == c.cfg.Namespace {
			for _, incarnation := range deaths(pod) {
				dead(incarnation)
			}
		}
	}
	// What has been deleted says nothing new: the last state of a pod may well be
	// one in which its containers run.
	_, err := c.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    look,
		UpdateFunc: func(_, obj any) { look(obj) },
	})
	return err
}

// deaths returns the incarnations of the replica in a pod that are proven dead.
func deaths(pod *v1.Pod) []string {
	var dead []string
	for i := range pod.Status.ContainerStatuses {
		status := &pod.Status.ContainerStatuses[i]
		for _, state := range []*v1.ContainerState{&status.State, &status.LastTerminationState} {
			if state.Terminated == nil {
				continue
			}
			// Nobody else's incarnations begin with the name of this pod.
			if incarnation := incarnationIn(state.Terminated.Message); strings.HasPrefix(incarnation, pod.Name+"_") {
				dead = append(dead, incarnation)
			}
		}
	}
	return dead
}
