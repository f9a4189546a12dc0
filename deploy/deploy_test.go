package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/config"
)

const kustomization = "kustomization.yaml"

// manifests decodes every object under base, and refuses fields that the API
// does not know.
func manifests(t *testing.T) []runtime.Object {
	t.Helper()
	decoder := strict(t)
	var objects []runtime.Object
	for _, file := range files(t) {
		for _, doc := range documents(t, file) {
			object, _, err := decoder.Decode(doc, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects
}

// strict decodes what Kubernetes has, and refuses fields that it does not know.
func strict(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// documents takes a file apart.
func documents(t *testing.T, file string) (docs [][]byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		docs = append(docs, doc)
	}
}

func files(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("base/*.yaml")
	if err != nil || len(all) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	return slices.DeleteFunc(all, func(f string) bool { return filepath.Base(f) == kustomization })
}

// only returns the one object of type T that is called name.
func only[T interface {
	runtime.Object
	GetName() string
}](t *testing.T, name string) T {
	t.Helper()
	var found []T
	for _, o := range manifests(t) {
		if typed, ok := o.(T); ok && typed.GetName() == name {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T are called %s, want one", len(found), *new(T), name)
	}
	return found[0]
}

// TestTokenReviewIsAnOverlay: what the reviews of tokens need is beside the base, which does without.
func TestTokenReviewIsAnOverlay(t *testing.T) {
	decoder := strict(t)
	var delegates, reads bool
	for _, doc := range documents(t, "tokenreview/rbac.yaml") {
		object, _, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch o := object.(type) {
		case *rbacv1.ClusterRoleBinding:
			account := only[*corev1.ServiceAccount](t, "understudy")
			want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}
			delegates = o.RoleRef.Name == "system:auth-delegator" && slices.Equal(o.Subjects, want)
		case *rbacv1.ClusterRole:
			reads = true
			for _, rule := range o.Rules {
				if len(rule.Resources) > 0 || len(rule.NonResourceURLs) == 0 || slices.Contains(rule.NonResourceURLs, "*") {
					t.Errorf("readers may do more than read: %v", rule)
				}
			}
		}
	}
	if !delegates || !reads {
		t.Errorf("the service account may ask for reviews: %t; there is a role for readers: %t", delegates, reads)
	}
	for _, rule := range only[*rbacv1.ClusterRole](t, "understudy").Rules {
		if slices.Contains(rule.Resources, "tokenreviews") || slices.Contains(rule.Resources, "subjectaccessreviews") {
			t.Errorf("the base has rights that only reviews need: %v", rule)
		}
	}
}

func TestKustomizationListsEveryFile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("base", kustomization))
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
	}
	if err := sigsyaml.UnmarshalStrict(data, &k); err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, f := range files(t) {
		have = append(have, filepath.Base(f))
	}
	slices.Sort(k.Resources)
	if !slices.Equal(k.Resources, have) {
		t.Errorf("kustomization lists %v, the directory has %v", k.Resources, have)
	}
}

func TestEverythingIsInItsNamespace(t *testing.T) {
	for _, o := range manifests(t) {
		named := o.(interface{ GetNamespace() string })
		switch o.(type) {
		case *corev1.Namespace, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *apiextensionsv1.CustomResourceDefinition,
			*flowcontrolv1.FlowSchema, policy, binding:
			continue
		}
		if named.GetNamespace() != config.DefaultNamespace {
			t.Errorf("%T is in namespace %q, want %q", o, named.GetNamespace(), config.DefaultNamespace)
		}
	}
}

// deployedConfig is what a replica of the Deployment reads.
func deployedConfig(t *testing.T) config.Config {
	t.Helper()
	cfg, err := config.Parse([]byte(only[*corev1.ConfigMap](t, "understudy-config").Data["config.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestDeploymentAgreesWithItsConfiguration(t *testing.T) {
	cfg := deployedConfig(t)
	d := only[*appsv1.Deployment](t, "understudy")
	pod := d.Spec.Template.Spec
	if *d.Spec.Replicas != 3 {
		t.Errorf("replicas = %d, want 3", *d.Spec.Replicas)
	}
	if pod.SchedulerName == cfg.SchedulerName {
		t.Errorf("the replicas would wait for themselves to be scheduled (schedulerName %s)", pod.SchedulerName)
	}
	c := pod.Containers[0]
	host, port, _ := net.SplitHostPort(cfg.HTTP.Address)
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
		t.Errorf("the kubelet cannot reach probes on %s", cfg.HTTP.Address)
	}
	if got := c.Ports[0]; got.Name != "http" || port != "8080" || got.ContainerPort != 8080 {
		t.Errorf("container port %+v does not match http.address %s", got, cfg.HTTP.Address)
	}
	if port := c.Ports[1]; port.Name != "rest" || cfg.REST.Address != "0.0.0.0:9080" || port.ContainerPort != 9080 {
		t.Errorf("container port %+v does not match rest.address %s", port, cfg.REST.Address)
	}
	for _, port := range only[*corev1.Service](t, "yunikorn-service").Spec.Ports {
		if port.Name != "yunikorn-core" || port.Port != 9080 || port.TargetPort.StrVal != "rest" {
			t.Errorf("clients of YuniKorn find port %+v", port)
		}
	}
	if c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("the probes ask for other paths than /livez and /readyz")
	}
	if want := []string{"/understudy", "supervise", "--"}; !slices.Equal(c.Command, want) {
		t.Errorf("command = %q, want %q", c.Command, want)
	}
	// The replica leaves its name at the default path, and has to end with its container.
	if c.TerminationMessagePath != "" || pod.HostPID || pod.ShareProcessNamespace != nil {
		t.Errorf("termination message path %q, host PID %t, shared %v", c.TerminationMessagePath, pod.HostPID, pod.ShareProcessNamespace)
	}
	if got := c.Args; len(got) != 3 || got[0] != "run" || got[1] != "--config" ||
		got[2] != c.VolumeMounts[0].MountPath+"/config.yaml" {
		t.Errorf("args = %q", got)
	}
	if got := pod.Volumes[0].ConfigMap.Name; got != "understudy-config" {
		t.Errorf("configuration is mounted from %s", got)
	}
	var env []string
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.ValueFrom.FieldRef.FieldPath)
	}
	if want := []string{"POD_NAME=metadata.name", "POD_NAMESPACE=metadata.namespace", "POD_IP=status.podIP", "POD_TEMPLATE=metadata.labels['pod-template-hash']"}; !slices.Equal(env, want) {
		t.Errorf("env = %v, want %v", env, want)
	}
}

