package application

import (
	"maps"
	"reflect"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Reasons of Events on an object.
const (
	// ReasonInvalid is that of what cannot be read in its spec.
	ReasonInvalid = "InvalidSpec"
	// ReasonTaken says that another object has the same application ID.
	ReasonTaken = "ApplicationIDTaken"
	// ReasonBegun says that a change of its spec does not count yet.
	ReasonBegun = "ApplicationHasBegun"
	// ReasonSkipped says that the object could not be handled at all.
	ReasonSkipped = "ObjectSkipped"
)

func (m *Manager) handler() resources.Handler {
	return resources.Handler{
		Added: func(object *unstructured.Unstructured, initial bool) {
			m.tasks.Do(func() { m.added(object, initial) })
		},
		Changed: func(old, object *unstructured.Unstructured) {
			m.tasks.Do(func() { m.changed(old, object) })
		},
		Deleted: func(object *unstructured.Unstructured) {
			m.tasks.Do(func() { m.deleted(object) })
		},
		Synced: m.settleTold,
		Failed: func(object *unstructured.Unstructured, err error) {
			m.event(object, true, ReasonSkipped, err.Error())
		},
	}
}

// added handles an object that is seen for the first time.
func (m *Manager) added(object *unstructured.Unstructured, initial bool) {
	name, id := nameOf(object), appID(object)
	m.objects[name] = object
	if holder := m.hold(id, name); holder != name {
		m.event(object, true, ReasonTaken, "application "+id+" is that of "+holder+
			"; this object counts when that one is gone")
		return
	}
	m.begin(object, initial)
}

// hold returns the name of the object that an ID stands for: name, unless another was
// first.
func (m *Manager) hold(id, name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if holder := m.holders[id]; holder != "" && holder != name {
		m.rivals[id] = append(m.rivals[id], name)
		return holder
	}
	m.holders[id] = name
	return name
}

// begin reports the application of an object, unless that has ended already, and the
// pods that waited for it. replayed says that a predecessor may have reported it.
func (m *Manager) begin(object *unstructured.Unstructured, replayed bool) {
	id := appID(object)
	app, found := m.metadata(object)
	for _, p := range found {
		m.event(object, true, ReasonInvalid, p.Key+": "+p.Message)
	}
	if !m.leaving[id] && (!replayed || !m.ended(object)) {
		m.deps.Protocol.AddApplication(&protocol.AddApplicationRequest{Metadata: app})
	}
	m.tasks.Known(nameOf(object))
	m.settler.Add(id)
}

// ended reports whether the application of an object has ended, as its status or the
// ledger says. It is not begun anew without a new pod.
func (m *Manager) ended(object *unstructured.Unstructured) bool {
	if managers.Ended(string(statusOf(object).ApplicationState)) {
		return true
	}
	app := m.deps.Protocol.GetApplication(appID(object))
	return app != nil && managers.Ended(app.GetApplicationState())
}

func (m *Manager) changed(old, object *unstructured.Unstructured) {
	name, id := nameOf(object), appID(object)
	m.objects[name] = object
	if m.holder(id) != name {
		return
	}
	if !reflect.DeepEqual(old.Object["spec"], object.Object["spec"]) {
		_, found := m.metadata(object)
		for _, p := range found {
			m.event(object, true, ReasonInvalid, p.Key+": "+p.Message)
		}
		m.event(object, false, ReasonBegun, "the changed spec counts when the application begins anew")
	}
	m.settler.Add(id)
}

func (m *Manager) deleted(object *unstructured.Unstructured) {
	name, id := nameOf(object), appID(object)
	delete(m.objects, name)
	heir, held := m.letGo(id, name)
	if !held {
		return
	}
	m.leave(id)
	if next := m.objects[heir]; next != nil {
		m.begin(next, false)
	}
}

// letGo has an ID stand for the object no more, and returns that which it stands for
// now; held says whether it was this one.
func (m *Manager) letGo(id, name string) (heir string, held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rivals := m.rivals[id]
	if m.holders[id] != name {
		m.rivals[id] = slices.DeleteFunc(rivals, func(rival string) bool { return rival == name })
		return "", false
	}
	delete(m.holders, id)
	delete(m.written, id)
	if len(rivals) == 0 {
		delete(m.rivals, id)
		return "", true
	}
	m.holders[id], m.rivals[id] = rivals[0], rivals[1:]
	return rivals[0], true
}

// leave ends an application whose object is gone: at once if no pod of it lives, else
// it fails, and goes when it has. Only a lead is told when that is, and waits for it.
func (m *Manager) leave(id string) {
	if m.deps.Protocol.RemoveApplication(id) == nil || m.deps.Protocol.GetApplication(id) == nil {
		return
	}
	m.mu.Lock()
	_, leads := m.told[id]
	m.mu.Unlock()
	m.leaving[id] = leads
	m.deps.Protocol.NotifyApplicationFail(id)
}

// metadata returns the application that an object describes, and what cannot be read of
// it. Labels and annotations count as those of a pod do.
func (m *Manager) metadata(object *unstructured.Unstructured) (protocol.ApplicationMetadata, []workload.Problem) {
	like := &v1.Pod{}
	like.Namespace, like.Name, like.UID = object.GetNamespace(), object.GetName(), object.GetUID()
	like.Labels, like.Annotations = object.GetLabels(), object.GetAnnotations()
	like.CreationTimestamp = object.GetCreationTimestamp()
	app, found := workload.ParseApplication(like, m.deps.Cluster.Namespace(like.Namespace), m.deps.UserLabel)
	app.ApplicationID = appID(object)
	for i := range app.OwnerReferences {
		app.OwnerReferences[i].APIVersion, app.OwnerReferences[i].Kind = object.GetAPIVersion(), object.GetKind()
	}
	return app, append(found, readSpec(object, &app)...)
}

func (m *Manager) event(object *unstructured.Unstructured, warning bool, reason, message string) {
	m.deps.Event(v1.ObjectReference{
		APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(),
		Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
	}, warning, reason, message)
}

func nameOf(object *unstructured.Unstructured) string { return cache.MetaObjectToName(object).String() }

// settleTold looks at all applications that have been told: their objects are known now,
// or known to be gone.
func (m *Manager) settleTold() {
	m.mu.Lock()
	ids := slices.Collect(maps.Keys(m.told))
	m.mu.Unlock()
	for _, id := range ids {
		m.settler.Add(id)
	}
}
