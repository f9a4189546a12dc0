package lab

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// configureAdmission has a replica do admission. A Service has no endpoints in a lab: the API
// server is told where each replica is.
func (l *Lab) configureAdmission(i int, file map[string]any) {
	mode := l.plan.opts.Admission
	if mode == "" {
		return
	}
	var urls []any
	for _, port := range l.plan.admission {
		urls = append(urls, "https://"+address(port))
	}
	set(file, mode, "admission", "mode")
	set(file, address(l.plan.admission[i]), "admission", "address")
	set(file, urls, "admission", "urls")
}

// AwaitAdmission waits until a pod that asks for no scheduler is given to the replicas.
func (l *Lab) AwaitAdmission(ctx context.Context) error {
	return until(ctx, nil, "admission", func(ctx context.Context) error {
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "understudy-admission-test"},
			Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "main", Image: "none"}}},
		}
		got, err := l.client.CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && got.Spec.SchedulerName != workload.DefaultSchedulerName {
			err = errors.New("the API server leaves the pod to another scheduler")
		}
		return err
	})
}
