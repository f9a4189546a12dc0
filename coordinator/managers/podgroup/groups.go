package podgroup

import (
	"math"
	"slices"
	"strings"

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

// Reasons of Events on a PodGroup.
const (
	// ReasonSkipped says that it could not be handled at all.
	ReasonSkipped = "ObjectSkipped"
	// ReasonNotHonored says that something in it does not count.
	ReasonNotHonored = "NotHonored"
)

// podGroup is what matters of a PodGroup.
type podGroup struct {
	uid    string
	wanted int32
	whole  bool // its status says so
	// priority counts if it is ranked, else that of each pod does.
	priority         int32
	ranked           bool
	yields, together bool
}

// read reads a PodGroup. One with the policy basic is whole with its first pod.
func read(object *unstructured.Unstructured) podGroup {
	spec, _ := object.Object["spec"].(map[string]any)
	count, _, _ := unstructured.NestedInt64(spec, "schedulingPolicy", "gang", "minCount")
	priority, ranked, _ := unstructured.NestedInt64(spec, "priority")
	_, together, _ := unstructured.NestedFieldNoCopy(spec, "disruptionMode", "all")
	return podGroup{
		uid: string(object.GetUID()), wanted: int32(max(1, min(count, math.MaxInt32))),
		whole:    apimeta.IsStatusConditionTrue(conditions(object), schedulingv1beta1.PodGroupInitiallyScheduled),
		priority: int32(max(math.MinInt32, min(priority, math.MaxInt32))), ranked: ranked,
		yields: spec["preemptionPolicy"] == string(schedulingv1beta1.PreemptNever), together: together,
	}
}

// Fields of the spec that say something which the scheduling core knows nothing of.
var notCarried = []string{"schedulingConstraints", "resourceClaims", "parentCompositePodGroupName"}

// trim leaves of a PodGroup what the manager reads.
func trim(object *unstructured.Unstructured) {
	spec, _ := object.Object["spec"].(map[string]any)
	kept := make(map[string]any)
	for _, field := range slices.Concat([]string{"schedulingPolicy", "priority", "preemptionPolicy", "disruptionMode"}, notCarried) {
		if value, there := spec[field]; there {
			kept[field] = value
		}
	}
	status, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status", "conditions")
	object.Object["spec"] = kept
	object.Object["status"] = map[string]any{"conditions": status}
}

// warn tells the user of a PodGroup what in it does not count. All of it is immutable, and
// the Event is the same whoever tells it.
func (m *Manager) warn(object *unstructured.Unstructured) {
	spec, _ := object.Object["spec"].(map[string]any)
	var there []string
	for _, field := range notCarried {
		if value := spec[field]; value != nil && value != "" {
			there = append(there, "spec."+field)
		}
	}
	if len(there) > 0 {
		m.event(object, ReasonNotHonored, strings.Join(there, ", ")+" does not count: its pods are placed as if it were not there")
	}
}

func (m *Manager) event(object *unstructured.Unstructured, reason, message string) {
	m.deps.Event(v1.ObjectReference{
		APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(),
		Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
	}, true, reason, message)
}

func (m *Manager) handler() resources.Handler {
	return resources.Handler{
		Added: func(object *unstructured.Unstructured, _ bool) {
			m.warn(object)
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
			m.event(object, ReasonSkipped, err.Error())
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
	set := managers.Group{
		Name: name, UID: group.uid, Wanted: group.wanted, Whole: group.whole, Yields: group.yields, Together: group.together,
	}
	if group.ranked {
		set.Priority = &group.priority
	}
	m.groups.SetGroup(app, set)
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
