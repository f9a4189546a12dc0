package lab

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/understudy-ha/understudy/internal/netfault"
)

// A replica whose answers to writes of Leases are late gets all others, and the API
// server does all that it is asked.
func TestOnlyAnswersToWritesOfLeasesAreLate(t *testing.T) {
	needTools(t)
	o := clusterOnly(filepath.Join(t.TempDir(), "lab"))
	o.Replicas, o.Binary, o.SkipWait, o.Nodes, o.Supervise = 1, script(t, "exec sleep 1000"), true, 1, false
	o.Proxies, o.LeaseProxies = true, true
	l := start(t, o)
	state, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", l.path("pki", replicaName(0)+".kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	replica, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	leases := replica.CoordinationV1().Leases(state.Namespace)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: state.Lease}}
	watch, err := leases.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + state.Lease})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if err := l.Fault(replicaName(0), LeaseWrites, netfault.Fault{Answers: netfault.Way{Delay: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := leases.Create(impatient, lease, metav1.CreateOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the answer to a write: %v", err)
	}
	if _, err := leases.Get(t.Context(), state.Lease, metav1.GetOptions{}); err != nil {
		t.Errorf("what was written cannot be read: %v", err)
	}
	if ev := <-watch.ResultChan(); ev.Object.(*coordinationv1.Lease).Name != state.Lease {
		t.Errorf("the watch tells %+v", ev)
	}
	if _, err := replica.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	l.Heal(replicaName(0))
	if err := leases.Delete(t.Context(), state.Lease, metav1.DeleteOptions{}); err != nil {
		t.Errorf("healed: %v", err)
	}
}
