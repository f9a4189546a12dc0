package migrate

import (
	"fmt"
	"slices"
	"strings"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/admission"
)

// admission looks at who decides which pods are scheduled.
func (x *check) admission() {
	mode := x.cfg.Admission.Mode
	running := slices.DeleteFunc(slices.Clone(x.admissions), func(d *appsv1.Deployment) bool { return ptr.Deref(d.Spec.Replicas, 1) == 0 })
	for _, d := range running {
		stop := fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=0, before the replicas start", d.Namespace, d.Name)
		if mode != "" {
			x.add(Blocks, AdmissionTwice, deployment(d), stop, "runs, and with admission.mode %s the replicas do the same: both write the same webhooks, each over the other's", mode)
			continue
		}
		x.add(Configure, AdmissionStays, deployment(d), "let it run, or stop it and set admission.mode",
			"decides which pods are scheduled, and goes on beside the replicas, which do not. It asks the Service %s about ConfigMaps", restService)
	}
	if len(running) == 0 {
		for _, hook := range x.Mutating {
			clients := make([]admissionregv1.WebhookClientConfig, len(hook.Webhooks))
			for i := range hook.Webhooks {
				clients[i] = hook.Webhooks[i].ClientConfig
			}
			x.webhook("mutatingwebhookconfiguration", &hook.ObjectMeta, clients)
		}
		for _, hook := range x.Validating {
			clients := make([]admissionregv1.WebhookClientConfig, len(hook.Webhooks))
			for i := range hook.Webhooks {
				clients[i] = hook.Webhooks[i].ClientConfig
			}
			x.webhook("validatingwebhookconfiguration", &hook.ObjectMeta, clients)
		}
	}
	if len(running) > 0 || mode != "" {
		return
	}
	for _, ns := range x.Namespaces {
		for _, key := range admission.NamespaceAnnotations() {
			if value, there := ns.Annotations[key]; there {
				x.add(Configure, NamespaceAdmission, "namespace "+ns.Name, "set admission.mode, or drop the annotation", "has %s: %q, which nobody reads without admission", key, value)
			}
		}
	}
}

// webhook looks at a webhook that nobody of YuniKorn answers. Replicas with admission write their own over it.
func (x *check) webhook(kind string, object *metav1.ObjectMeta, clients []admissionregv1.WebhookClientConfig) {
	if object.Labels["app.kubernetes.io/name"] == "understudy" || x.cfg.Admission.Mode != "" || len(clients) == 0 {
		return
	}
	calls := ""
	if service := clients[0].Service; service != nil {
		calls = " " + service.Namespace + "/" + service.Name
	}
	x.add(Configure, WebhookLeft, kind+" "+object.Name, "delete it, or set admission.mode, with which the replicas take it over",
		"calls%s, where nobody answers: each pod waits for that, and passes as it is", calls)
}

// services looks at where clients of YuniKorn's REST go.
func (x *check) services() {
	for _, s := range x.Services {
		if s.Namespace == namespaceOf(x.cfg) {
			continue
		}
		var selects []string
		for key, value := range s.Spec.Selector {
			selects = append(selects, key+"="+value)
		}
		slices.Sort(selects)
		x.add(Configure, RESTService, "service "+s.Namespace+"/"+s.Name,
			fmt.Sprintf("point clients to %s.%s, or make it of the type ExternalName with that name", restService, namespaceOf(x.cfg)),
			"is where clients find REST; it selects %s, which are not the replicas", strings.Join(selects, ","))
	}
}
