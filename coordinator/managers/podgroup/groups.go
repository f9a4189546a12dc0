package podgroup

import (
	"math"

	v1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// ReasonSkipped is that of an Event on a PodGroup that could not be handled at all.
const ReasonSkipped = "ObjectSkipped"

// podGroup is what matters of a PodGroup.
type podGroup struct {
	uid    string
	wanted int32
	whole  bool // its status says so
}

// read reads a PodGroup. One with the policy basic is whole with its first pod.
func read(object *unstructured.Unstructured) podGroup {
	count, _, _ := unstructured.NestedInt64(object.Object, "spec", "schedulingPolicy", "gang", "minCount")
	return podGroup{
		uid: string(object.GetUID()), wanted: int32(max(1, min(count, math.MaxInt32))),
		whole: apimeta.IsStatusConditionTrue(conditions(object), schedulingv1beta1.PodGroupInitiallyScheduled),
	}
}

// trim leaves of a PodGroup what the manager reads.
func trim(object *unstructured.Unstructured) {
	policy, _, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "schedulingPolicy")
	status, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status", "conditions")
	object.Object["spec"] = map[string]any{"schedulingPolicy": policy}
	object.Object["status"] = map[string]any{"conditions": status}
}

func (m *Manager) handler() resources.Handler {
	return resources.Handler{
		Added: func(object *unstructured.Unstructured, _ bool) {
			m.tasks.Do(func() { m.seen(object) })
		},
		Changed: func(_, object *unstructured.Unstructured) {
			m.tasks.Do(func() { m.seen(object) })
		},
		Deleted: func(object *unstructured.Unstructured) {
			m.tasks.Do(func() { m.gone(cache.MetaObjectToName(object).String()) })
		},
		Synced: func() { m.tasks.Do(m.tasks.KnownAll) },
		Failed: func(object *unstructured.Unstructured, err error) {
			m.deps.Event(v1.ObjectReference{
				APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(),
				Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
			}, true, ReasonSkipped, err.Error())
		},
	}
}

// seen takes over what a PodGroup says.
func (m *Manager) seen(object *unstructured.Unstructured) {
	name, now := cache.MetaObjectToName(object).String(), read(object)
	was, known := m.objects[name]
	m.objects[name] = now
	if !known || was != now {
		m.report(name)
	}
	m.settler.Add(name)
}

func (m *Manager) gone(name string) {
	delete(m.objects, name)
	m.report(name)
}

// report says how a group is, if there are pods of it.
func (m *Manager) report(name string) {
	if of := m.known[name]; of != nil {
		m.setGroup(name, of.app)
	}
}

func (m *Manager) setGroup(name, app string) {
	group := m.objects[name] // The zero value says that it does not exist.
	m.groups.SetGroup(app, managers.Group{Name: name, UID: group.uid, Wanted: group.wanted, Whole: group.whole})
}

// groupOf returns the PodGroup that a pod names, by namespace and name, empty for none.
func groupOf(pod *v1.Pod) string {
	if of := pod.Spec.SchedulingGroup; of != nil && of.PodGroupName != nil && *of.PodGroupName != "" {
		return cache.ObjectName{Namespace: pod.Namespace, Name: *of.PodGroupName}.String()
	}
	return ""
}

// owner is what the tasks ask.
type owner struct{ m *Manager }

func (o owner) Names(pod *v1.Pod) string { return groupOf(pod) }

func (o owner) Group(pod *v1.Pod) string { return groupOf(pod) }

// Describe returns the application of a pod once all PodGroups are known: one that is not
// is a group that does not exist.
func (o owner) Describe(name string, pod *v1.Pod) (protocol.ApplicationMetadata, bool) {
	if !o.m.watch.HasSynced() {
		return protocol.ApplicationMetadata{}, false
	}
	app, _ := workload.ParseApplication(pod, o.m.deps.Cluster.Namespace(pod.Namespace), o.m.deps.UserLabel)
	app.TaskGroups = nil // Two kinds of gangs at once would wait for each other.
	if of := o.m.known[name]; of != nil {
		app.ApplicationID = of.app
	} else if workload.NamedAppID(pod) == "" {
		app.ApplicationID = madeFor(pod)
	}
	return app, true
}

// madeFor is the ID of the application that is made for the group of a pod. The namespace
// ends with the first dot.
func madeFor(pod *v1.Pod) string {
	return "podgroup-" + pod.Namespace + "." + *pod.Spec.SchedulingGroup.PodGroupName
}

// Reports says how the group is before the pod is a task of it.
func (o owner) Reports(name, app string) { o.m.setGroup(name, app) }

func (o owner) Reported(name, app string, pod *v1.Pod) {
	of := o.m.known[name]
	if of == nil {
		of = &membership{app: app}
		o.m.known[name] = of
	}
	of.pods++
	if named := workload.NamedAppID(pod); named != "" && named != app && pod.Spec.NodeName == "" {
		o.m.deps.Problems(pod, []workload.Problem{{
			Key: workload.KeyAppID, Message: "is ignored: the pods of its PodGroup are those of application " + app,
		}})
	}
}

func (o owner) Left(name string) {
	of := o.m.known[name]
	if of == nil {
		return
	}
	if of.pods--; of.pods == 0 {
		delete(o.m.known, name)
	}
}
