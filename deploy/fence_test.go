package deploy

import (
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/kube"
)

type (
	policy  = *admissionv1.ValidatingAdmissionPolicy
	binding = *admissionv1.ValidatingAdmissionPolicyBinding
)

// The policies of the fence. A replica tells them by the beginning of the name.
const (
	fence      = kube.FencePolicy
	fenceLabel = kube.FencePolicy + "-label"
	fenceLease = kube.FencePolicy + "-lease"
)

// The API server itself compiles the expressions, see e2e.
func TestFenceRefuses(t *testing.T) {
	for _, name := range []string{fence, fenceLabel, fenceLease} {
		p, b := only[policy](t, name), only[binding](t, name)
		if b.Spec.PolicyName != name || !slices.Equal(b.Spec.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
			t.Errorf("%s is bound by %+v", name, b.Spec)
		}
		if f := p.Spec.FailurePolicy; f == nil || *f != admissionv1.Fail {
			t.Errorf("%s: what cannot be judged passes", name)
		}
		for _, v := range p.Spec.Validations {
			if v.Message == "" && v.MessageExpression == "" || v.Reason == nil {
				t.Errorf("%s: %s does not say why", name, v.Expression)
			}
		}
	}
}

func TestFenceIsAboutTheServiceAccount(t *testing.T) {
	account := only[*corev1.ServiceAccount](t, "understudy")
	want := "request.userInfo.username == 'system:serviceaccount:" + account.Namespace + ":" + account.Name + "'"
	for _, name := range []string{fence, fenceLabel} {
		p := only[policy](t, name)
		if c := p.Spec.MatchConditions; len(c) != 1 || c[0].Expression != want {
			t.Errorf("%s is for %+v, want %s", name, c, want)
		}
		var resources []string
		for _, r := range p.Spec.MatchConstraints.ResourceRules {
			if !slices.Equal(r.Operations, []admissionv1.OperationType{admissionv1.Create}) || !slices.Equal(r.APIGroups, []string{""}) {
				t.Errorf("%s: rule %+v", name, r)
			}
			resources = append(resources, r.Resources...)
		}
		if want := []string{"pods", "pods/binding", "bindings"}; !slices.Equal(resources, want) {
			t.Errorf("%s looks at %v, want %v", name, resources, want)
		}
	}
}

func TestFenceComparesWithTheLeaseOfTheReplicas(t *testing.T) {
	cfg := deployedConfig(t)
	p, b := only[policy](t, fence), only[binding](t, fence)
	if k := p.Spec.ParamKind; k == nil || k.APIVersion != "coordination.k8s.io/v1" || k.Kind != "Lease" {
		t.Errorf("compared with %+v", k)
	}
	ref := b.Spec.ParamRef
	if ref == nil || ref.Name != cfg.Election.LeaseName || ref.Namespace != config.DefaultNamespace ||
		*ref.ParameterNotFoundAction != admissionv1.DenyAction {
		t.Errorf("compared with %+v; the Lease is %s/%s", ref, config.DefaultNamespace, cfg.Election.LeaseName)
	}
	rule := only[policy](t, fenceLease).Spec.MatchConstraints.ResourceRules[0]
	selector := only[binding](t, fenceLease).Spec.MatchResources.NamespaceSelector.MatchLabels
	if !slices.Equal(rule.ResourceNames, []string{cfg.Election.LeaseName}) ||
		selector["kubernetes.io/metadata.name"] != config.DefaultNamespace {
		t.Errorf("the epoch must not fall in %v of %v", rule.ResourceNames, selector)
	}
}

// TestFenceReadsWhatTheCoordinatorWrites also makes sure that a Lease that is
// missing concerns nobody but the coordinator: only by the selector can the
// policy tell before it looks for the Lease.
func TestFenceReadsWhatTheCoordinatorWrites(t *testing.T) {
	p := only[policy](t, fence)
	s := p.Spec.MatchConstraints.ObjectSelector
	if s == nil || len(s.MatchExpressions) != 1 || s.MatchExpressions[0].Key != kube.LeaseLabel || s.MatchExpressions[0].Operator != "Exists" {
		t.Errorf("selector %+v, want the label %s", s, kube.LeaseLabel)
	}
	if s := only[policy](t, fenceLabel).Spec.MatchConstraints.ObjectSelector; s != nil {
		t.Errorf("what lacks the label is not looked at: %+v", s)
	}
	var expressions strings.Builder
	for _, v := range p.Spec.Variables {
		expressions.WriteString(v.Expression)
	}
	for _, v := range append(p.Spec.Validations, only[policy](t, fenceLabel).Spec.Validations...) {
		expressions.WriteString(v.Expression)
	}
	for _, key := range []string{kube.LeaseLabel, kube.EpochAnnotation, kube.HolderAnnotation} {
		if !strings.Contains(expressions.String(), "'"+key+"'") {
			t.Errorf("nothing reads %s", key)
		}
	}
}
