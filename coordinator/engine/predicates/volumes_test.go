package predicates_test

import (
	"context"
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
)

const provisionedLater = "later"

func claim(name, volume string) *v1.PersistentVolumeClaim {
	class := provisionedLater
	c := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: &class, VolumeName: volume, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		},
		Status: v1.PersistentVolumeClaimStatus{Phase: v1.ClaimPending},
	}
	if volume != "" {
		c.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
		c.Status.Phase = v1.ClaimBound
	}
	return c
}

func localVolume(name, node string) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.PersistentVolumeSpec{
			StorageClassName: provisionedLater, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Capacity:               v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: "/d"}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
		Status: v1.PersistentVolumeStatus{Phase: v1.VolumeAvailable},
	}
}

// taken is a volume that a claim has.
func taken(pv *v1.PersistentVolume, by string) *v1.PersistentVolume {
	pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns", Name: by, UID: claim(by, "").UID}
	pv.Status.Phase = v1.VolumeBound
	return pv
}

func claims(names ...string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		for _, n := range names {
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: n, VolumeSource: v1.VolumeSource{
				PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: n},
			}})
		}
	}
}

func TestVolumes(t *testing.T) {
	waits := storagev1.VolumeBindingWaitForFirstConsumer
	client := fake.NewClientset(
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: provisionedLater}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &waits},
		taken(localVolume("bound", "here"), "has-volume"), claim("has-volume", "bound"),
		localVolume("free", "there"), claim("wants-volume", ""), node("here"), node("there"), pod("unbound", claims("wants-volume")),
	)
	factory := informers.NewSharedInformerFactory(client, 0)
	c := newCache(t, predicates.WithVolumes(factory, client))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	factory.WaitForCacheSync(ctx.Done())
	c.SetNode(node("here"))
	c.SetNode(node("there"))
	c.SetPod(pod("bound", claims("has-volume")))
	c.SetPod(pod("unbound", claims("wants-volume")))
	c.SetPod(pod("lost", claims("no-such-claim")))
	c.SetPod(pod("none"))

	expect(t, "where its volume is", c.Fits("bound", "here", true), "")
	expect(t, "where it is not", c.Fits("bound", "there", true), "node affinity")
	expect(t, "where a volume is free", c.Fits("unbound", "there", true), "")
	expect(t, "where none is", c.Fits("unbound", "here", true), "didn't find available persistent volumes")
	expect(t, "without its claim", c.Fits("lost", "here", true), "not found")

	for _, uid := range []string{"none", "bound"} {
		if err := c.BindVolumes(ctx, uid, "here"); err != nil {
			t.Errorf("%s has nothing to bind: %v", uid, err)
		}
	}
	var refusal *predicates.Refusal
	if err := c.BindVolumes(ctx, "unbound", "here"); !errors.As(err, &refusal) {
		t.Errorf("bound to a volume of another node: %v", err)
	}
	// What the API server refuses is no word on the node.
	down := true
	client.PrependReactor("update", "persistentvolumes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return down, nil, apierrors.NewServiceUnavailable("busy")
	})
	if err := c.BindVolumes(ctx, "unbound", "there"); err == nil || errors.As(err, &refusal) {
		t.Errorf("without the API server: %v", err)
	}
	down = false
	if !c.HasClaims("unbound") || c.HasClaims("none") || c.HasClaims("nobody") {
		t.Error("who has claims is not told")
	}

	// The claim is bound by the volume controller once the volume names it.
	done := make(chan error, 1)
	go func() { done <- c.BindVolumes(ctx, "unbound", "there") }()
	for claimed := false; !claimed; {
		select {
		case err := <-done:
			t.Fatalf("did not wait for the claim: %v", err)
		case <-time.After(time.Millisecond):
		}
		pv, err := client.CoreV1().PersistentVolumes().Get(ctx, "free", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		claimed = pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Name == "wants-volume"
	}
	if _, err := client.CoreV1().PersistentVolumeClaims("ns").Update(ctx, claim("wants-volume", "free"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A claim that nobody binds is waited for as long as is said, and no longer.
func TestBindVolumesEndsInTime(t *testing.T) {
	client := fake.NewClientset(localClass(), localVolume("free", "n"), claim("c", ""), node("n", hostLabel("n")), pod("p", claims("c")))
	factory := informers.NewSharedInformerFactory(client, 0)
	c := newCache(t, predicates.WithVolumes(factory, client), predicates.WithBindTimeout(time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	factory.WaitForCacheSync(ctx.Done())
	c.SetNode(node("n", hostLabel("n")))
	c.SetPod(pod("p", claims("c")))
	if err := c.BindVolumes(ctx, "p", "n"); err == nil || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

func TestBindVolumesNeedsVolumes(t *testing.T) {
	c := newCacheWith(t, pod("p", claims("x")))
	c.SetNode(node("n"))
	if err := c.BindVolumes(t.Context(), "p", "n"); err == nil {
		t.Error("a claim was silently left unbound")
	}
}

// An affinity term may select namespaces by their labels.
func TestNamespaceSelectors(t *testing.T) {
	ns := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other", Labels: map[string]string{"team": "x"}}}
	client := fake.NewClientset(ns)
	factory := informers.NewSharedInformerFactory(client, 0)
	c := newCache(t, predicates.WithNamespaces(factory))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	factory.WaitForCacheSync(ctx.Done())
	c.SetNode(node("n", label("zone", "a")))
	c.SetPod(pod("theirs", on("n"), labelled("app", "db"), func(p *v1.Pod) { p.Namespace = "other" }))
	c.SetPod(pod("p", apart("zone", "app", "db"), func(p *v1.Pod) {
		p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].NamespaceSelector =
			&metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}
	}))
	expect(t, "their namespace is meant", c.Fits("p", "n", true), "anti-affinity")
	changed := ns.DeepCopy()
	changed.Labels = nil
	if _, err := client.CoreV1().Namespaces().Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for c.Fits("p", "n", true) != nil {
		select {
		case <-ctx.Done():
			t.Fatal("the change of a namespace is not seen")
		case <-time.After(time.Millisecond):
		}
	}
}
