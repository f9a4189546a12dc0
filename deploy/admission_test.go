package deploy

import (
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/admission"
	"github.com/understudy-ha/understudy/coordinator/config"
)

// inOverlay returns the one object of type T in a file of deploy/admission.
func inOverlay[T runtime.Object](t *testing.T, file string) T {
	t.Helper()
	return inFile[T](t, "admission/"+file)
}

// inFile returns the one object of type T in a file.
func inFile[T runtime.Object](t *testing.T, file string) T {
	t.Helper()
	var found []T
	for _, doc := range documents(t, file) {
		object, _, err := strict(t).Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d objects of type %T", file, len(found), *new(T))
	}
	return found[0]
}

func TestOverlayAddsAdmissionAndNothingElse(t *testing.T) {
	base, overlay := only[*corev1.ConfigMap](t, "understudy-config").Data["config.yaml"], inOverlay[*corev1.ConfigMap](t, "config.yaml").Data["config.yaml"]
	if !strings.HasPrefix(overlay, base) {
		t.Errorf("the configuration does not begin with that of deploy/base:\n%s", overlay)
	}
	cfg, err := config.Parse([]byte(overlay))
	if err != nil {
		t.Fatal(err)
	}
	service := inOverlay[*corev1.Service](t, "service.yaml")
	port := inOverlay[*appsv1.Deployment](t, "deployment.yaml").Spec.Template.Spec.Containers[0].Ports[0]
	at := service.Spec.Ports[0]
	if cfg.Admission.Mode != config.AdmissionWebhook || cfg.Admission.Address != "0.0.0.0:9089" || port.ContainerPort != 9089 ||
		service.Name != cfg.Admission.Service || service.Namespace != config.DefaultNamespace || at.Port != 443 || at.TargetPort.StrVal != port.Name {
		t.Errorf("configured %+v, port %+v, Service %s with %+v", cfg.Admission, port, service.Name, at)
	}
	replicas := only[*appsv1.Deployment](t, "understudy").Spec.Template.Labels
	for k, v := range service.Spec.Selector {
		if replicas[k] != v {
			t.Errorf("the Service selects %s=%s, the pods have %v", k, v, replicas)
		}
	}
	if deployedConfig(t).Admission.Mode != "" {
		t.Error("deploy/base does admission")
	}
}

func TestReplicasMayWriteWhatTheyWriteForAdmissionAndNoMore(t *testing.T) {
	const group = "admissionregistration.k8s.io"
	anywhere, here := inOverlay[*rbacv1.ClusterRole](t, "clusterrole.yaml").Rules, inOverlay[*rbacv1.Role](t, "role.yaml").Rules
	names := 0
	for _, rule := range anywhere {
		names += len(rule.ResourceNames) * len(rule.Resources)
		if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") {
			t.Errorf("wildcard in %v", rule)
		}
	}
	// The two webhooks are named together, for two resources, and one once more, to be read.
	if want := len(admission.All()) + 2 + 1; names != want {
		t.Errorf("%d names, want %d", names, want)
	}
	for _, o := range admission.All() {
		for _, verb := range []string{"create", "patch", "delete"} {
			if !permitted(anywhere, verb, group, o.Resource, o.Name) {
				t.Errorf("may not %s %s %s", verb, o.Resource, o.Name)
			}
		}
		for _, verb := range []string{"patch", "delete"} {
			if permitted(anywhere, verb, group, o.Resource, "understudy-fence") || permitted(anywhere, "list", group, o.Resource, "") || permitted(anywhere, verb, group, o.Resource, "another") {
				t.Errorf("may %s %s of others", verb, o.Resource)
			}
		}
	}
	secret := config.Default().Admission.Secret
	for verb, want := range map[string]bool{"get": true, "update": true, "create": true, "list": false, "watch": false, "delete": false} {
		if got := permitted(here, verb, "", "secrets", secret); got != want {
			t.Errorf("%s of the Secret: permitted = %t", verb, got)
		}
	}
	if permitted(here, "get", "", "secrets", "another") {
		t.Error("may read other Secrets")
	}
	account := []rbacv1.Subject{{Kind: "ServiceAccount", Name: config.Default().Admission.ServiceAccount, Namespace: config.DefaultNamespace}}
	if got := inOverlay[*rbacv1.ClusterRoleBinding](t, "clusterrole.yaml").Subjects; !slices.Equal(got, account) {
		t.Errorf("cluster role binding: %v", got)
	}
	if got := inOverlay[*rbacv1.RoleBinding](t, "role.yaml").Subjects; !slices.Equal(got, account) {
		t.Errorf("role binding: %v", got)
	}
	for _, file := range []string{"admission/clusterrole.yaml", "admission/role.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		explained(t, file, string(data))
	}
}

