package kube

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// AdmissionClients write what the API server needs for admission. Every replica does so,
// in every role, so that they are not fenced: they send nothing else.
type AdmissionClients struct {
	// Objects are webhook configurations and policies, Secrets those with certificates.
	Objects dynamic.Interface
	Secrets kubernetes.Interface
}

// NewAdmissionClients makes the clients. secret is the name of the Secret.
func NewAdmissionClients(cfg ClientConfig, secret string) (*AdmissionClients, error) {
	base, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	conn := connection(base)
	conn.ContentType, conn.AcceptContentTypes = "", "" // server-side apply is written in YAML
	conn.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return admissionOnly{next: next, secrets: "/api/v1/namespaces/" + cfg.Namespace + "/secrets", secret: secret}
	})
	clients := &AdmissionClients{}
	if clients.Objects, err = dynamic.NewForConfig(conn); err != nil {
		return nil, fmt.Errorf("client for admission: %w", err)
	}
	if clients.Secrets, err = kubernetes.NewForConfig(conn); err != nil {
		return nil, fmt.Errorf("client for certificates: %w", err)
	}
	return clients, nil
}

// admissionOnly is a transport for objects of admission, those of the fence excepted, and for
// one Secret.
type admissionOnly struct {
	next            http.RoundTripper
	secrets, secret string
}

var errNotAdmission = errors.New("this client is for admission")

// admissionObjects begins the path of objects of admission.
const admissionObjects = "/apis/admissionregistration.k8s.io/v1/"

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t admissionOnly) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper.
func (t admissionOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.allows(req.Method, req.URL.Path) {
		return t.next.RoundTrip(req)
	}
	if req.Body != nil { // a transport closes it in every case
		_ = req.Body.Close()
	}
	return nil, fmt.Errorf("%w: %s %s", errNotAdmission, req.Method, req.URL.Path)
}

func (t admissionOnly) allows(method, path string) bool {
	if path == t.secrets+"/"+t.secret {
		return slices.Contains([]string{http.MethodGet, http.MethodPut}, method)
	}
	if path == t.secrets {
		return method == http.MethodPost
	}
	resource, name, ok := strings.Cut(strings.TrimPrefix(path, admissionObjects), "/")
	if method == http.MethodGet {
		return ok && resource == "mutatingwebhookconfigurations" && name != ""
	}
	return ok && strings.HasPrefix(path, admissionObjects) && !strings.HasPrefix(name, FencePolicy) &&
		slices.Contains([]string{http.MethodPatch, http.MethodDelete}, method)
}
