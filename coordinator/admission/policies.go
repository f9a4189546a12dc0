package admission

import (
	"fmt"
	"strings"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// The beginnings of the names of policies.
const (
	namePolicy = "understudy-admission-"
	nameUser   = namePolicy + "user-"
)

// podWorkload lets the policies treat a pod as its own template.
func podWorkload() Workload {
	return Workload{Name: "pod", Version: "v1", Resource: "pods", Annotations: []Place{place("", "metadata annotations")}}
}

func (c Config) match(w Workload) *admissionregv1.MatchResources {
	only := rule(w.Group, w.Version, w.Resource)
	return &admissionregv1.MatchResources{
		ResourceRules:     []admissionregv1.NamedRuleWithOperations{{RuleWithOperations: only}},
		NamespaceSelector: c.elsewhere(), ObjectSelector: &metav1.LabelSelector{}, MatchPolicy: ptr.To(admissionregv1.Equivalent),
	}
}

// variables that policies share, each an expression.
func (c Config) variables(s Settings) []admissionregv1.Variable {
	return []admissionregv1.Variable{
		{Name: "process", Expression: celChoose(annotationEnable, s.Process, s.Bypass)},
		{Name: "label", Expression: celChoose(annotationGenerate, s.Label, s.NoLabel)},
		{Name: "user", Expression: celUserInfo()},
		{Name: "trusted", Expression: celTrusted(s)},
		{Name: "system", Expression: celMatch("request.userInfo.username", s.SystemUsers)},
	}
}

// guard is the policy that keeps users from passing for others in one kind.
func (c Config) guard(s Settings, w Workload) (*admissionregv1.ValidatingAdmissionPolicy, *admissionregv1.ValidatingAdmissionPolicyBinding) {
	name := nameUser + w.Name
	policy := &admissionregv1.ValidatingAdmissionPolicy{ObjectMeta: named(name)}
	policy.SetGroupVersionKind(admissionregv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy"))
	var is, was []string
	for _, p := range w.Annotations {
		is, was = append(is, celValues("object", p)), append(was, celValues("oldObject", p))
	}
	old := "request.operation == 'UPDATE' ? " + strings.Join(was, " + ") + " : []"
	policy.Spec = admissionregv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: ptr.To(admissionregv1.Fail), MatchConstraints: c.match(w),
		MatchConditions: []admissionregv1.MatchCondition{c.notOwn()},
		Variables: append(c.variables(s),
			admissionregv1.Variable{Name: "is", Expression: strings.Join(is, " + ")}, admissionregv1.Variable{Name: "was", Expression: old}),
		Validations: []admissionregv1.Validation{{
			Expression: "variables.is.all(v, v == '' || v in variables.was || v == variables.user) || variables.trusted",
			Reason:     ptr.To(metav1.StatusReasonForbidden),
			MessageExpression: "'user ' + request.userInfo.username + ' with groups [' + request.userInfo.?groups.orValue([]).join(',') + " +
				"'] is not allowed to set user annotation'",
		}},
	}
	if w.Resource == "pods" {
		change := admissionregv1.Validation{
			Expression: fmt.Sprintf("request.operation != 'UPDATE' || variables.is == variables.was || !variables.process || !(variables.label || %s != '')",
				celEntry("object", "labels", workload.KeyAppID)),
			Reason: ptr.To(metav1.StatusReasonForbidden), Message: changeRefused,
		}
		policy.Spec.Validations = append([]admissionregv1.Validation{change}, policy.Spec.Validations...)
	}
	bound := &admissionregv1.ValidatingAdmissionPolicyBinding{ObjectMeta: named(name)}
	bound.SetGroupVersionKind(admissionregv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"))
	bound.Spec = admissionregv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: name, ValidationActions: []admissionregv1.ValidationAction{admissionregv1.Deny},
	}
	return policy, bound
}

// mutation is the policy that does in the API server what the webhook does with one kind.
func (c Config) mutation(w Workload, variables []admissionregv1.Variable, expression string) (*admissionregv1.MutatingAdmissionPolicy, *admissionregv1.MutatingAdmissionPolicyBinding) {
	name := namePolicy + w.Name
	policy := &admissionregv1.MutatingAdmissionPolicy{ObjectMeta: named(name)}
	policy.SetGroupVersionKind(admissionregv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicy"))
	policy.Spec = admissionregv1.MutatingAdmissionPolicySpec{
		FailurePolicy: ptr.To(admissionregv1.Fail), MatchConstraints: c.match(w), ReinvocationPolicy: admissionregv1.IfNeededReinvocationPolicy,
		MatchConditions: []admissionregv1.MatchCondition{c.notOwn()}, Variables: variables,
		Mutations: []admissionregv1.Mutation{{
			PatchType:          admissionregv1.PatchTypeApplyConfiguration,
			ApplyConfiguration: &admissionregv1.ApplyConfiguration{Expression: expression},
		}},
	}
	bound := &admissionregv1.MutatingAdmissionPolicyBinding{ObjectMeta: named(name)}
	bound.SetGroupVersionKind(admissionregv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicyBinding"))
	bound.Spec.PolicyName = name
	return policy, bound
}

// podMutation is createPod in CEL.
func (c Config) podMutation(s Settings) (*admissionregv1.MutatingAdmissionPolicy, *admissionregv1.MutatingAdmissionPolicyBinding) {
	label := func(key string) string { return celEntry("object", "labels", key) }
	annotation := func(key string) string { return celEntry("object", "annotations", key) }
	id := celString("yunikorn-") + " + request.namespace + " + celString("-autogen")
	fits := fmt.Sprintf("size(%s) <= %d", id, maxAppID)
	if s.GenerateUniqueAppID {
		id = "(size(request.namespace) > 26 ? request.namespace.substring(0, 26) : request.namespace) + '-' + object.metadata.?uid.orValue('')"
		fits = "object.metadata.?uid.orValue('') != ''"
	}
	ours := "object.spec.?schedulerName.orValue('') == " + celString(c.SchedulerName)
	tells := "(variables.scheduled || " + ours + ") && !has_user"
	if s.BypassAuth {
		tells = "false"
	}
	tells = strings.ReplaceAll(tells, "!has_user", "!("+celString(workload.AnnotationUserInfo)+" in object.metadata.?annotations.orValue({}))")
	variables := append(c.variables(s),
		admissionregv1.Variable{Name: "scheduled", Expression: "variables.process && " + label(labelApp) + " != 'yunikorn'"},
		admissionregv1.Variable{Name: "labelled", Expression: "variables.scheduled && variables.label"},
		admissionregv1.Variable{Name: "named", Expression: fmt.Sprintf("[%s, %s, %s, %s].exists(id, id.trim() != '')",
			label(workload.KeyAppID), annotation(workload.KeyAppID), label(workload.LabelOldAppID), label(workload.LabelSparkAppID))},
		admissionregv1.Variable{Name: "generates", Expression: "variables.labelled && !variables.named && " + fits},
		admissionregv1.Variable{Name: "id", Expression: id},
	)
	entry := func(key, condition, value string) string {
		return fmt.Sprintf("?%s: %s ? optional.of(%s) : optional.none()", celString(key), condition, value)
	}
	labels := strings.Join([]string{
		entry(workload.KeyAppID, "variables.generates", "variables.id"),
		entry(workload.LabelOldAppID, "variables.generates || variables.labelled && "+label(workload.KeyAppID)+" != ''",
			"variables.generates ? variables.id : "+label(workload.KeyAppID)),
		entry(workload.LabelOldQueue, "variables.labelled && "+label(workload.KeyQueue)+" != ''", label(workload.KeyQueue)),
	}, ", ")
	annotations := strings.Join([]string{
		entry(workload.AnnotationUserInfo, tells, "variables.user"),
		entry(workload.AnnotationIgnore, "variables.scheduled && !variables.label", "'true'"),
	}, ", ")
	expression := fmt.Sprintf("Object{metadata: Object.metadata{labels: {%s}, annotations: {%s}}, "+
		"spec: Object.spec{schedulerName: variables.scheduled ? %s : object.spec.?schedulerName.orValue('default-scheduler')}}",
		labels, annotations, celString(c.SchedulerName))
	policy, bound := c.mutation(podWorkload(), variables, expression)
	policy.Spec.MatchConstraints.ResourceRules[0].Operations = []admissionregv1.OperationType{admissionregv1.Create}
	return policy, bound
}

// workloadMutation is workload in CEL, for a kind with one template.
func (c Config) workloadMutation(s Settings, w Workload) (*admissionregv1.MutatingAdmissionPolicy, *admissionregv1.MutatingAdmissionPolicyBinding) {
	p := w.Annotations[0]
	key := celString(workload.AnnotationUserInfo)
	template := func(object string) string { return object + ".?" + strings.Join(p.Within, ".?") }
	app := func(key string) string {
		return template("object") + ".?metadata.?labels[?" + celString(key) + "].orValue('') != ''"
	}
	spares := "variables.system && request.operation == 'UPDATE'"
	if w.Resource == "replicasets" {
		spares = "variables.system"
	}
	variables := append(c.variables(s),
		admissionregv1.Variable{Name: "named", Expression: key + " in " + template("object") + ".?metadata.?annotations.orValue({})"},
		admissionregv1.Variable{Name: "was", Expression: "request.operation == 'UPDATE' ? " + template("oldObject") + ".?metadata.?annotations[?" + key + "].orValue('') : ''"},
		admissionregv1.Variable{Name: "changed", Expression: "request.operation == 'CREATE' || " + template("object") + " != " + template("oldObject")},
		admissionregv1.Variable{Name: "adds", Expression: fmt.Sprintf("variables.changed && variables.process && (variables.label || %s || %s || %s) && !(%s)",
			app(workload.KeyAppID), app(workload.LabelOldAppID), app(workload.LabelSparkAppID), spares)},
		admissionregv1.Variable{Name: "value", Expression: "variables.named ? '' : variables.was != '' ? variables.was : variables.adds ? variables.user : ''"},
	)
	path := append(append([]string{}, p.Within...), "metadata")
	inner := "annotations: {?" + key + ": variables.value != '' ? optional.of(variables.value) : optional.none()}"
	for i := len(path); i > 0; i-- {
		inner = path[i-1] + ": Object." + strings.Join(path[:i], ".") + "{" + inner + "}"
	}
	policy, bound := c.mutation(w, variables, "Object{"+inner+"}")
	policy.Spec.MatchConditions = append(policy.Spec.MatchConditions, admissionregv1.MatchCondition{
		Name: "workloads-that-change", Expression: "request.operation == 'CREATE' || object.?spec != oldObject.?spec",
	})
	return policy, bound
}
