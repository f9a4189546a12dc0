package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// The reasons of Events on the pod of a replica: its process has ended, or what it counts is wrong.
const (
	// ReasonCrashed is for a process that ended in error or by a signal.
	ReasonCrashed = "ReplicaCrashed"
	// ReasonHung is for one that was ended because it did not get on.
	ReasonHung = "ReplicaHung"
	// ReasonDrift is for accounts of a lead that do not agree with the pods.
	ReasonDrift = "AccountingDrift"
)

// OwnPod is the pod of this replica, nil if it has none or that is not known yet.
func (c *Cluster) OwnPod() *v1.Pod {
	if c.cfg.PodName == "" {
		return nil
	}
	pod, _ := lookUp[*v1.Pod](c.pods, c.cfg.Namespace+"/"+c.cfg.PodName)
	return pod
}

// Unmark takes the mark of a lead off the own pod: see Barrier. It is called when this
// replica does not lead, and by nobody else meanwhile.
func (c *Cluster) Unmark(ctx context.Context, own kubernetes.Interface) error {
	if c.cfg.PodName == "" {
		return nil
	}
	err := c.unmark(ctx, own, metav1.ObjectMeta{Name: c.cfg.PodName})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Marked reports whether the own pod is marked as that of the lead, as far as is known.
func (c *Cluster) Marked() bool {
	pod := c.OwnPod()
	return pod != nil && pod.Labels[RoleLabel] == RoleLead
}

// UnmarkOthers takes the mark off pods of other replicas that led in an older epoch, and
// reports whether none was found to have it: what is known of them lags behind.
func (c *Cluster) UnmarkOthers(ctx context.Context, writes kubernetes.Interface, epoch uint64) (none bool, err error) {
	selector := labels.SelectorFromSet(labels.Set{RoleLabel: RoleLead})
	pods, err := corelisters.NewPodLister(c.pods.GetIndexer()).Pods(c.cfg.Namespace).List(selector)
	if err != nil {
		return false, fmt.Errorf("pods with the mark of a lead: %w", err)
	}
	none = true
	for _, pod := range pods {
		marked, _ := strconv.ParseUint(pod.Annotations[EpochAnnotation], 10, 64)
		if pod.Name == c.cfg.PodName || marked >= epoch {
			continue // a newer lead may be at work already
		}
		none = false
		// Only as it is known: it may come to lead meanwhile.
		only := metav1.ObjectMeta{Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
		if e := c.unmark(ctx, writes, only); e != nil && !apierrors.IsNotFound(e) && !apierrors.IsConflict(e) {
			err = errors.Join(err, e)
		}
	}
	return none, err
}

func (c *Cluster) unmark(ctx context.Context, client kubernetes.Interface, pod metav1.ObjectMeta) error {
	meta := map[string]any{"labels": map[string]any{RoleLabel: nil}}
	if pod.ResourceVersion != "" {
		meta["resourceVersion"], meta["uid"] = pod.ResourceVersion, pod.UID
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = client.CoreV1().Pods(c.cfg.Namespace).Patch(request, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("taking the mark of a lead off %s/%s: %w", c.cfg.Namespace, pod.Name, err)
	}
	return nil
}

// ownOnly is a transport for what a replica says of itself, whether it leads or not:
// patches of its own pod, and Events.
type ownOnly struct {
	next           http.RoundTripper
	namespace, pod string
}

var errNotOwn = errors.New("this client is for the own pod")

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t ownOnly) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper.
func (t ownOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	within := "/api/v1/namespaces/" + t.namespace
	switch req.Method + " " + req.URL.Path {
	case http.MethodPatch + " " + within + "/pods/" + t.pod, http.MethodPost + " " + within + "/events":
		return t.next.RoundTrip(req)
	}
	if req.Body != nil { // a transport closes it in every case
		_ = req.Body.Close()
	}
	return nil, fmt.Errorf("%w: %s %s", errNotOwn, req.Method, req.URL.Path)
}
