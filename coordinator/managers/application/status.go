package application

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// The fields of the status.
const (
	fieldAppID   = "appID"
	fieldState   = "applicationState"
	fieldMessage = "message"
)

const (
	// maxMessage bounds the message, in bytes.
	maxMessage = 1024
	// writeTimeout bounds one attempt to write a status.
	writeTimeout = 10 * time.Second
)

// written is a status that the API server has taken.
type written struct {
	uid     types.UID
	version string // of the object with it
	status  v1alpha1.ApplicationStatus
}

// AppChanged notes what became of an application. It returns at once.
func (m *Manager) AppChanged(status managers.AppStatus) {
	m.mu.Lock()
	m.told[status.ApplicationID] = status
	m.mu.Unlock()
	m.settler.Add(status.ApplicationID)
}

// settle brings an object and its application together, once. An error says that it has
// to be tried again.
func (m *Manager) settle(ctx context.Context, id string) error {
	m.mu.Lock()
	told, known := m.told[id]
	m.mu.Unlock()
	if !known {
		return nil // this replica does not lead, or the application is not known
	}
	var object *unstructured.Unstructured
	m.tasks.Do(func() { object = m.reconcile(told) })
	if told.State == "" {
		m.forget(told)
		return nil
	}
	if object == nil {
		return nil
	}
	return m.write(ctx, object, told)
}

// forget forgets an application that is gone.
func (m *Manager) forget(told managers.AppStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.told[told.ApplicationID] == told {
		delete(m.told, told.ApplicationID)
	}
}

// reconcile returns the object whose status has to say what was told, nil for none, and
// ends an application without one.
func (m *Manager) reconcile(told managers.AppStatus) *unstructured.Unstructured {
	id := told.ApplicationID
	object := m.objects[m.holder(id)]
	ended := told.State == "" || managers.Ended(told.State)
	switch {
	case m.leaving[id] && !ended:
		return nil // what becomes of it is not about an object that came meanwhile
	case m.leaving[id]:
		delete(m.leaving, id)
		if object != nil {
			m.forget(told) // it is about the object before this one
			m.begin(object, false)
			return nil
		}
		m.leave(id)
	case object == nil && m.watch.HasSynced():
		m.leave(id)
	case object != nil && told.State != "":
		return object
	}
	return nil
}

// write writes a status, unless the object has it already.
func (m *Manager) write(ctx context.Context, object *unstructured.Unstructured, told managers.AppStatus) error {
	want := v1alpha1.ApplicationStatus{
		AppID: told.ApplicationID, ApplicationState: shown(told.State), Message: cut(told.Message, maxMessage),
	}
	m.mu.Lock()
	last := m.written[want.AppID]
	m.mu.Unlock()
	has, version := statusOf(object), object.GetResourceVersion()
	if last.uid == object.GetUID() && !newer(version, last.version) {
		// The watch lags behind, or shows what the API server made of it: one with another
		// schema may have taken less.
		has, version = last.status, last.version
	}
	if has == want {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.GetUID(), "resourceVersion": version},
		"status": map[string]any{
			fieldAppID: want.AppID, fieldState: want.ApplicationState, fieldMessage: want.Message,
			"lastUpdate": metav1.NewTime(m.deps.Now()),
		},
	})
	if err != nil {
		return err
	}
	request, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	after, err := m.deps.Writes.Resource(v1alpha1.Resource()).Namespace(object.GetNamespace()).
		Patch(request, object.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case apierrors.IsNotFound(err):
		return nil // it is gone
	case apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		m.deps.Log.Warn("the API server does not take the status of an application", "app", want.AppID, "err", err)
		return nil
	case err != nil:
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written[want.AppID] = written{uid: after.GetUID(), version: after.GetResourceVersion(), status: want}
	return nil
}

// newer reports whether version a of an object is newer than b.
func newer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order > 0
}

// shown returns the state that users are shown for one of the ledger.
func shown(state string) v1alpha1.ApplicationStateType {
	switch state {
	case "Accepted":
		return v1alpha1.AcceptedApplicationState
	case "Reserving", "Resuming":
		return v1alpha1.StartingApplicationState
	case "Running":
		return v1alpha1.RunningApplicationState
	case "Completed":
		return v1alpha1.CompletedApplicationState
	case "Rejected":
		return v1alpha1.RejectedApplicationState
	case "Failing", "Failed":
		return v1alpha1.FailedApplicationState
	case "Killing", "Killed":
		return v1alpha1.KilledApplicationState
	}
	return v1alpha1.NewApplicationState // New, Submitted, Recovering
}

// statusOf returns what the status of an object says, without its time. What is no
// string counts as absent.
func statusOf(object *unstructured.Unstructured) v1alpha1.ApplicationStatus {
	status, _ := object.Object["status"].(map[string]any)
	text := func(field string) string { s, _ := status[field].(string); return s }
	return v1alpha1.ApplicationStatus{
		AppID: text(fieldAppID), ApplicationState: v1alpha1.ApplicationStateType(text(fieldState)), Message: text(fieldMessage),
	}
}

// cut shortens s to at most n bytes without cutting a character in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
