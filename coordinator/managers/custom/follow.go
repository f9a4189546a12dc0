package custom

import (
	"maps"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// objectHandler is what the watch of the objects calls.
func (m *Manager) objectHandler() resources.Handler {
	return resources.Handler{
		Added: func(object *unstructured.Unstructured, _ bool) { m.seen(object) },
		Changed: func(old, object *unstructured.Unstructured) {
			if !same(old, object) {
				m.seen(object)
			}
		},
		Deleted: func(object *unstructured.Unstructured) {
			key := keyOf(object)
			m.handleNow(func() []call {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.told, key)
				calls := m.book.gone(key)
				m.lookAgain()
				return calls
			})
		},
		Synced: func() {
			m.syncedOnce.Do(func() { close(m.synced) })
			m.mu.Lock()
			m.removeOrphans()
			m.mu.Unlock()
			m.checkSchema()
		},
		Failed: func(object *unstructured.Unstructured, err error) {
			m.event(object, ReasonSkipped, err.Error())
		},
	}
}

// same reports whether nothing has changed that expressions read.
func same(old, object *unstructured.Unstructured) bool {
	before := maps.Clone(old.Object)
	if metadata, ok := before["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		metadata["resourceVersion"] = object.GetResourceVersion()
		before["metadata"] = metadata
	}
	return reflect.DeepEqual(before, object.Object)
}

// seen evaluates an object.
func (m *Manager) seen(object *unstructured.Unstructured) {
	key := keyOf(object)
	said, err := m.program.Evaluate(object, Surroundings{
		SchedulerName: m.deps.SchedulerName, UserLabel: m.deps.UserLabel, Namespace: m.deps.Cluster.Namespace(key.Namespace),
	})
	switch {
	case err != nil:
		m.tell(key, object, ReasonNotEvaluated, err.Error())
	case len(said.Warnings) > 0:
		m.tell(key, object, ReasonLeftOut, strings.Join(said.Warnings, "; "))
	}
	// Where the pods are another's, the application would have none.
	said.Scheduled = said.Scheduled && m.deps.Claimed(said.Pod) == ""
	m.handleNow(func() []call {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil {
			m.book.exists(key, object.GetUID())
			return nil
		}
		calls := m.book.evaluated(key, object.GetUID(), said, m.group)
		m.lookAgain()
		return calls
	})
}

// lookAgain is called when an object that could not be read can be or is gone. m.mu is held.
func (m *Manager) lookAgain() {
	if m.unsure {
		m.removeOrphans()
	}
}

// tell tells the user of an object what is new to tell.
func (m *Manager) tell(key types.NamespacedName, object *unstructured.Unstructured, reason, message string) {
	m.mu.Lock()
	said := m.told[key] == message
	m.told[key] = message
	m.mu.Unlock()
	if said {
		return
	}
	m.log.Warn("an object does not say all that it should", "object", key.String(), "reason", reason, "message", message)
	m.event(object, reason, message)
}

func (m *Manager) event(object *unstructured.Unstructured, reason, message string) {
	m.deps.Event(v1.ObjectReference{
		APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(),
		Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
	}, true, reason, message)
}

// checkSchema compares the definition with the schema that the API server has of its
// objects. What does not fit is said, and fails object by object.
func (m *Manager) checkSchema() {
	if !m.watch.Status().Present {
		return
	}
	schema, err := m.schemaOf(m.program.definition.kind().gvk())
	if err != nil {
		m.log.Warn("the schema of the objects is not known; the definition is not checked against it", "err", err)
		return
	}
	mismatch := ""
	if _, err := Compile(m.deps.Name, m.program.definition, schema); err != nil {
		mismatch = err.Error()
		m.log.Error("the definition does not fit the objects that the API server has", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mismatch = mismatch
}

func keyOf(object *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}

// podHandler is what the pod informer calls. It is a type of its own so that the methods
// are not part of Manager.
type podHandler struct{ m *Manager }

func (h podHandler) OnAdd(obj any, initial bool) {
	if pod, ok := obj.(*v1.Pod); ok {
		h.m.pod(pod, initial)
	}
}

func (h podHandler) OnUpdate(before, after any) {
	old, okOld := before.(*v1.Pod)
	pod, ok := after.(*v1.Pod)
	switch {
	case !ok || !okOld:
	case old.UID != pod.UID: // another pod took the name between two listings
		h.m.podGone(old)
		h.m.pod(pod, false)
	default:
		h.m.pod(pod, false)
	}
}

// OnDelete also gets a DeletedFinalStateUnknown: the deletion was missed, and noticed by a
// new listing.
func (h podHandler) OnDelete(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	if pod, ok := obj.(*v1.Pod); ok {
		h.m.podGone(pod)
	}
}

// pod handles a version of a pod. initial says that it existed before the manager did.
func (m *Manager) pod(pod *v1.Pod, initial bool) {
	if pod.Spec.SchedulerName != m.deps.SchedulerName {
		return
	}
	// Before all objects are known, each pod would have to be asked about.
	select {
	case <-m.synced:
	case <-m.stop:
		return
	}
	m.handleNow(func() []call {
		if m.owner(pod.UID) != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.book.changed(m.book.tasks[pod.UID], pod)
		}
		if holds := m.placeholderOf(pod); holds != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.book.placeholder(holds, pod, m.group(pod, holds))
		}
		key, ok := m.find(pod)
		if !ok || m.deps.Claimed(pod) != "" {
			return nil
		}
		if _, problems := workload.ParseTask(pod); len(problems) > 0 && pod.Spec.NodeName == "" && !m.waits(pod.UID) {
			m.deps.Problems(pod, problems)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.book.pod(key, pod, m.group, initial)
	})
}

func (m *Manager) waits(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.book.waitsFor[uid]
	return ok
}

// placeholderOf returns the application that a pod holds a place for, nil if it is not one
// of this manager's.
func (m *Manager) placeholderOf(pod *v1.Pod) *app {
	meta, _ := workload.ParseTask(pod)
	if !meta.Placeholder {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.book.apps[meta.ApplicationID]
}

func (m *Manager) podGone(pod *v1.Pod) {
	m.handleNow(func() []call {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.book.deleted(pod)
	})
}
