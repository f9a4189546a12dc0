package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// The names of YuniKorn's admission controller.
const (
	nameMutations   = "yunikorn-admission-controller-mutations"
	nameValidations = "yunikorn-admission-controller-validations"
	nameMutate      = "yunikorn.mutate-pods"
	nameValidate    = "admission-webhook.yunikorn.validate-conf"
)

const (
	// attemptSeconds is how long the API server waits for a replica.
	attemptSeconds = 3
	// attemptsOfService is how many replicas it asks where a Service chooses them. It asks one
	// after another, and only for as long as none has decided. A Service knows nothing of who
	// has been asked, and goes on choosing a replica that has died.
	attemptsOfService = 6
	// attemptsUndecided is how many of the attempts there are, the last among them, where it
	// cannot be told whether a replica has decided: all of these are made.
	attemptsUndecided = 3
)

// Where says where the API server finds the replicas.
type Where struct {
	// Namespace and Service are of a Service.
	Namespace, Service string
	// URLs, if there are any, are of the replicas, and are asked in turn instead.
	URLs []string
}

func (w Where) clients(path string, bundle []byte) []admissionregv1.WebhookClientConfig {
	var list []admissionregv1.WebhookClientConfig
	for _, url := range w.URLs {
		list = append(list, admissionregv1.WebhookClientConfig{URL: ptr.To(url + path), CABundle: bundle})
	}
	for len(w.URLs) == 0 && len(list) < attemptsOfService {
		list = append(list, admissionregv1.WebhookClientConfig{CABundle: bundle, Service: &admissionregv1.ServiceReference{
			Namespace: w.Namespace, Name: w.Service, Path: ptr.To(path), Port: ptr.To(int32(443)),
		}})
	}
	return list
}

// Names are those that the certificate of a replica has to have.
func (w Where) Names(hosts []string) []string {
	service := w.Service + "." + w.Namespace + ".svc"
	return append([]string{service, service + ".cluster.local"}, hosts...)
}

// elsewhere selects the namespaces that are not needed for the cluster, or the replicas, to
// work.
func (c Config) elsewhere() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: metav1NamespaceName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{metav1.NamespaceSystem, c.Namespace},
	}}}
}

const metav1NamespaceName = "kubernetes.io/metadata.name"

// notOwn is for requests that are not the replicas' own.
func (c Config) notOwn() admissionregv1.MatchCondition {
	return admissionregv1.MatchCondition{
		Name: "not-of-the-replicas", Expression: "request.userInfo.username != " + celString(c.account()),
	}
}

func (c Config) account() string {
	return "system:serviceaccount:" + c.Namespace + ":" + c.ServiceAccount
}

