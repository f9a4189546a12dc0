package predicates_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
)

// stored returns a cache that knows of volumes, claims and classes.
func stored(t testing.TB, objects ...runtime.Object) *predicates.Cache {
	t.Helper()
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	c := newCache(t, predicates.WithVolumes(factory, client))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	factory.Start(ctx.Done())
	t.Cleanup(factory.Shutdown)
	t.Cleanup(cancel)
	factory.WaitForCacheSync(ctx.Done())
	return c
}

func storageClass(name, provisioner string) *storagev1.StorageClass {
	waits := storagev1.VolumeBindingWaitForFirstConsumer
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &waits}
}

func localClass() *storagev1.StorageClass {
	return storageClass(provisionedLater, "kubernetes.io/no-provisioner")
}

// hostLabel is the host of a node, which need not be its name.
func hostLabel(host string) func(*v1.Node) { return label(v1.LabelHostname, host) }

// What is kept and looked up makes no difference: any pod fits where kube-scheduler's plugins say
// so, asked about one node at a time.
func TestVolumesFitAsThePluginsSay(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pick := func(of ...string) string { return of[rng.IntN(len(of))] }
		const nodes = 6
		objects := []runtime.Object{localClass(), storageClass("made", "example.com/csi")}
		for i := range 10 {
			pv := localVolume(fmt.Sprint("pv", i), fmt.Sprint("host", rng.IntN(nodes)))
			pv.Spec.StorageClassName = pick(provisionedLater, provisionedLater, "made")
			pv.Spec.Capacity[v1.ResourceStorage] = resource.MustParse(pick("1Gi", "2Gi", "500Mi"))
			terms := &pv.Spec.NodeAffinity.Required.NodeSelectorTerms
			switch rng.IntN(6) {
			case 0:
				pv.Spec.NodeAffinity = nil
			case 1: // the second term is enough
				*terms = append(*terms, v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{
					{Key: v1.LabelTopologyZone, Operator: v1.NodeSelectorOpIn, Values: []string{pick("z0", "z1")}},
				}})
			case 2: // several hosts
				(*terms)[0].MatchExpressions[0].Values = append((*terms)[0].MatchExpressions[0].Values, fmt.Sprint("host", rng.IntN(nodes)))
			case 3:
				pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns", Name: pick("c0", "c1", "other")}
			case 4:
				(*terms)[0].MatchExpressions[0].Operator = v1.NodeSelectorOpNotIn
			}
			objects = append(objects, pv)
		}
		for i := range 8 {
			claim := claim(fmt.Sprint("c", i), pick("", "", fmt.Sprint("pv", rng.IntN(10))))
			claim.Spec.StorageClassName = new(pick(provisionedLater, provisionedLater, "made", "unknown"))
			claim.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.PersistentVolumeAccessMode(pick("ReadWriteOnce", "ReadWriteOncePod"))}
			if rng.IntN(6) == 0 {
				metav1.SetMetaDataAnnotation(&claim.ObjectMeta, "volume.kubernetes.io/selected-node", fmt.Sprint("n", rng.IntN(nodes)))
			}
			objects = append(objects, claim)
		}
		c := stored(t, objects...)
		for i := range nodes {
			c.SetNode(node(fmt.Sprint("n", i), hostLabel(fmt.Sprint("host", i)), label(v1.LabelTopologyZone, fmt.Sprint("z", i%2))))
		}
		for i := range 12 {
			uid := fmt.Sprint("p", i)
			c.SetPod(pod(uid, claims(fmt.Sprint("c", rng.IntN(9)), fmt.Sprint("c", rng.IntN(9)))))
			for j := range nodes {
				name := fmt.Sprint("n", j)
				got, want := c.Fits(uid, name, true), c.FitsAnew(uid, name)
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("seed %d: %s on %s: %v; %v if asked anew", seed, uid, name, got, want)
				}
				if got == nil && rng.IntN(3) == 0 {
					c.Assume(uid, name) // what others find of a claim of one pod is another thing now
					break
				}
			}
		}
	}
}

// One term of a volume's affinity is enough: one that does not name the host reaches any.
func TestAVolumeOfAZoneIsFoundFromAnyHost(t *testing.T) {
	pv := localVolume("pv", "elsewhere")
	terms := &pv.Spec.NodeAffinity.Required.NodeSelectorTerms
	*terms = append(*terms, v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{
		{Key: v1.LabelTopologyZone, Operator: v1.NodeSelectorOpIn, Values: []string{"z"}},
	}})
	c := stored(t, localClass(), pv, claim("c", ""))
	c.SetNode(node("n", hostLabel("host"), label(v1.LabelTopologyZone, "z")))
	c.SetPod(pod("p", claims("c")))
	if err := c.Fits("p", "n", true); err != nil {
		t.Error(err)
	}
}

// A claim that only one pod may have is free once that pod is preempted.
func TestAClaimOfOnePodIsPreempted(t *testing.T) {
	one := claim("one", "pv")
	one.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
	pv := taken(localVolume("pv", "host"), "one")
	c := stored(t, localClass(), pv, one)
	c.SetNode(node("n", hostLabel("host")))
	c.SetPod(pod("has it", on("n"), claims("one")))
	c.SetPod(pod("has none", on("n")))
	c.SetPod(pod("vip", claims("one")))
	if err := c.Fits("vip", "n", true); err == nil || !strings.Contains(err.Error(), "ReadWriteOncePod") {
		t.Errorf("a second pod of the claim: %v", err)
	}
	for range 2 { // a trial leaves what is known of the pod as it is
		if i, err := c.PreemptionFits("vip", "n", []string{"has none", "has it"}, 0); i != 1 || err != nil {
			t.Errorf("after victim %d: %v", i, err)
		}
	}
	if err := c.Fits("vip", "n", true); err == nil {
		t.Error("a trial has given the claim away")
	}
	c.RemovePod("has it")
	if err := c.Fits("vip", "n", true); err != nil {
		t.Errorf("once it is gone: %v", err)
	}
}

// BenchmarkFitsLocalVolumes asks about one node after another for a pod that wants a local volume,
// of which each node has one that is too small. What an answer costs must not follow the number
// of nodes.
func BenchmarkFitsLocalVolumes(b *testing.B) {
	for _, nodes := range []int{100, 1000} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			objects := []runtime.Object{localClass(), claim("c", "")}
			for i := range nodes {
				pv := localVolume(fmt.Sprint("pv", i), fmt.Sprint("n", i))
				pv.Spec.Capacity[v1.ResourceStorage] = resource.MustParse("500Mi")
				objects = append(objects, pv)
			}
			c := stored(b, objects...)
			for i := range nodes {
				c.SetNode(node(fmt.Sprint("n", i), hostLabel(fmt.Sprint("n", i))))
			}
			c.SetPod(pod("p", claims("c")))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if c.Fits("p", fmt.Sprint("n", i%nodes), true) == nil {
					b.Fatal("it fits")
				}
			}
		})
	}
}
