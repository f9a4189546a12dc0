package history

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

// Whoever edits labels says nothing about the application that the pod is of.
func TestPodStaysOfItsFirstApplication(t *testing.T) {
	pod := &v1.Pod{}
	pod.Labels = map[string]string{"applicationId": "first", "queue": "root.first"}
	first := FromPod(pod, nil)
	for _, labels := range []map[string]string{
		{"applicationId": "first", "yunikorn.apache.org/app-id": "second", "queue": "root.second"}, nil,
	} {
		pod.Labels = labels
		if next := FromPod(pod, first); next.AppID != "first" || next.Queue != "root.first" || !next.same(first) {
			t.Errorf("labels %v: of application %q in queue %q", labels, next.AppID, next.Queue)
		}
	}
}