func TestSelectorsFindThePods(t *testing.T) {
	d := only[*appsv1.Deployment](t, "understudy")
	e := only[*appsv1.StatefulSet](t, "understudy-etcd")
	replicas, etcd := d.Spec.Template.Labels, e.Spec.Template.Labels
	for name, selectors := range map[string]struct{ selector, labels map[string]string }{
		"deployment":  {d.Spec.Selector.MatchLabels, replicas},
		"service":     {only[*corev1.Service](t, "understudy").Spec.Selector, replicas},
		"rest":        {only[*corev1.Service](t, "yunikorn-service").Spec.Selector, replicas},
		"budget":      {only[*policyv1.PodDisruptionBudget](t, "understudy").Spec.Selector.MatchLabels, replicas},
		"statefulset": {e.Spec.Selector.MatchLabels, etcd},
		"etcd":        {only[*corev1.Service](t, "understudy-etcd").Spec.Selector, etcd},
		"policy":      {only[*networkingv1.NetworkPolicy](t, "understudy-etcd").Spec.PodSelector.MatchLabels, etcd},
		"peers": {only[*networkingv1.NetworkPolicy](t, "understudy-etcd").
			Spec.Ingress[0].From[0].PodSelector.MatchLabels, replicas},
	} {
		if len(selectors.selector) == 0 {
			t.Errorf("%s selects everything", name)
		}
		for k, v := range selectors.selector {
			if selectors.labels[k] != v {
				t.Errorf("%s selects %s=%s, the pods have %v", name, k, v, selectors.labels)
			}
		}
	}
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		if c.LabelSelector.MatchLabels["app.kubernetes.io/name"] != "understudy" {
			t.Errorf("spread over %s counts other pods", c.TopologyKey)
		}
	}
}

func TestConfiguredEndpointIsTheDeployedEtcd(t *testing.T) {
	service := only[*corev1.Service](t, "understudy-etcd")
	set := only[*appsv1.StatefulSet](t, "understudy-etcd")
	want := "http://" + service.Name + "." + service.Namespace + ".svc:2379"
	if got := deployedConfig(t).Etcd.Endpoints; !slices.Equal(got, []string{want}) {
		t.Errorf("etcd.endpoints = %v, want %s", got, want)
	}
	if !slices.Contains(set.Spec.Template.Spec.Containers[0].Command, "--advertise-client-urls="+want) {
		t.Errorf("etcd does not advertise %s", want)
	}
	if set.Spec.ServiceName != service.Name {
		t.Errorf("serviceName = %s, want %s", set.Spec.ServiceName, service.Name)
	}
}

// TestPodsAreRestricted checks what the namespace's pod security level enforces:
// a pod that falls short of it would never be created.
func TestPodsAreRestricted(t *testing.T) {
	level := only[*corev1.Namespace](t, config.DefaultNamespace).Labels["pod-security.kubernetes.io/enforce"]
	if level != "restricted" {
		t.Errorf("pod security level = %q", level)
	}
	for name, pod := range map[string]corev1.PodSpec{
		"replica": only[*appsv1.Deployment](t, "understudy").Spec.Template.Spec,
		"etcd":    only[*appsv1.StatefulSet](t, "understudy-etcd").Spec.Template.Spec,
	} {
		sc := pod.SecurityContext
		if sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot || sc.RunAsUser == nil || *sc.RunAsUser == 0 ||
			sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: security context of the pod is %+v", name, sc)
		}
		for _, c := range pod.Containers {
			cs := c.SecurityContext
			if cs == nil || cs.AllowPrivilegeEscalation == nil || *cs.AllowPrivilegeEscalation ||
				cs.ReadOnlyRootFilesystem == nil || !*cs.ReadOnlyRootFilesystem ||
				cs.Capabilities == nil || !slices.Equal(cs.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: security context of %s is %+v", name, c.Name, cs)
			}
		}
	}
}
