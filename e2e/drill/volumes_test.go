package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// volume creates a static volume that only one node can reach.
func volume(t *testing.T, kube kubernetes.Interface, name, class, node string) *v1.PersistentVolume {
	t.Helper()
	pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{
		Capacity:         v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
		AccessModes:      []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
		StorageClassName: class,
		PersistentVolumeSource: v1.PersistentVolumeSource{
			Local: &v1.LocalVolumeSource{Path: "/mnt/" + name},
		},
		NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
			MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{node}}},
		}}}},
	}}
	pv.Name = name
	pv, err := kube.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{})
	if err == nil {
		pv.Status.Phase = v1.VolumeAvailable // as the controller of volumes would say
		pv, err = kube.CoreV1().PersistentVolumes().UpdateStatus(t.Context(), pv, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return pv
}

// claim creates a claim of a class.
func claim(t *testing.T, kube kubernetes.Interface, name, class string) *v1.PersistentVolumeClaim {
	t.Helper()
	pvc := &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{
		AccessModes:      []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
		StorageClassName: &class,
		Resources:        v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	pvc.Namespace, pvc.Name = "default", name
	pvc, err := kube.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), pvc, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pvc
}

// claiming has a pod use a claim.
func claiming(name string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}})
	}
}

// bindVolume does to a claim and its volume what Kubernetes' controller of
// volumes does once a volume is meant for a claim.
func bindVolume(ctx context.Context, kube kubernetes.Interface, pv *v1.PersistentVolume, pvc *v1.PersistentVolumeClaim) error {
	volumes, claims := kube.CoreV1().PersistentVolumes(), kube.CoreV1().PersistentVolumeClaims(pvc.Namespace)
	pv, pvc = pv.DeepCopy(), pvc.DeepCopy()
	var err error
	if pv.Spec.ClaimRef == nil {
		pv.Spec.ClaimRef = &v1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: pvc.Namespace, Name: pvc.Name, UID: pvc.UID}
		if pv, err = volumes.Update(ctx, pv, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	pv.Status.Phase = v1.VolumeBound
	if _, err = volumes.UpdateStatus(ctx, pv, metav1.UpdateOptions{}); err != nil {
		return err
	}
	pvc.Spec.VolumeName = pv.Name
	metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, "pv.kubernetes.io/bind-completed", "yes")
	if pvc, err = claims.Update(ctx, pvc, metav1.UpdateOptions{}); err != nil {
		return err
	}
	pvc.Status.Phase, pvc.Status.AccessModes, pvc.Status.Capacity = v1.ClaimBound, pv.Spec.AccessModes, pv.Spec.Capacity
	_, err = claims.UpdateStatus(ctx, pvc, metav1.UpdateOptions{})
	return err
}

