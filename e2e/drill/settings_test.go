package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/e2e/lab"
)

// incarnations are those of all replicas.
func incarnations(ctx context.Context, s *Session) (map[string]string, error) {
	list := make(map[string]string)
	var errs []error
	for _, name := range s.state.Replicas() {
		now, err := s.Lab.Replica(name).Status(ctx)
		errs = append(errs, err)
		list[name] = now.Incarnation
	}
	return list, errors.Join(errs...)
}

// rest is what a replica answers over YuniKorn's interface.
func rest(t *testing.T, s *Session, path string) string {
	t.Helper()
	resp, err := http.Get(s.state.Process(s.state.Replicas()[0]).REST + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestSettingsTakeEffectByThemselves: queues at once, not if they are bad, and what is read as
// a process starts by a rolling hand-over, which touches no pod.
func TestSettingsTakeEffectByThemselves(t *testing.T) {
	t.Parallel()
	l := up(t, func(o *lab.Options) { o.Supervise = true })
	s := begin(t, l)
	stays := create(t, s, podOf("stays", "stays-1"))
	node := bound(t, s, stays)

	before := setQueues(t, s, lab.Queues("50", "500Gi"))
	toldOfQueues(t, s, v1.EventTypeNormal, "ConfigurationAccepted")
	setQueues(t, s, "partitions: [{name: default, queues: [{name: root, quues: []}]}]")
	toldOfQueues(t, s, v1.EventTypeWarning, "ConfigurationRefused")
	allSay(t, s, func(c serve.Configuration) bool { return strings.Contains(c.Error, "did you mean queues?") })
	setQueues(t, s, before)
	allSay(t, s, func(c serve.Configuration) bool { return c.Error == "" })

	was, err := incarnations(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	const image = "registry.example/pause:of-the-test"
	setKey(t, s, settings.KeyPlaceholderImage, image)
	setKey(t, s, settings.KeyClusterID, "renamed")
	setKey(t, s, "ours.yaml", lab.Queues("60", "500Gi"))
	setKey(t, s, settings.KeyPolicyGroup, "ours")
	eventually(t, "every replica to have been started again", func(ctx context.Context) (bool, error) {
		now, err := incarnations(ctx, s)
		for name, incarnation := range now {
			if incarnation == was[name] {
				err = errors.Join(err, fmt.Errorf("%s is still there", incarnation))
			}
		}
		return err == nil, err
	})
	allSay(t, s, func(c serve.Configuration) bool { return len(c.Restart) == 0 && c.Error == "" })
	if _, err := l.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	status, err := l.Replica(s.state.Replicas()[0]).Status(t.Context())
	if err != nil || len(status.Terms) < 2 || status.Terms[1].EndReason != "handed over: settings have changed" {
		t.Errorf("the terms are %+v, %v", status.Terms, err)
	}
	for path, want := range map[string]string{"partitions": `"clusterId":"renamed"`, "partition/default/queues": `"vcore":60000`} {
		if got := rest(t, s, "/ws/v1/"+path); !strings.Contains(got, want) {
			t.Errorf("%s says %s, want %s", path, got, want)
		}
	}

	originator := podOf("gang", "gang-1")
	originator.Annotations = map[string]string{
		"yunikorn.apache.org/task-group-name": "g",
		"yunikorn.apache.org/task-groups":     `[{"name": "g", "minMember": 3, "minResource": {"cpu": "100m", "memory": "64Mi"}}]`,
	}
	create(t, s, originator)
	eventually(t, "placeholders of that image", func(ctx context.Context) (bool, error) {
		pods, err := l.Client().CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, p := range pods.Items {
			if p.Spec.Containers[0].Image == image {
				return true, nil
			}
		}
		return false, nil
	})
	bound(t, s, create(t, s, podOf("stays", "stays-2")))
	now, err := l.Client().CoreV1().Pods(stays.Namespace).Get(t.Context(), stays.Name, metav1.GetOptions{})
	if err != nil || now.UID != stays.UID || now.Spec.NodeName != node || now.DeletionTimestamp != nil || now.Status.Phase != v1.PodRunning {
		t.Errorf("a pod that ran has been touched: %+v, %v", now, err)
	}
}
