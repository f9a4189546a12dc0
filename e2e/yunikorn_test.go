package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/cert"
)

const (
	mutations   = "yunikorn-admission-controller-mutations"
	validations = "yunikorn-admission-controller-validations"
)

// yunikorn plays YuniKorn's admission controller 1.9 with its default settings, for what users of
// it meet: what it adds and in what form, what it refuses, what it writes for the API server. It
// knows of no test: it takes any request that the API server sends.
type yunikorn struct {
	t         *testing.T
	client    kubernetes.Interface
	scheduler string // where it has configurations validated
	url       string
	bundle    []byte

	mu      sync.Mutex
	asked   int
	refused []string
}

func newYuniKorn(t *testing.T, client kubernetes.Interface, scheduler string) *yunikorn {
	t.Helper()
	y := &yunikorn{t: t, client: client, scheduler: scheduler}
	chain, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/mutate", y.answer(y.mutate))
	mux.HandleFunc("/validate-conf", y.answer(y.validate))
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	y.url, y.bundle = server.URL, chain
	return y
}

// seen returns how often it was asked, and what it has refused.
func (y *yunikorn) seen() (int, []string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.asked, slices.Clone(y.refused)
}

// install does what the controller does when it starts: its objects become what it wants, whatever
// there is. at says where it is to be asked.
func (y *yunikorn) install(ctx context.Context, at func(path string) admissionregv1.WebhookClientConfig) {
	y.t.Helper()
	ignore, none := admissionregv1.Ignore, admissionregv1.SideEffectClassNone
	rules := func(resources ...string) []admissionregv1.RuleWithOperations {
		return []admissionregv1.RuleWithOperations{{
			Operations: []admissionregv1.OperationType{admissionregv1.Create, admissionregv1.Update},
			Rule:       admissionregv1.Rule{APIGroups: []string{"", "apps", "batch"}, APIVersions: []string{"v1"}, Resources: resources},
		}}
	}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "yunikorn"}}
	}
	hooks := y.client.AdmissionregistrationV1()
	mutating := &admissionregv1.MutatingWebhookConfiguration{ObjectMeta: meta(mutations), Webhooks: []admissionregv1.MutatingWebhook{{
		Name: "admission-webhook.yunikorn.mutate-pods", ClientConfig: at("/mutate"), FailurePolicy: &ignore, SideEffects: &none,
		Rules:                   rules("pods", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs"),
		AdmissionReviewVersions: []string{"v1"},
	}}}
	validating := &admissionregv1.ValidatingWebhookConfiguration{ObjectMeta: meta(validations), Webhooks: []admissionregv1.ValidatingWebhook{{
		Name: "admission-webhook.yunikorn.validate-conf", ClientConfig: at("/validate-conf"), FailurePolicy: &ignore, SideEffects: &none,
		Rules: rules("configmaps"), AdmissionReviewVersions: []string{"v1"},
	}}}
	// It tries again where others write as well.
	for {
		held, err := hooks.MutatingWebhookConfigurations().Get(ctx, mutations, metav1.GetOptions{})
		if err == nil {
			held.Webhooks = mutating.Webhooks
			_, err = hooks.MutatingWebhookConfigurations().Update(ctx, held, metav1.UpdateOptions{})
		} else if apierrors.IsNotFound(err) {
			_, err = hooks.MutatingWebhookConfigurations().Create(ctx, mutating, metav1.CreateOptions{})
		}
		if err == nil {
			break
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			y.t.Fatal(err)
		}
	}
	for {
		held, err := hooks.ValidatingWebhookConfigurations().Get(ctx, validations, metav1.GetOptions{})
		if err == nil {
			held.Webhooks = validating.Webhooks
			_, err = hooks.ValidatingWebhookConfigurations().Update(ctx, held, metav1.UpdateOptions{})
		} else if apierrors.IsNotFound(err) {
			_, err = hooks.ValidatingWebhookConfigurations().Create(ctx, validating, metav1.CreateOptions{})
		}
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			y.t.Fatal(err)
		}
	}
}

// here is where it answers.
func (y *yunikorn) here(path string) admissionregv1.WebhookClientConfig {
	url := y.url + path
	return admissionregv1.WebhookClientConfig{URL: &url, CABundle: y.bundle}
}

// left is what stays behind when it was uninstalled.
func (y *yunikorn) left(path string) admissionregv1.WebhookClientConfig {
	return admissionregv1.WebhookClientConfig{CABundle: y.bundle, Service: &admissionregv1.ServiceReference{
		Namespace: "yunikorn", Name: "yunikorn-admission-controller-service", Path: &path,
	}}
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func (y *yunikorn) answer(judge func(context.Context, *admissionv1.AdmissionRequest) ([]operation, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		patch, err := judge(r.Context(), review.Request)
		response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: err == nil}
		y.mu.Lock()
		y.asked++
		if err != nil {
			y.refused = append(y.refused, fmt.Sprintf("%s %s %s", review.Request.Operation, review.Request.Resource.Resource, err))
			response.Result = &metav1.Status{Message: err.Error()}
		}
		y.mu.Unlock()
		if len(patch) > 0 {
			kind := admissionv1.PatchTypeJSONPatch
			response.PatchType = &kind
			response.Patch, _ = json.Marshal(patch)
		}
		review.Request, review.Response = nil, response
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}
}

var (
	systemUsers = regexp.MustCompile(`^system:serviceaccount:kube-system:`)
	bypassed    = regexp.MustCompile(`^kube-system$`)
)

