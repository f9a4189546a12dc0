package admission

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

func documents(t *testing.T, data []byte) (objects []any) {
	t.Helper()
	for part := range strings.SplitSeq("\n"+string(data), "\n---") {
		var object any
		if err := yaml.Unmarshal([]byte(part), &object); err != nil {
			t.Fatal(err)
		}
		if object != nil {
			objects = append(objects, object)
		}
	}
	return objects
}

const own = "understudy-system"

func configMap(name string, data set) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: own}, Data: data}
}

// answering is a service that has read ConfigMaps.
func answering(facts Facts, held ...*v1.ConfigMap) *Service {
	names := []string{"yunikorn-defaults", "yunikorn-configs"}
	s := New(Config{SchedulerName: "yunikorn", Workloads: append(BuiltIn(), Custom()...), ConfigMaps: names, Namespace: own}, facts, nil, nil, nil, nil,
		prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	for len(held) < len(names) {
		held = append(held, nil)
	}
	read, _ := ReadSettings(nil)
	s.current.Store(&configuration{settings: read, maps: Maps{Names: names, Held: held}})
	return s
}

func post(t *testing.T, h http.Handler, path, contentType string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, req)
	return recorder
}

func reviewOf(t *testing.T, req *admissionv1.AdmissionRequest) []byte {
	t.Helper()
	review := admissionv1.AdmissionReview{Request: req}
	review.APIVersion, review.Kind = "admission.k8s.io/v1", "AdmissionReview"
	data, err := json.Marshal(review)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func responseIn(t *testing.T, recorder *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(recorder.Body.Bytes(), &review); err != nil || recorder.Code != http.StatusOK || review.Response == nil ||
		review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" {
		t.Fatalf("%d %s: %v", recorder.Code, recorder.Body, err)
	}
	return review.Response
}