// The certificate that cert-manager is asked for has the names by which the API server knows the
// replicas, and is where the replicas read it, all of it in a volume that is renewed.
func TestCertManagersCertificateIsTheOneThatIsRead(t *testing.T) {
	const dir = "certmanager/"
	before, overlay := inOverlay[*corev1.ConfigMap](t, "config.yaml").Data["config.yaml"], inFile[*corev1.ConfigMap](t, dir+"config.yaml").Data["config.yaml"]
	if !strings.HasPrefix(overlay, before) {
		t.Errorf("the configuration does not begin with that of deploy/admission:\n%s", overlay)
	}
	cfg, err := config.Parse([]byte(overlay))
	if err != nil {
		t.Fatal(err)
	}
	type certificate struct {
		Kind string
		Spec struct {
			SecretName string
			DNSNames   []string `json:"dnsNames"`
			PrivateKey struct{ RotationPolicy string }
			IssuerRef  metav1.ObjectMeta
			CA         struct{ SecretName string }
		}
		Metadata metav1.ObjectMeta
	}
	issuers, secrets := map[string]string{}, map[string]bool{}
	var asked []certificate
	for _, doc := range documents(t, dir+"certificate.yaml") {
		var c certificate
		if err := sigsyaml.Unmarshal(doc, &c); err != nil {
			t.Fatal(err)
		}
		if c.Metadata.Namespace != config.DefaultNamespace {
			t.Errorf("%s %s is in %s", c.Kind, c.Metadata.Name, c.Metadata.Namespace)
		}
		if c.Kind == "Issuer" {
			issuers[c.Metadata.Name] = c.Spec.CA.SecretName
			continue
		}
		asked = append(asked, c)
		secrets[c.Spec.SecretName] = true
	}
	for _, c := range asked {
		if by, ok := issuers[c.Spec.IssuerRef.Name]; !ok || by != "" && !secrets[by] {
			t.Errorf("%s is issued by %s, of the Secret %q", c.Metadata.Name, c.Spec.IssuerRef.Name, by)
		}
	}
	template := inFile[*appsv1.Deployment](t, dir+"deployment.yaml").Spec.Template.Spec
	mount, volume, last := template.Containers[0].VolumeMounts[0], template.Volumes[0], asked[len(asked)-1].Spec
	if mount.Name != volume.Name || mount.SubPath != "" || volume.Secret.SecretName != last.SecretName {
		t.Errorf("mounted %+v of %+v, issued %s", mount, volume, last.SecretName)
	}
	want := config.TLS{CA: mount.MountPath + "/ca.crt", Cert: mount.MountPath + "/tls.crt", Key: mount.MountPath + "/tls.key"}
	if cfg.Admission.TLS != want {
		t.Errorf("configured %+v, want %+v", cfg.Admission.TLS, want)
	}
	where := admission.Where{Namespace: config.DefaultNamespace, Service: cfg.Admission.Service}
	if names := where.Names(nil); !slices.Equal(last.DNSNames, names) {
		t.Errorf("names %v, want %v", last.DNSNames, names)
	}
}

// The namespace of the replicas is none of those that YuniKorn's own admission controller
// processes: its scheduler would be what the replicas, and etcd, wait for.
func TestYuniKornsAdmissionLeavesTheReplicasAlone(t *testing.T) {
	if got := only[*corev1.Namespace](t, config.DefaultNamespace).Annotations["yunikorn.apache.org/namespace.enableYuniKorn"]; got != "false" {
		t.Errorf("enableYuniKorn is %q", got)
	}
}
