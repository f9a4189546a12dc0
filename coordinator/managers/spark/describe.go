package spark

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// owner is what the tasks ask.
type owner struct{ m *Manager }

func (o owner) Names(pod *v1.Pod) string { return named(pod) }

func (o owner) Reported(name, appID string, pod *v1.Pod) { o.m.reported(name, appID, pod) }

func (o owner) Describe(name string, pod *v1.Pod) (protocol.ApplicationMetadata, bool) {
	m := o.m
	a := m.apps[name]
	if a == nil {
		// Its SparkApplication may yet be listed; if not, the pod says what it is.
		app, _ := workload.ParseApplication(pod, m.deps.Cluster.Namespace(pod.Namespace), m.deps.UserLabel)
		app.ApplicationID = m.appID(nil, pod)
		return app, m.watch.HasSynced()
	}
	id := m.appID(a, pod)
	if a.attempts[id] != lives && pod.Spec.NodeName == "" {
		return protocol.ApplicationMetadata{}, false // the attempt is over: it gets no place
	}
	app, _ := m.describe(a, id, pod)
	return app, true
}

// appID returns the application of a pod. Spark labels its pods; one without the label
// belongs to what the status names, else to the submission.
func (m *Manager) appID(a *application, pod *v1.Pod) string {
	if id := workload.NamedAppID(pod); id != "" {
		return id
	}
	if a != nil {
		if id := text(a.object, fieldID); id != "" {
			return id
		}
	}
	id := pod.Namespace + "-" + pod.Labels[labelName]
	if submission := pod.Labels[labelSubmission]; submission != "" {
		id += "-" + submission
	}
	return id
}

// describe returns the application of an attempt, as the driver's pod and its
// SparkApplication say, and what its task groups lacked.
func (m *Manager) describe(a *application, id string, pod *v1.Pod) (app protocol.ApplicationMetadata, lacked []string) {
	driver := m.driver(a, id, pod)
	app, _ = workload.ParseApplication(driver, m.deps.Cluster.Namespace(pod.Namespace), m.deps.UserLabel)
	app.ApplicationID = id
	app.QueueName = cmp.Or(app.QueueName, text(a.object, fieldQueue))
	if app.User == workload.DefaultUser {
		app.User = cmp.Or(text(a.object, fieldUser), app.User)
	}
	own := strings.TrimSpace(driver.Annotations[workload.AnnotationTaskGroupName])
	for i := range app.TaskGroups {
		g := &app.TaskGroups[i]
		var more v1.ResourceList
		switch g.Name {
		case own:
			more = beyond(requests.Of(driver))
		case groupExecutor:
			more = executorRequests(a.object)
		}
		lacked = append(lacked, complete(g, more)...)
		annotations := maps.Clone(g.Annotations)
		if annotations == nil {
			annotations = make(map[string]string, 1)
		}
		annotations[AnnotationName] = a.object.GetName()
		g.Annotations = annotations
	}
	if len(lacked) > 0 { // placeholders carry them, from which the gang can be told
		if data, err := json.Marshal(app.TaskGroups); err == nil {
			app.Tags[workload.AnnotationTaskGroups] = string(data)
		}
	}
	return app, lacked
}

// driver returns the driver's pod of an attempt, or where it is gone the pod itself.
func (m *Manager) driver(a *application, id string, pod *v1.Pod) *v1.Pod {
	if pod.Labels[labelRole] == roleDriver {
		return pod
	}
	key := cache.ObjectName{
		Namespace: pod.Namespace, Name: cmp.Or(text(a.object, fieldDriver), a.object.GetName()+"-driver"),
	}.String()
	found, _, err := m.deps.Cluster.PodInformer().GetStore().GetByKey(key)
	if driver, ok := found.(*v1.Pod); ok && err == nil && workload.NamedAppID(driver) == id {
		return driver
	}
	return pod
}

// beyond returns what is requested beside CPU and memory, which the operator counts.
func beyond(list v1.ResourceList) v1.ResourceList {
	maps.DeleteFunc(list, func(name v1.ResourceName, q resource.Quantity) bool {
		return name == v1.ResourceCPU || name == v1.ResourceMemory || q.IsZero()
	})
	return list
}

// complete raises a group to what a member requests, and returns what it lacked.
func complete(g *v1alpha1.TaskGroup, requested v1.ResourceList) (lacked []string) {
	for _, name := range slices.Sorted(maps.Keys(requested)) {
		has, asked := g.MinResource[string(name)], requested[name]
		if has.Cmp(asked) >= 0 {
			continue
		}
		if g.MinResource == nil {
			g.MinResource = make(map[string]resource.Quantity, len(requested))
		}
		g.MinResource[string(name)] = asked
		lacked = append(lacked, fmt.Sprintf("%s %s of group %s", asked.String(), name, g.Name))
	}
	return lacked
}

// compare tells what the task groups lack of what a pod requests: the driver's are
// completed before the gang is made, what an executor requests comes too late for that.
func (m *Manager) compare(a *application, id string, pod *v1.Pod) {
	mine := strings.TrimSpace(pod.Annotations[workload.AnnotationTaskGroupName])
	if mine == "" || pod.Annotations[AnnotationName] != "" {
		return // no gang, or a placeholder
	}
	if pod.Labels[labelRole] == roleDriver {
		if _, lacked := m.describe(a, id, pod); len(lacked) > 0 {
			m.event(a.object, false, ReasonCompleted, "the operator's task groups lacked "+strings.Join(lacked, ", ")+"; they are completed")
		}
		return
	}
	more := beyond(requests.Of(pod))
	if len(more) == 0 {
		return
	}
	app, _ := m.describe(a, id, pod)
	for i := range app.TaskGroups {
		if g := &app.TaskGroups[i]; g.Name == mine {
			if lacked := complete(g, more); len(lacked) > 0 {
				m.event(a.object, true, ReasonLacks, "a pod requests "+strings.Join(lacked, ", ")+
					" beyond its task group: no place is held for that")
			}
		}
	}
}
