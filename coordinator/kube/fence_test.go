package kube

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

func TestTheFencesRefusalIsToldFromOthers(t *testing.T) {
	for err, want := range map[error]bool{
		nil:                                false,
		errors.New("no"):                   false,
		notFound:                           false,
		tooLate:                            true,
		fmt.Errorf("binding: %w", tooLate): true,
		apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, "p", nil):                                                               false,
		apierrors.NewForbidden(podResource, "p", errors.New("User \"understudy\" cannot create resource")):                              false,
		apierrors.NewForbidden(podResource, "p", errors.New("ValidatingAdmissionPolicy 'images' with binding 'x' denied request: no")):  false,
		apierrors.NewForbidden(podResource, "p", errors.New("ValidatingAdmissionPolicy 'understudy-fence-label' with binding denied")):  true,
		apierrors.NewForbidden(podResource, "p", errors.New("ValidatingAdmissionPolicy 'understudy-fence' denied request: not synced")): true,
	} {
		if got := TermRefused(err); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
}

func TestProbeFence(t *testing.T) {
	for name, c := range map[string]struct {
		answer   error
		enforced bool
		unknown  bool
	}{
		"refused by the policy":       {tooLate, true, false},
		"let through to no pod":       {notFound, false, false},
		"let through to a pod":        {nil, false, false},
		"let through to another pod":  {apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "p", errors.New("uid")), false, false},
		"let through to a bound pod":  {conflict, false, false},
		"not allowed":                 {apierrors.NewForbidden(podResource, "p", errors.New("User cannot create")), false, true},
		"no such namespace":           {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "ns"), false, true},
		"no such path":                {apierrors.NewGenericServerResponse(http.StatusNotFound, "create", schema.GroupResource{}, "", "", 0, false), false, true},
		"refused by another policy":   {apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, "p", nil), false, true},
		"API server does not answer":  {errors.New("connection refused"), false, true},
		"API server has other things": {apierrors.NewTooManyRequests("later", 1), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			s.answer("create", "pods", func(a clienttesting.Action) (runtime.Object, error) {
				sent := a.(clienttesting.CreateAction).GetObject().(*v1.Binding)
				if a.GetSubresource() != "binding" || sent.Annotations[EpochAnnotation] != "0" || sent.Labels[LeaseLabel] == "" || sent.Namespace != "own" {
					t.Errorf("sent %+v; the policy would not look at it", sent)
				}
				return sent, c.answer
			})
			enforced, err := ProbeFence(t.Context(), s, "own")
			if enforced != c.enforced || (err != nil) != c.unknown {
				t.Errorf("enforced %t, %v", enforced, err)
			}
		})
	}
}
