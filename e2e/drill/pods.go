package drill

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// podOf describes a pod of an application.
func podOf(app, name string, edit ...func(*v1.Pod)) *v1.Pod {
	no, grace := false, int64(0)
	p := &v1.Pod{}
	p.Namespace, p.Name = "default", name
	p.Labels, p.Annotations = map[string]string{"applicationId": app}, map[string]string{}
	p.Spec = v1.PodSpec{
		SchedulerName: "yunikorn", AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
		Containers: []v1.Container{{Name: "main", Image: "none"}},
	}
	requests("100m")(p)
	for _, e := range edit {
		e(p)
	}
	return p
}

func requests(cpu string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
	}
}

func annotated(key, value string) func(*v1.Pod) {
	return func(p *v1.Pod) { p.Annotations[key] = value }
}

// create makes pods, and returns them as the API server did.
func (s *Session) create(ctx context.Context, pods ...*v1.Pod) ([]*v1.Pod, error) {
	made := make([]*v1.Pod, len(pods))
	for i, pod := range pods {
		var err error
		if made[i], err = s.Lab.Client().CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("create pod %s: %w", pod.Name, err)
		}
	}
	return made, nil
}

// awaitPods waits until ok of what the history last saw of each pod.
func (s *Session) awaitPods(ctx context.Context, what string, pods []*v1.Pod, ok func(*history.Pod) bool) error {
	return await(ctx, what, func() (bool, error) {
		last := s.last()
		for _, pod := range pods {
			if p := last[string(pod.UID)]; p == nil || !ok(p) {
				return false, nil
			}
		}
		return true, nil
	})
}

// last returns what the history last saw of each pod, by UID.
func (s *Session) last() map[string]*history.Pod {
	last := map[string]*history.Pod{}
	for _, ev := range s.Cluster.Pods() {
		last[ev.Pod.UID] = ev.Pod
	}
	return last
}

func isBound(p *history.Pod) bool { return p.Node != "" }

func isRunning(p *history.Pod) bool { return p.Phase == v1.PodRunning }

// expect has the verdict ask for pods that are of no load.
func (s *Session) expect(pods ...*v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pod := range pods {
		s.expected = append(s.expected, verify.Expected{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)})
	}
}
