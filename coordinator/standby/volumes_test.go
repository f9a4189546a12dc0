package standby

import (
	"context"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// TestVolumesAreWaitedForAsTheConfigMapsSay, by whatever prepare has made. The engine refuses its own configuration, so
// that no core is started.
func TestVolumesAreWaitedForAsTheConfigMapsSay(t *testing.T) {
	class, waits := "later", storagev1.VolumeBindingWaitForFirstConsumer
	pod := testPod("x", "", v1.PodPending)
	pod.Name, pod.Namespace, pod.Spec.SchedulerName = "pod-x", "ns", workload.DefaultSchedulerName
	pod.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{v1.LabelHostname: "n"}}}
	gigabyte := v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}
	client := fake.NewClientset(pod, node,
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &waits},
		&v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "free"}, Status: v1.PersistentVolumeStatus{Phase: v1.VolumeAvailable}, Spec: v1.PersistentVolumeSpec{
			StorageClassName: class, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Capacity: gigabyte,
			PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: "/d"}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{"n"}}},
			}}}},
		}},
		&v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c"}, Status: v1.PersistentVolumeClaimStatus{Phase: v1.ClaimPending}, Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Resources: v1.VolumeResourceRequirements{Requests: gigabyte},
		}},
		&v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "yunikorn-configs"}, Data: map[string]string{"service.volumeBindTimeout": "1s"}},
	)
	s := testStandby(ledger.New(), nil)
	s.cfg.Cluster = kube.New(&kube.Clients{Reads: client}, kube.ClusterConfig{
		Namespace: "ns", SchedulerName: workload.DefaultSchedulerName, ConfigMaps: []string{"yunikorn-configs"},
	}, s.log)
	s.cfg.Writes, s.cfg.Settled, s.cfg.CompleteAfter = client, func(settings.Settings) {}, -1

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	var running sync.WaitGroup
	running.Go(func() { _ = s.cfg.Cluster.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if err := s.prepare(ctx); err == nil || s.preds == nil {
		t.Fatalf("prepare got past the engine, or not so far: %v", err)
	}
	s.preds.SetNode(node)
	s.preds.SetPod(pod)
	// Nobody binds the claim. By default that is waited for ten minutes.
	if err := s.preds.BindVolumes(ctx, "x", "n"); err == nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}
