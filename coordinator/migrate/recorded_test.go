package migrate

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// recorded are the objects in files of testdata.
func recorded(t *testing.T, files ...string) (typed, others []runtime.Object) {
	t.Helper()
	for _, file := range files {
		f, err := os.Open("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewYAMLOrJSONDecoder(f, 4096)
		for {
			object := &unstructured.Unstructured{}
			if err := decoder.Decode(object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			known, err := scheme.Scheme.New(object.GroupVersionKind())
			if err != nil {
				others = append(others, object)
				continue
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, known); err != nil {
				t.Fatal(err)
			}
			typed = append(typed, known)
		}
		_ = f.Close()
	}
	return typed, others
}

// clientsOf are clients of a cluster with recorded objects.
func clientsOf(t *testing.T, files ...string) (*kubefake.Clientset, *fake.FakeDynamicClient) {
	t.Helper()
	typed, others := recorded(t, files...)
	client := kubefake.NewClientset(typed...)
	discovery, _ := client.Discovery().(*fakediscovery.FakeDiscovery)
	discovery.FakedServerVersion = &version.Info{GitVersion: "v1.37.2"}
	discovery.Resources = []*metav1.APIResourceList{
		{GroupVersion: "yunikorn.apache.org/v1alpha1", APIResources: []metav1.APIResource{{Name: "applications", Kind: "Application", Namespaced: true}}},
		{GroupVersion: "batch/v1", APIResources: []metav1.APIResource{{Name: "jobs", Kind: "Job", Namespaced: true}}},
	}
	return client, fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		v1alpha1.Resource(): "ApplicationList", sparkResource: "SparkApplicationList",
	}, others...)
}

// shipped is the configuration of the manifests.
func shipped() config.Config {
	cfg := config.Default()
	cfg.Namespace = config.DefaultNamespace
	return cfg
}

// TestWhatYuniKornLeaves: of the cluster that was recorded all is found that there is.
func TestWhatYuniKornLeaves(t *testing.T) {
	client, objects := clientsOf(t, "system.yaml", "webhooks.yaml", "rbac.yaml", "workloads.yaml")
	cfg := shipped()
	c := Read(t.Context(), client, objects, cfg)
	review(client, everything)
	needs, err := Needs(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Ask(t.Context(), client, Account(cfg), needs)
	var got []string
	for _, f := range Bounded(Check(c, cfg, ""), 0) {
		got = append(got, string(f.Severity)+" "+string(f.Kind)+" "+f.Object+": "+f.Message)
	}
	want := []string{
		"blocks scheduler-runs deployment yunikorn/yunikorn-scheduler: YuniKorn's scheduler (apache/yunikorn:scheduler-1.9.0) runs: it and a lead of Understudy would both bind the same pods",
		"configure admission-stays deployment yunikorn/yunikorn-admission-controller: decides which pods are scheduled, and goes on beside the replicas, which do not. It asks the Service yunikorn-service about ConfigMaps",
		"configure configuration-namespace namespace yunikorn: has YuniKorn's ConfigMaps; replicas look in understudy-system",
		"configure manager applications.yunikorn.apache.org: has 1 object, whose status nobody writes without the manager",
		"configure rest-service service yunikorn/yunikorn-service: is where clients find REST; it selects app=yunikorn,component=yunikorn-scheduler,release=yunikorn, which are not the replicas",
		"configure user-role role yunikorn/queue-admins: allows to get, update the ConfigMap yunikorn-configs in yunikorn; replicas read the one in understudy-system",
		"differs configuration-differs configmap yunikorn/yunikorn-defaults: service.schedulingInterval: has no effect here: How often YuniKorn looks for work. Here an event begins it at once.",
		"differs gang-originator-gone application train-gone: has placeholders of the pod train-gone-0, which is gone: the garbage collector deletes them, whoever schedules",
		"differs gang-orphans application train-gone: has 1 placeholder and no other pod: they are deleted when their time is up, which begins anew",
		"note configuration-hand-over namespace yunikorn: sets service.clusterId, which count here as well; a change takes effect by a rolling hand-over",
		"note gang-pending application train-wait: is a gang of 2 without placeholders yet: they are made when somebody leads",
		"note gang-reserving application train-reserve: reserves: 2 of 3 placeholders have a node; they are taken over, and their time begins anew. YuniKorn, restarted, would run half a gang",
		"note gang-running application train-run: runs 2 pods, and 1 placeholder for more; they are taken over",
		"note manager-offered managers: could be enabled for kinds that are served, and need not be: job; YuniKorn knows their pods alone",
		"note pods schedulerName yunikorn: 16 pods of 6 applications: 9 run, 0 are bound, 7 wait",
		"note yunikorn-role clusterrolebinding yunikorn-rbac: gives the service account yunikorn/yunikorn-admin what the ClusterRole yunikorn-scheduler allows anywhere. YuniKorn needs it to go back; its chart makes it as a hook, which uninstalling leaves behind",
		"note yunikorn-role clusterrolebinding yunikorn-rbac-kube-scheduler: gives the service account yunikorn/yunikorn-admin what the ClusterRole system:kube-scheduler allows anywhere. YuniKorn needs it to go back; its chart makes it as a hook, which uninstalling leaves behind",
		"note yunikorn-role rolebinding yunikorn/yunikorn-rbac: gives the service account yunikorn/yunikorn-admin what the Role yunikorn-scheduler allows in the namespace yunikorn. YuniKorn needs it to go back; its chart makes it as a hook, which uninstalling leaves behind",
	}
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("finding %d is\n%s\nwant\n%s", i, g, w)
		}
	}
	for _, action := range append(client.Actions(), objects.Actions()...) {
		// A review of access is created, and leaves nothing.
		if verb := action.GetVerb(); verb != "get" && verb != "list" && action.GetResource().Resource != "subjectaccessreviews" {
			t.Errorf("the check does %s %s", verb, action.GetResource())
		}
	}
}

// leased is a Lease of a lead that renews it.
func leased(c *Cluster) {
	c.Lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: config.DefaultNamespace, Name: "understudy"}}
	c.Lease.Spec.HolderIdentity, c.Lease.Spec.LeaseDurationSeconds = ptr.To("understudy-0_X"), ptr.To[int32](4)
	c.Lease.Spec.RenewTime = &metav1.MicroTime{Time: c.Now.Add(-time.Second)}
}

// podOf is one of the recorded pods.
func podOf(t *testing.T, c *Cluster, name string) *v1.Pod {
	t.Helper()
	for _, p := range c.Pods {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no pod %s", name)
	return nil
}