// mutations is the configuration of the webhook for pods and workloads.
func (c Config) mutations(s Settings, bundle []byte) *admissionregv1.MutatingWebhookConfiguration {
	object := &admissionregv1.MutatingWebhookConfiguration{ObjectMeta: named(nameMutations)}
	object.Annotations = c.Annotations
	object.SetGroupVersionKind(admissionregv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"))
	conditions := []admissionregv1.MatchCondition{c.notOwn(), {
		// Whatever else changes in a pod is nobody's business here.
		Name: "pods-that-name-another-user",
		Expression: fmt.Sprintf("request.resource.resource != 'pods' || request.operation == 'CREATE' || %s != %s",
			celEntry("object", "annotations", workload.AnnotationUserInfo), celEntry("oldObject", "annotations", workload.AnnotationUserInfo)),
	}, {
		Name:       "workloads-that-change",
		Expression: "request.resource.resource == 'pods' || request.operation == 'CREATE' || object.?spec != oldObject.?spec",
	}}
	clients := c.Where.clients(PathMutate, bundle)
	last := len(clients) - 1
	for i, client := range clients {
		webhook := admissionregv1.MutatingWebhook{
			Name: attempt(i) + "." + nameMutate, ClientConfig: client, Rules: c.hookRules(),
			FailurePolicy: ptr.To(admissionregv1.FailurePolicyType(c.FailurePolicy)), MatchPolicy: ptr.To(admissionregv1.Equivalent),
			NamespaceSelector: c.elsewhere(), ObjectSelector: &metav1.LabelSelector{},
			SideEffects: ptr.To(admissionregv1.SideEffectClassNone), TimeoutSeconds: ptr.To(int32(attemptSeconds)),
			AdmissionReviewVersions: []string{"v1"}, MatchConditions: conditions,
			// What another webhook adds later is seen as well.
			ReinvocationPolicy: ptr.To(admissionregv1.IfNeededReinvocationPolicy),
		}
		if i > 0 {
			webhook.MatchConditions = slices.Concat(conditions, []admissionregv1.MatchCondition{c.undecided(s, i >= attemptsUndecided-1 && i < last)})
			webhook.ReinvocationPolicy = ptr.To(admissionregv1.NeverReinvocationPolicy)
		}
		if i < last {
			// The last one decides what becomes of a request that nobody answers.
			webhook.FailurePolicy = ptr.To(admissionregv1.Ignore)
		}
		object.Webhooks = append(object.Webhooks, webhook)
	}
	return object
}

// attempt begins the name of a webhook. The API server asks in the order in which they are
// listed.
func attempt(i int) string {
	if i == 0 {
		return "admission-webhook"
	}
	return "admission-webhook-" + strconv.Itoa(i+1)
}

// undecided is for pods that no replica has decided about yet. Of one in a namespace that is
// left alone, and of anything but a new pod, that cannot be told: an attempt that is onlyNew
// leaves all but new pods out.
func (c Config) undecided(s Settings, onlyNew bool) admissionregv1.MatchCondition {
	done := "object.spec.?schedulerName.orValue('') == " + celString(c.SchedulerName)
	if !s.BypassAuth {
		done += " && " + celEntry("object", "annotations", workload.AnnotationUserInfo) + " != ''"
	}
	which := "request.resource.resource != 'pods' || request.operation != 'CREATE' || "
	if onlyNew {
		which = "request.resource.resource == 'pods' && request.operation == 'CREATE' && "
	}
	return admissionregv1.MatchCondition{
		Name: "undecided", Expression: fmt.Sprintf("%s%s && !(%s)", which, celByName(s.Process, s.Bypass), done),
	}
}

func (c Config) hookRules() []admissionregv1.RuleWithOperations {
	rules := []admissionregv1.RuleWithOperations{rule("", "v1", "pods")}
	for _, w := range c.Workloads {
		rules = append(rules, rule(w.Group, w.Version, w.Resource))
	}
	return rules
}

func rule(group, version, resource string) admissionregv1.RuleWithOperations {
	return admissionregv1.RuleWithOperations{
		Operations: []admissionregv1.OperationType{admissionregv1.Create, admissionregv1.Update},
		Rule: admissionregv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource},
			Scope: ptr.To(admissionregv1.NamespacedScope),
		},
	}
}

// validations is the configuration of the webhook for the ConfigMaps. What nobody has looked
// at is refused.
func (c Config) validations(bundle []byte) *admissionregv1.ValidatingWebhookConfiguration {
	object := &admissionregv1.ValidatingWebhookConfiguration{ObjectMeta: named(nameValidations)}
	object.Annotations = c.Annotations
	object.SetGroupVersionKind(admissionregv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"))
	among := ""
	for i, name := range c.ConfigMaps {
		if i > 0 {
			among += ", "
		}
		among += celString(name)
	}
	object.Webhooks = []admissionregv1.ValidatingWebhook{{
		Name: nameValidate, ClientConfig: c.Where.clients(PathValidate, bundle)[0], Rules: []admissionregv1.RuleWithOperations{rule("", "v1", "configmaps")},
		FailurePolicy: ptr.To(admissionregv1.Fail), MatchPolicy: ptr.To(admissionregv1.Equivalent),
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{metav1NamespaceName: cmp.Or(c.ConfigMapNamespace, c.Namespace)}}, ObjectSelector: &metav1.LabelSelector{},
		SideEffects: ptr.To(admissionregv1.SideEffectClassNone), TimeoutSeconds: ptr.To(int32(attemptSeconds)),
		AdmissionReviewVersions: []string{"v1"},
		MatchConditions: []admissionregv1.MatchCondition{{
			Name: "configuration-of-the-scheduler", Expression: "object.metadata.name in [" + among + "]",
		}},
	}}
	return object
}

// What the replicas write is labelled with their name.
const (
	labelName = "app.kubernetes.io/name"
	ourName   = "understudy"
)

// named is the metadata of what the replicas write.
func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{labelApp: "yunikorn", labelName: ourName}}
}
