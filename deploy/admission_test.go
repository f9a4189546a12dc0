package deploy

import (
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/understudy-ha/understudy/coordinator/admission"
	"github.com/understudy-ha/understudy/coordinator/config"
)

// inOverlay returns the one object of type T in a file of deploy/admission.
func inOverlay[T runtime.Object](t *testing.T, file string) T {
	t.Helper()
	var found []T
	for _, doc := range documents(t, "admission/"+file) {
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
	// The two webhooks are named together, for two resources.
	if want := len(admission.All()) + 2; names != want {
		t.Errorf("%d names, want %d", names, want)
	}
	for _, o := range admission.All() {
		for _, verb := range []string{"create", "patch", "delete"} {
			if !permitted(anywhere, verb, group, o.Resource, o.Name) {
				t.Errorf("may not %s %s %s", verb, o.Resource, o.Name)
			}
		}
		for _, verb := range []string{"patch", "delete"} {
			if permitted(anywhere, verb, group, o.Resource, "understudy-fence") || permitted(anywhere, verb, group, o.Resource, "another") {
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
