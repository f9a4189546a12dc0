package admission

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

// The paths of YuniKorn's admission controller.
const (
	PathMutate   = "/mutate"
	PathValidate = "/validate-conf"
	PathHealth   = "/health"
)

// maxBody bounds a review: twice the largest object that etcd takes, in JSON.
const maxBody = 16 << 20

// invalidUID is in the answer to a review that cannot be read, as YuniKorn has it.
const invalidUID = "yunikorn-invalid-body"

// answer is what becomes of a request.
type answer struct {
	refusal  string
	patch    patch
	warnings []string
}

// judge makes an answer. An error leaves the decision to another replica.
type judge func(context.Context, *admissionv1.AdmissionRequest) (answer, error)

type handler struct {
	log     *slog.Logger
	judges  map[string]judge // by path
	counted *prometheus.CounterVec
	took    *prometheus.HistogramVec
}

func newHandler(judges map[string]judge, metrics prometheus.Registerer, log *slog.Logger) *handler {
	h := &handler{
		log: log, judges: judges,
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_admission_requests_total", Help: "Reviews that the API server has asked for, by path and outcome.",
		}, []string{"path", "outcome"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "understudy_admission_duration_seconds", Help: "How long a review took in this replica.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
		}, []string{"path"}),
	}
	metrics.MustRegister(h.counted, h.took)
	return h
}

// ServeHTTP answers one review.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == PathHealth {
		_, _ = io.WriteString(w, "OK\r\n")
		return
	}
	judging, ok := h.judges[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	began := time.Now()
	outcome := h.review(w, r, judging)
	h.counted.WithLabelValues(r.URL.Path, outcome).Inc()
	h.took.WithLabelValues(r.URL.Path).Observe(time.Since(began).Seconds())
}

// review reads a review, and writes the answer or why there is none.
func (h *handler) review(w http.ResponseWriter, r *http.Request, judging judge) (outcome string) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		http.Error(w, "invalid Content-Type, expect application/json", http.StatusUnsupportedMediaType)
		return "invalid"
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		http.Error(w, "the review is too large", http.StatusRequestEntityTooLarge)
		return "invalid"
	}
	if err != nil || len(body) == 0 {
		http.Error(w, "empty body", http.StatusBadRequest)
		return "invalid"
	}
	var review admissionv1.AdmissionReview
	if err := kjson.Unmarshal(body, &review); err != nil || review.Request == nil {
		h.write(w, &admissionv1.AdmissionResponse{UID: invalidUID, Result: because("the review cannot be read")})
		return "invalid"
	}
	if version := admissionv1.SchemeGroupVersion.String(); review.APIVersion != version || review.Kind != "AdmissionReview" {
		h.write(w, &admissionv1.AdmissionResponse{UID: invalidUID, Result: because("want an AdmissionReview of " + version)})
		return "invalid"
	}
	a, err := judging(r.Context(), review.Request)
	switch {
	case errors.Is(err, errObject):
		a = answer{refusal: err.Error()}
	case err != nil:
		h.log.Warn("admission: no decision", "path", r.URL.Path, "kind", review.Request.Kind.Kind,
			"namespace", review.Request.Namespace, "name", review.Request.Name, "err", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return "failed"
	}
	return h.answer(w, review.Request, a)
}

func (h *handler) answer(w http.ResponseWriter, req *admissionv1.AdmissionRequest, a answer) (outcome string) {
	response := &admissionv1.AdmissionResponse{UID: req.UID, Allowed: a.refusal == "", Warnings: a.warnings}
	outcome = "allowed"
	if a.refusal != "" {
		response.Result, outcome = because(a.refusal), "refused"
		h.log.Info("admission: refused", "kind", req.Kind.Kind, "namespace", req.Namespace, "name", req.Name,
			"user", req.UserInfo.Username, "why", a.refusal)
	} else if changes, err := a.patch.encode(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return "failed"
	} else if changes != nil {
		kind := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType, outcome = changes, &kind, "patched"
	}
	h.write(w, response)
	return outcome
}

func because(message string) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Message: message, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden}
}

func (h *handler) write(w http.ResponseWriter, response *admissionv1.AdmissionResponse) {
	review := admissionv1.AdmissionReview{Response: response}
	review.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		h.log.Debug("admission: answer not written", "err", err) // who asked is gone
	}
}