// named checks user.info of annotations, or returns the one to add.
func named(req *admissionv1.AdmissionRequest, annotations map[string]string) (add string, err error) {
	if value, ok := annotations[userInfo]; ok {
		if !systemUsers.MatchString(req.UserInfo.Username) {
			return "", fmt.Errorf("user %s with groups [%s] is not allowed to set user annotation", req.UserInfo.Username, strings.Join(req.UserInfo.Groups, ","))
		}
		var info struct{ User string }
		return "", json.Unmarshal([]byte(value), &info)
	}
	value, err := json.Marshal(struct {
		User   string   `json:"user"`
		Groups []string `json:"groups"`
	}{req.UserInfo.Username, req.UserInfo.Groups})
	return string(value), err
}

// says is what an annotation of a namespace says, or otherwise what the settings do.
func (y *yunikorn) says(ctx context.Context, namespace, key string, otherwise bool) bool {
	ns, err := y.client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return otherwise
	}
	switch ns.Annotations["yunikorn.apache.org/namespace."+key] {
	case "true":
		return true
	case "false":
		return false
	}
	return otherwise
}

func with(have map[string]string, more map[string]string) map[string]string {
	all := maps.Clone(more)
	for k, v := range have {
		if _, ok := all[k]; !ok {
			all[k] = v
		}
	}
	return all
}

func (y *yunikorn) mutate(ctx context.Context, req *admissionv1.AdmissionRequest) ([]operation, error) {
	process := y.says(ctx, req.Namespace, "enableYuniKorn", !bypassed.MatchString(req.Namespace))
	label := y.says(ctx, req.Namespace, "generateAppId", true)
	if req.Resource.Resource != "pods" {
		if req.Operation != admissionv1.Create || !process {
			return nil, nil
		}
		return y.workload(req)
	}
	var pod, old v1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return nil, err
	}
	if req.Operation == admissionv1.Update {
		if err := json.Unmarshal(req.OldObject.Raw, &old); err != nil {
			return nil, err
		}
		if process && pod.Annotations[userInfo] != old.Annotations[userInfo] {
			return nil, fmt.Errorf("user info annotation change is not allowed")
		}
		return nil, nil
	}
	info, err := named(req, pod.Annotations)
	if err != nil {
		return nil, err
	}
	if pod.Labels["app"] == "yunikorn" || !process {
		return nil, nil
	}
	var patch []operation
	annotations := pod.Annotations
	if info != "" {
		annotations = with(annotations, map[string]string{userInfo: info})
		patch = append(patch, operation{"add", "/metadata/annotations", annotations})
	}
	patch = append(patch, operation{"add", "/spec/schedulerName", "yunikorn"})
	if !label {
		return append(patch, operation{"add", "/metadata/annotations", with(pod.Annotations, map[string]string{ignoreApp: "true"})}), nil
	}
	labels := map[string]string{}
	switch canonical := pod.Labels[appID]; {
	case canonical != "":
		labels["applicationId"] = canonical
	case pod.Labels["applicationId"]+pod.Labels["spark-app-selector"]+pod.Annotations[appID] == "":
		labels[appID] = "yunikorn-" + req.Namespace + "-autogen"
		labels["applicationId"] = labels[appID]
	}
	if queue := pod.Labels["yunikorn.apache.org/queue"]; queue != "" {
		labels["queue"] = queue
	}
	return append(patch, operation{"add", "/metadata/labels", with(pod.Labels, labels)},
		operation{"add", "/metadata/annotations", with(annotations, map[string]string{"yunikorn.apache.org/allow-preemption": "true"})}), nil
}

func (y *yunikorn) workload(req *admissionv1.AdmissionRequest) ([]operation, error) {
	if req.Resource.Resource == "replicasets" && systemUsers.MatchString(req.UserInfo.Username) {
		return nil, nil
	}
	var object struct {
		Spec struct {
			Template    v1.PodTemplateSpec
			JobTemplate struct {
				Spec struct{ Template v1.PodTemplateSpec }
			}
		}
	}
	if err := json.Unmarshal(req.Object.Raw, &object); err != nil {
		return nil, err
	}
	template, path := object.Spec.Template, "/spec/template/metadata/annotations"
	if req.Resource.Resource == "cronjobs" {
		template, path = object.Spec.JobTemplate.Spec.Template, "/spec/jobTemplate"+path
	}
	info, err := named(req, template.Annotations)
	if err != nil || info == "" {
		return nil, err
	}
	return []operation{{"add", path, with(template.Annotations, map[string]string{userInfo: info})}}, nil
}

// validate has the scheduler judge, and lets pass what it does not judge.
func (y *yunikorn) validate(ctx context.Context, req *admissionv1.AdmissionRequest) ([]operation, error) {
	var held v1.ConfigMap
	if err := json.Unmarshal(req.Object.Raw, &held); err != nil {
		return nil, err
	}
	if held.Name != "yunikorn-configs" && held.Name != "yunikorn-defaults" || held.Data["queues.yaml"] == "" {
		return nil, nil
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, y.scheduler+"/ws/v1/validate-conf", bytes.NewBufferString(held.Data["queues.yaml"]))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(ask)
	if err != nil {
		return nil, nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var judged struct {
		Allowed bool   `json:"allowed"`
		Reason  string `json:"reason"`
	}
	if json.Unmarshal(body, &judged) == nil && !judged.Allowed {
		return nil, fmt.Errorf("%s", judged.Reason)
	}
	return nil, nil
}
