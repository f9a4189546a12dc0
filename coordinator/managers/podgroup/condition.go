package podgroup

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
)

// reasonScheduled is what kube-scheduler gives for a group that has been whole.
const reasonScheduled = "Scheduled"

// writeTimeout bounds one attempt to write a condition.
const writeTimeout = 10 * time.Second

// GroupsChanged notes what became of the groups of an application. It returns at once.
func (m *Manager) GroupsChanged(app string, groups []managers.GroupStatus) {
	m.mu.Lock()
	old := m.names[app]
	delete(m.names, app)
	for _, name := range old {
		delete(m.told, name)
	}
	for _, group := range groups {
		m.told[group.Name] = group
		m.names[app] = append(m.names[app], group.Name)
	}
	names := slices.Clone(m.names[app])
	m.mu.Unlock()
	for _, name := range names {
		m.settler.Add(name)
	}
}

// settle writes the condition of a group, unless the object has it already. The version of
// the object is a precondition, so that nothing newer is overwritten. An error says that it
// has to be tried again.
func (m *Manager) settle(ctx context.Context, name string) error {
	m.mu.Lock()
	told, known := m.told[name]
	m.mu.Unlock()
	at, err := cache.ParseObjectName(name)
	if err != nil || !known {
		return nil // this replica does not lead, or there are no pods of it
	}
	object := m.watch.Get(at.Namespace, at.Name)
	if object == nil || string(object.GetUID()) != told.UID {
		return nil
	}
	all := conditions(object)
	if !m.change(&all, told, object.GetGeneration()) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.GetUID(), "resourceVersion": object.GetResourceVersion()},
		"status":   map[string]any{"conditions": all},
	})
	if err != nil {
		return err
	}
	request, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = m.deps.Writes.Resource(m.watch.Status().Resource).Namespace(at.Namespace).
		Patch(request, at.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil // it is gone
	case apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		m.deps.Log.Warn("the API server does not take the condition of a PodGroup", "podgroup", name, "err", err)
		return nil
	}
	return err
}

// change brings the condition in agreement with what was told, and reports whether that
// changes anything. True stays.
func (m *Manager) change(all *[]metav1.Condition, told managers.GroupStatus, generation int64) bool {
	want := metav1.Condition{
		Type: schedulingv1beta1.PodGroupInitiallyScheduled, Status: metav1.ConditionFalse,
		Reason: told.Reason, Message: told.Message,
		ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(m.deps.Now()),
	}
	switch {
	case apimeta.IsStatusConditionTrue(*all, want.Type):
		return false
	case told.Whole:
		want.Status, want.Reason, want.Message = metav1.ConditionTrue, reasonScheduled, ""
	case told.Reason == "":
		return false
	}
	return apimeta.SetStatusCondition(all, want)
}

// conditions returns a copy of those of an object; what cannot be read counts as none.
func conditions(object *unstructured.Unstructured) []metav1.Condition {
	var read struct {
		Conditions []metav1.Condition `json:"conditions"`
	}
	status, _ := object.Object["status"].(map[string]any)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(status, &read); err != nil {
		return nil
	}
	return read.Conditions
}
