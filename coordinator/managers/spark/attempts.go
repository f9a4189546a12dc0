package spark

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// Reasons of Events on a SparkApplication.
const (
	// ReasonInvalid is that of what cannot be read of it.
	ReasonInvalid = "InvalidField"
	// ReasonCompleted says what the operator's task groups lacked.
	ReasonCompleted = "TaskGroupsCompleted"
	// ReasonLacks says that a pod requests what its task group does not.
	ReasonLacks = "TaskGroupLacksResources"
	// ReasonSkipped says that it could not be handled at all.
	ReasonSkipped = "ObjectSkipped"
)

// end is how an attempt has ended.
type end string

const (
	lives     end = ""
	completed end = "completed"
	failed    end = "failed"
)

// states says for each state of a SparkApplication how the attempt stands that its status
// names. An attempt that was broken off, by a user who suspended or changed it, has
// neither failed nor is it waited for.
var states = map[string]end{
	"":                  lives, // new
	"SUBMITTED":         lives,
	"RUNNING":           lives,
	"UNKNOWN":           lives, // nothing is heard of the driver's node
	"RESUMING":          lives,
	"SUCCEEDING":        completed, // the driver has ended; the operator decides on another attempt
	"COMPLETED":         completed,
	"FAILING":           failed,
	"FAILED":            failed,
	"SUBMISSION_FAILED": failed,
	"PENDING_RERUN":     completed,
	"INVALIDATING":      completed,
	"SUSPENDING":        completed,
	"SUSPENDED":         completed,
}

// maxAttempts is how many attempts are remembered of a SparkApplication, unless more live.
const maxAttempts = 16

// application is a SparkApplication.
type application struct {
	object   *unstructured.Unstructured
	attempts map[string]end // by Spark application ID
}

func (m *Manager) handler() resources.Handler {
	return resources.Handler{
		Added: func(object *unstructured.Unstructured, _ bool) {
			m.tasks.Do(func() { m.added(object) })
		},
		Changed: func(old, object *unstructured.Unstructured) {
			m.tasks.Do(func() { m.changed(old, object) })
		},
		Deleted: func(object *unstructured.Unstructured) {
			m.tasks.Do(func() { m.deleted(object) })
		},
		// Pods whose SparkApplication is not there are what they say themselves.
		Synced: func() { m.tasks.Do(m.tasks.KnownAll) },
		Failed: func(object *unstructured.Unstructured, err error) {
			m.event(object, true, ReasonSkipped, err.Error())
		},
	}
}

func (m *Manager) added(object *unstructured.Unstructured) {
	name := cache.MetaObjectToName(object).String()
	a := &application{object: object, attempts: make(map[string]end)}
	m.apps[name] = a
	for _, p := range check(object) {
		m.event(object, true, ReasonInvalid, p)
	}
	m.follow(a)
	m.tasks.Known(name)
}

func (m *Manager) changed(old, object *unstructured.Unstructured) {
	a := m.apps[cache.MetaObjectToName(object).String()]
	if a == nil { // the manager panicked over it before
		m.added(object)
		return
	}
	a.object = object
	before := check(old)
	for _, p := range check(object) {
		if !slices.Contains(before, p) {
			m.event(object, true, ReasonInvalid, p)
		}
	}
	if was := text(old, fieldID); was != "" && was != text(object, fieldID) {
		// What ended without having been seen to succeed has not.
		m.end(a, was, failed)
	}
	m.follow(a)
}

// follow takes over how the attempt stands that the status names.
func (m *Manager) follow(a *application) {
	id := text(a.object, fieldID)
	if id == "" {
		return
	}
	if _, known := a.attempts[id]; !known {
		a.attempts[id] = lives
		if len(a.attempts) > maxAttempts {
			maps.DeleteFunc(a.attempts, func(other string, how end) bool { return other != id && how != lives })
		}
	}
	m.end(a, id, states[text(a.object, fieldState)])
}

// end ends an attempt that lives.
func (m *Manager) end(a *application, id string, how end) {
	if how == lives || a.attempts[id] != lives {
		return
	}
	a.attempts[id] = how
	m.notify(id, how)
}

func (m *Manager) notify(id string, how end) {
	switch how {
	case completed:
		m.deps.Protocol.NotifyApplicationComplete(id)
	case failed:
		m.deps.Protocol.NotifyApplicationFail(id)
	case lives:
	}
}

// deleted ends the attempts of a SparkApplication that is gone, as YuniKorn's own manager
// does. Its pods go with it.
func (m *Manager) deleted(object *unstructured.Unstructured) {
	name := cache.MetaObjectToName(object).String()
	a := m.apps[name]
	if a == nil {
		return
	}
	delete(m.apps, name)
	for _, id := range slices.Sorted(maps.Keys(a.attempts)) {
		m.end(a, id, completed)
	}
}

// reported takes over that a pod is a task of an attempt.
func (m *Manager) reported(name, appID string, pod *v1.Pod) {
	a := m.apps[name]
	if a == nil {
		return
	}
	if pod.Labels[workload.LabelSparkAppID] == appID {
		how, known := a.attempts[appID]
		if !known {
			a.attempts[appID] = lives
		}
		m.notify(appID, how) // the pod may have begun it anew
	}
	m.compare(a, appID, pod)
}

func (m *Manager) event(object *unstructured.Unstructured, warning bool, reason, message string) {
	m.deps.Event(v1.ObjectReference{
		APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(),
		Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
	}, warning, reason, message)
}
