package tasks

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Owner says which pods are those of a manager. Its methods are called one at a time, as
// what Do is given, and ListApplications' calls too.
type Owner interface {
	// Names returns what describes the application of a pod, in words of the owner's
	// choice, and nothing for a pod that is not for it. It looks at the pod alone.
	Names(pod *v1.Pod) string
	// Describe returns the application that a pod of that name is a task of, and false
	// while that is not known: the pod waits for Known.
	Describe(name string, pod *v1.Pod) (protocol.ApplicationMetadata, bool)
	// Reported is called after a pod has been reported as a task of an application.
	Reported(name, appID string, pod *v1.Pod)
}

// Grouper is implemented by an owner whose pods are of task groups that their annotations do
// not name.
type Grouper interface {
	// Group returns the task group of a pod. It looks at the pod alone.
	Group(pod *v1.Pod) string
	// Reports is called before a pod is reported as a task of an application that is known.
	Reports(name, appID string)
	// Left is called when a pod is gone that was reported.
	Left(name string)
}

// Tasks follows the pods of one manager.
type Tasks struct {
	deps  managers.Deps
	owner Owner

	// mu is held while a pod or an object is handled, calls of the protocol included.
	// It guards what follows, and the owner's state.
	mu sync.Mutex
	// reported is the application that each task was reported for.
	reported map[types.UID]string
	// waiting are pods whose application is not known, by what they name.
	waiting map[string]map[types.UID]*v1.Pod
	stopped bool
	handle  cache.ResourceEventHandlerRegistration

	// handling and handled are for Progress, which does not take mu.
	handling atomic.Bool
	handled  atomic.Uint64
}

// New makes what follows the pods of owner.
func New(deps managers.Deps, owner Owner) *Tasks {
	return &Tasks{
		deps: deps, owner: owner,
		reported: make(map[types.UID]string),
		waiting:  make(map[string]map[types.UID]*v1.Pod),
	}
}

// Start begins to report: the pods that exist, then what changes.
func (t *Tasks) Start() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || t.handle != nil {
		return errors.New("started more than once")
	}
	handle, err := t.deps.Cluster.PodInformer().AddEventHandler(handlers{t})
	if err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	t.handle = handle
	return nil
}

// Stop ends reporting, and waits for a call that is under way.
func (t *Tasks) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.handle == nil {
		return
	}
	if err := t.deps.Cluster.PodInformer().RemoveEventHandler(t.handle); err != nil {
		t.deps.Log.Warn("pod handlers not removed", "err", err)
	}
	t.handle = nil
}

// Do runs handle while no pod is handled, unless Stop has been called.
func (t *Tasks) Do(handle func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	t.handling.Store(true)
	defer func() {
		t.handling.Store(false)
		t.handled.Add(1)
	}()
	handle()
}

// Progress reports whether something is being handled, and how much has been. It does
// not wait.
func (t *Tasks) Progress() (busy bool, done uint64) {
	done = t.handled.Load()
	return t.handling.Load(), done
}

// Known reports the pods that waited for an application of that name. It is called
// within Do.
func (t *Tasks) Known(name string) {
	pods := t.waiting[name]
	delete(t.waiting, name)
	for _, pod := range pods {
		t.added(pod, true)
	}
}

// KnownAll does so for all names.
func (t *Tasks) KnownAll() {
	for name := range t.waiting {
		t.Known(name)
	}
}

// Applications returns the applications that hold resources: those of the pods which
// are assigned and have not terminated. An error says that not all pods are known.
func (t *Tasks) Applications() (map[string]protocol.ApplicationMetadata, error) {
	informer := t.deps.Cluster.PodInformer()
	if !informer.HasSynced() {
		return nil, errors.New("the pods have not been listed yet")
	}
	apps := make(map[string]protocol.ApplicationMetadata)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, obj := range informer.GetStore().List() {
		pod, ok := obj.(*v1.Pod)
		if !ok || !t.holds(pod) {
			continue
		}
		name := t.owner.Names(pod)
		if name == "" {
			continue
		}
		if app, known := t.owner.Describe(name, pod); known {
			apps[app.ApplicationID] = app
		}
	}
	return apps, nil
}

// holds reports whether a pod to be scheduled here has been, and still takes its place.
func (t *Tasks) holds(pod *v1.Pod) bool {
	return pod.Spec.NodeName != "" && !workload.Terminated(pod) && workload.Ours(pod, t.deps.SchedulerName)
}

// parse reads what a pod is as a task, but for its application.
func (t *Tasks) parse(pod *v1.Pod) (protocol.TaskMetadata, []workload.Problem) {
	task, found := workload.ParseTask(pod)
	if g, ok := t.owner.(Grouper); ok {
		task.TaskGroupName = g.Group(pod)
	}
	return task, found
}

// Allocation returns the allocation that a pod of the owner holds, or nil.
func (t *Tasks) Allocation(pod *v1.Pod) *si.Allocation {
	if !t.holds(pod) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := t.owner.Names(pod)
	if name == "" {
		return nil
	}
	app, known := t.owner.Describe(name, pod)
	if !known {
		return nil
	}
	task, _ := t.parse(pod)
	task.ApplicationID = app.ApplicationID
	return managers.Allocation(task, t.deps.Resources)
}