// volumeController stands in for Kubernetes' own, which no lab runs: it completes
// what a scheduler has begun by naming the claim in the volume. It stops with the
// test, or when the returned function is called.
func volumeController(t *testing.T, kube kubernetes.Interface) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// What fails is tried again.
			list, err := kube.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
			for i := 0; err == nil && i < len(list.Items); i++ {
				pv := &list.Items[i]
				if pv.Spec.ClaimRef == nil || pv.Status.Phase == v1.VolumeBound {
					continue
				}
				pvc, err := kube.CoreV1().PersistentVolumeClaims(pv.Spec.ClaimRef.Namespace).Get(ctx, pv.Spec.ClaimRef.Name, metav1.GetOptions{})
				if err == nil && pvc.UID == pv.Spec.ClaimRef.UID {
					_ = bindVolume(ctx, kube, pv, pvc)
				}
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

func storageClass(t *testing.T, kube kubernetes.Interface, name string, mode storagev1.VolumeBindingMode) {
	t.Helper()
	class := &storagev1.StorageClass{Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &mode}
	class.Name = name
	if _, err := kube.StorageV1().StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Pods go where their volumes are, and volumes that wait for their first consumer
// are claimed for the node that was chosen.
func TestVolumes(t *testing.T) {
	t.Parallel()
	l := up(t, nil)
	s := begin(t, l)
	kube := l.Client()
	const now, later = "now", "later"
	storageClass(t, kube, now, storagev1.VolumeBindingImmediate)
	storageClass(t, kube, later, storagev1.VolumeBindingWaitForFirstConsumer)
	on := func(t *testing.T, pod *v1.Pod, want string) {
		t.Helper()
		if node := bound(t, s, pod); node != want {
			t.Errorf("%s was bound to %s, its volume is on %s", pod.Name, node, want)
		}
	}
	waits := func(t *testing.T, pod *v1.Pod, why string) {
		t.Helper()
		eventually(t, fmt.Sprintf("an Event on %s that says %q", pod.Name, why), func(ctx context.Context) (bool, error) {
			messages, err := told(ctx, s, pod, "FailedScheduling")
			for _, m := range messages {
				if strings.Contains(m, why) {
					return true, nil
				}
			}
			return false, errors.Join(err, fmt.Errorf("told %q", messages))
		})
	}

	t.Run("bound before the pod", func(t *testing.T) {
		pv, pvc := volume(t, kube, "early", now, "node-0003"), claim(t, kube, "early", now)
		if err := bindVolume(t.Context(), kube, pv, pvc); err != nil {
			t.Fatal(err)
		}
		on(t, create(t, s, podOf("volumes", "early", claiming("early"))), "node-0003")
	})
	t.Run("claimed and bound after the pod", func(t *testing.T) {
		pod := create(t, s, podOf("volumes", "unclaimed", claiming("unclaimed")))
		waits(t, pod, `persistentvolumeclaim "unclaimed" not found`)
		pv, pvc := volume(t, kube, "unclaimed", now, "node-0004"), claim(t, kube, "unclaimed", now)
		waits(t, pod, "pod has unbound immediate PersistentVolumeClaims")
		if err := bindVolume(t.Context(), kube, pv, pvc); err != nil {
			t.Fatal(err)
		}
		on(t, pod, "node-0004")
	})
	t.Run("bound for the pod", func(t *testing.T) {
		defer volumeController(t, kube)()
		volume(t, kube, "waiting", later, "node-0005")
		claim(t, kube, "waiting", later)
		on(t, create(t, s, podOf("volumes", "waiting", claiming("waiting"))), "node-0005")
	})
	t.Run("wanted by two pods", func(t *testing.T) {
		defer volumeController(t, kube)()
		// The engine prefers node-0007 for both, as node-0006 is fuller, and decides
		// on both at once when a new lead asks for them. One of them comes too late.
		on(t, create(t, s, podOf("volumes", "big", requests("20"), func(p *v1.Pod) {
			p.Spec.NodeSelector = map[string]string{v1.LabelHostname: "node-0006"}
		})), "node-0006")
		var pods []*v1.Pod
		for _, name := range []string{"twin-0", "twin-1"} {
			claim(t, kube, name, later)
			pods = append(pods, create(t, s, podOf("volumes", name, claiming(name))))
		}
		for _, pod := range pods {
			waits(t, pod, "didn't find available persistent volumes to bind")
		}
		startAnew(t, s, func() {
			volume(t, kube, "twin-a", later, "node-0006")
			volume(t, kube, "twin-b", later, "node-0007")
		})
		if a, b := bound(t, s, pods[0]), bound(t, s, pods[1]); a == b {
			t.Errorf("both were bound to %s, which has one volume", a)
		}
	})
	t.Run("the lead dies between volume and pod", func(t *testing.T) {
		volume(t, kube, "torn", later, "node-0002")
		claim(t, kube, "torn", later)
		pod := create(t, s, podOf("volumes", "torn", claiming("torn")))
		eventually(t, "the volume to be claimed", func(ctx context.Context) (bool, error) {
			pv, err := kube.CoreV1().PersistentVolumes().Get(ctx, "torn", metav1.GetOptions{})
			return err == nil && pv.Spec.ClaimRef != nil, err
		})
		succeed(t, s, nil)
		defer volumeController(t, kube)()
		on(t, pod, "node-0002")
	})
	agree(t, s)
}
