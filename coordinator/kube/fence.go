package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// FencePolicy is the name of the ValidatingAdmissionPolicy by which the API
// server refuses what was decided in a term that is over, and the beginning of
// the names of those that complete it.
const FencePolicy = "understudy-fence"

// TermRefused reports whether err is the refusal of that policy. The API server
// names the policy in the message and nowhere else.
func TermRefused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) &&
		strings.Contains(status.Status().Message, "ValidatingAdmissionPolicy '"+FencePolicy)
}

// fenceTest is the pod that ProbeFence asks for. It need not exist, and is not
// touched if it does.
const fenceTest = "understudy-fence-test"

// ProbeFence finds out whether the API server enforces the fence, by a dry run of
// a binding that must be refused: of epoch 0, which is before all others. An
// error says that the answer tells neither.
func ProbeFence(ctx context.Context, client kubernetes.Interface, namespace string) (enforced bool, err error) {
	binding := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fenceTest},
		Target:     v1.ObjectReference{Kind: "Node", Name: fenceTest},
	}
	Tenure{Holder: fenceTest, Lease: fenceTest}.sign(&binding.ObjectMeta)
	err = client.CoreV1().Pods(namespace).Bind(ctx, binding, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case TermRefused(err):
		return true, nil
	case err == nil || podIs(err, apierrors.IsNotFound) || podIs(err, apierrors.IsConflict):
		return false, nil // it came as far as the pod
	}
	return false, fmt.Errorf("testing the fence of the API server: %w", err)
}

// podIs tells what was said of a pod from what was said of its namespace.
func podIs(err error, what func(error) bool) bool {
	var status apierrors.APIStatus
	if !what(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && strings.HasPrefix(details.Kind, "pods")
}

// dryRuns is a transport for creations that are not carried out.
type dryRuns struct{ next http.RoundTripper }

var errNoDryRun = errors.New("this client is for dry runs")

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t dryRuns) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper.
func (t dryRuns) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost || !slices.Equal(req.URL.Query()["dryRun"], []string{metav1.DryRunAll}) {
		if req.Body != nil { // a transport closes it in every case
			_ = req.Body.Close()
		}
		return nil, fmt.Errorf("%w: %s %s", errNoDryRun, req.Method, req.URL.Path)
	}
	return t.next.RoundTrip(req)
}