func TestProtocol(t *testing.T) {
	s := answering(known{})
	good := reviewOf(t, requestFor(t, "pods", podOf(nil, nil, nil), nil))
	for _, c := range []struct {
		name, path, contentType string
		body                    []byte
		status                  int
	}{
		{"health", PathHealth, "", nil, 200},
		{"elsewhere", "/other", "application/json", good, 404},
		{"YAML", PathMutate, "application/yaml", good, 415},
		{"with a charset", PathMutate, "application/json; charset=utf-8", good, 200},
		{"empty", PathMutate, "application/json", nil, 400},
		{"oversized", PathMutate, "application/json", bytes.Repeat([]byte(" "), maxBody+1), 413},
	} {
		if got := post(t, s.Handler(), c.path, c.contentType, c.body); got.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, got.Code, got.Body, c.status)
		}
	}
	for name, body := range map[string]string{
		"no JSON": "{", "no request": `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`,
		"old version": strings.Replace(string(good), "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), "list": "[]", "null": "null",
	} {
		r := responseIn(t, post(t, s.Handler(), PathMutate, "application/json", []byte(body)))
		if r.Allowed || r.UID != "yunikorn-invalid-body" || r.Patch != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	r := responseIn(t, post(t, s.Handler(), PathMutate, "application/json", good))
	if !r.Allowed || r.UID != "1" || r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch || len(r.Patch) == 0 {
		t.Errorf("%+v", r)
	}
	var counted dto.Metric
	if err := s.handler.counted.WithLabelValues(PathMutate, "patched").Write(&counted); err != nil || counted.GetCounter().GetValue() != 2 {
		t.Errorf("%v patched, %v", counted.GetCounter().GetValue(), err)
	}
	for _, malformed := range []string{
		`{"metadata":{"labels":7},"spec":{}}`, `{"metadata":{}}`, `{"spec":{}}`, `{"metadata":null,"spec":{}}`, `[]`, `null`, `{"metadata":{"annotations":{"a":{}}},"spec":{}}`,
	} {
		req := requestFor(t, "pods", json.RawMessage(malformed), nil)
		if r := responseIn(t, post(t, s.Handler(), PathMutate, "application/json", reviewOf(t, req))); r.Allowed || r.UID != "1" || !strings.Contains(r.Result.Message, "cannot be read") {
			t.Errorf("%s: %+v", malformed, r)
		}
	}
	// A key that is there twice means what it means to whoever applies the patch.
	twice := `{"metadata":{"labels":{"a":"b"},"annotations":{"` + userKey + `":"{}"}},"metadata":{"name":"x"},"spec":{},"spec":{}}`
	req := requestFor(t, "pods", podOf(nil, nil, nil), nil)
	req.Object.Raw = []byte(twice)
	body := strings.Replace(string(good), string(requestFor(t, "pods", podOf(nil, nil, nil), nil).Object.Raw), twice, 1)
	r = responseIn(t, post(t, s.Handler(), PathMutate, "application/json", []byte(body)))
	var operations []Operation
	if err := json.Unmarshal(r.Patch, &operations); err != nil || !r.Allowed {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := inMap(patched(t, req, Decision{Patch: operations}), "metadata", "annotations")[userKey]; got != annInfo {
		t.Errorf("user.info %s", got)
	}
}

// The API server goes on to another replica.
func TestAReplicaThatDoesNotKnowDoesNotDecide(t *testing.T) {
	body := reviewOf(t, requestFor(t, "pods", podOf(nil, nil, nil), nil))
	if got := post(t, answering(known{err: io.ErrUnexpectedEOF}).Handler(), PathMutate, "application/json", body); got.Code != http.StatusServiceUnavailable {
		t.Errorf("without facts: %d", got.Code)
	}
	s := answering(known{})
	s.current.Store(nil)
	for _, path := range []string{PathMutate, PathValidate} {
		if got := post(t, s.Handler(), path, "application/json", body); got.Code != http.StatusServiceUnavailable {
			t.Errorf("%s without a configuration: %d", path, got.Code)
		}
	}
}

func TestConfigMaps(t *testing.T) {
	const queues = "partitions:\n- name: default\n  queues:\n  - name: root\n"
	for _, c := range []struct {
		name     string
		held     []*v1.ConfigMap
		pending  *v1.ConfigMap
		refusal  []string
		warnings []string
	}{
		{name: "good", pending: configMap("yunikorn-configs", set{"queues.yaml": queues, "log.level": "INFO"})},
		{name: "unknown field", pending: configMap("yunikorn-configs", set{"queues.yaml": queues + "    colour: red\n"}), refusal: []string{"yunikorn-configs", "queues.yaml", "line 5", "colour"}},
		{name: "no YAML", pending: configMap("yunikorn-configs", set{"queues.yaml": "partitions: [\n"}), refusal: []string{"queues.yaml", "line"}},
		{name: "twice the same queue", pending: configMap("yunikorn-configs", set{"queues.yaml": queues + "    queues:\n    - name: a\n    - name: A\n"}), refusal: []string{"queues.yaml", "a"}},
		{name: "another key", pending: configMap("yunikorn-configs", set{"event.trackingEnabled": "perhaps"}), refusal: []string{"event.trackingEnabled", "perhaps"}},
		{name: "gzip of another", pending: &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "yunikorn-configs"}, BinaryData: map[string][]byte{"queues.yaml.gz": []byte("none")}}, refusal: []string{"queues.yaml.gz", "gzip"}},
		{name: "somebody else's", pending: configMap("coredns", set{"queues.yaml": "{"})},
		{name: "bad under good", held: []*v1.ConfigMap{nil, configMap("yunikorn-configs", set{"queues.yaml": queues})}, pending: configMap("yunikorn-defaults", set{"queues.yaml": "{"})},
		{name: "good over bad", held: []*v1.ConfigMap{configMap("yunikorn-defaults", set{"queues.yaml": "{"})}, pending: configMap("yunikorn-configs", set{"queues.yaml": queues})},
		{name: "one of two mended", held: []*v1.ConfigMap{configMap("yunikorn-defaults", set{"event.maxStreams": "x"}), configMap("yunikorn-configs", set{"queues.yaml": "{"})},
			pending: configMap("yunikorn-configs", set{"queues.yaml": queues})},
		{name: "worse in the other", held: []*v1.ConfigMap{configMap("yunikorn-defaults", set{"night.yaml": "{"})}, pending: configMap("yunikorn-configs", set{"service.policyGroup": "night"}),
			refusal: []string{"yunikorn-defaults", "night.yaml"}},
		{name: "the scheduler's", pending: configMap("yunikorn-configs", set{"service.placeholderRunAsUser": "root"}), refusal: []string{"service.placeholderRunAsUser", "root"}},
		{name: "expression", pending: configMap("yunikorn-configs", set{keyBypass: "("}), warnings: []string{keyBypass}},
		{name: "misspelt", pending: configMap("yunikorn-configs", set{"service.placeholderimage": "x", "nothing.like.it": "x"}),
			warnings: []string{"nothing.like.it: no such key", "did you mean service.placeholderImage?"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := requestFor(t, "configmaps", c.pending, nil)
			r := responseIn(t, post(t, answering(known{}, c.held...).Handler(), PathValidate, "application/json", reviewOf(t, req)))
			if r.Allowed != (c.refusal == nil) || len(r.Warnings) != len(c.warnings) {
				t.Fatalf("%+v", r)
			}
			for _, part := range c.refusal {
				if !strings.Contains(r.Result.Message, part) {
					t.Errorf("%q does not name %s", r.Result.Message, part)
				}
			}
			for i, part := range c.warnings {
				if !strings.Contains(r.Warnings[i], part) {
					t.Errorf("%q does not name %s", r.Warnings[i], part)
				}
			}
		})
	}
}

// FuzzReview sends what nobody should: the answer is well-formed, and what is patched can be.
func FuzzReview(f *testing.F) {
	t := &testing.T{}
	for _, req := range []*admissionv1.AdmissionRequest{
		requestFor(t, "pods", podOf(set{"a": "b"}, set{userKey: annInfo}, nil), nil),
		requestFor(t, "pods", podOf(nil, set{userKey: bobInfo}, nil), podOf(nil, nil, nil)),
		requestFor(t, "apps/deployments", templated([]string{"spec", "template"}, nil), templated([]string{"spec", "template"}, annotated(set{userKey: bobInfo}))),
		requestFor(t, "configmaps", configMap("yunikorn-configs", set{"queues.yaml": "{"}), nil),
	} {
		f.Add(reviewOf(t, req))
	}
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","uid":"2","resource":{"resource":"pods"},"operation":"CREATE","object":{"metadata":{"annotations":null,"annotations":{"` + userKey + `":"{}"}}}}}`))
	s := answering(known{})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{PathMutate, PathValidate} {
			recorder := post(t, s.Handler(), path, "application/json", body)
			if recorder.Code == http.StatusBadRequest && len(body) == 0 {
				continue
			}
			r := responseIn(t, recorder)
			if !r.Allowed && (r.Patch != nil || r.Result == nil || r.Result.Message == "") {
				t.Fatalf("%+v", r)
			}
			if r.Patch != nil {
				var review admissionv1.AdmissionReview
				if err := kjson.Unmarshal(body, &review); err != nil {
					t.Fatal(err)
				}
				var operations []Operation
				if err := json.Unmarshal(r.Patch, &operations); err != nil {
					t.Fatal(err)
				}
				patched(t, review.Request, Decision{Patch: operations})
			}
		}
	})
}
