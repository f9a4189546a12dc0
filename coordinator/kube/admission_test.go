package kube

import (
	"errors"
	"net/http"
	"testing"
)

type answersNothing struct{}

func (answersNothing) RoundTrip(*http.Request) (*http.Response, error) { return &http.Response{}, nil }

func TestTheClientForAdmissionSendsNothingElse(t *testing.T) {
	transport := admissionOnly{next: answersNothing{}, secrets: "/api/v1/namespaces/own/secrets", secret: "certificates"}
	for _, c := range []struct {
		method, path string
		sent         bool
	}{
		{http.MethodPatch, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/yunikorn-admission-controller-mutations", true},
		{http.MethodDelete, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/understudy-admission-user-pod", true},
		{http.MethodGet, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/yunikorn-admission-controller-mutations", true},
		{http.MethodGet, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", false},
		{http.MethodGet, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/understudy-fence", false},
		{http.MethodGet, "/api/v1/namespaces/own/secrets/certificates", true},
		{http.MethodPut, "/api/v1/namespaces/own/secrets/certificates", true},
		{http.MethodPost, "/api/v1/namespaces/own/secrets", true},
		{http.MethodPatch, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/understudy-fence", false},
		{http.MethodDelete, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/understudy-fence-label", false},
		{http.MethodDelete, "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", false},
		{http.MethodGet, "/api/v1/namespaces/own/secrets", false},
		{http.MethodGet, "/api/v1/namespaces/own/secrets/others", false},
		{http.MethodPost, "/api/v1/namespaces/own/pods", false},
		{http.MethodDelete, "/api/v1/namespaces/own/pods/x", false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://host"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transport.RoundTrip(req); errors.Is(err, errNotAdmission) == c.sent {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
	}
}
