package general

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Name is the type of the manager, and its name in the configuration unless that says
// another.
const Name = "general"

var (
	_ protocol.AppManager  = (*Manager)(nil)
	_ protocol.Recoverable = (*Manager)(nil)
	_ managers.Replayer    = (*Manager)(nil)
	_ managers.Prober      = (*Manager)(nil)
	_ managers.Syncer      = (*Manager)(nil)
)

// Manager is the app manager of ordinary pods: labels and annotations say what
// application a pod belongs to, and the pods are all there is to know of it.
type Manager struct {
	managers.Deps
	// appID returns the application that a pod belongs to by what it says of itself.
	appID func(*v1.Pod) string

	// mu is held while a pod is handled. It guards what follows.
	mu sync.Mutex
	// reported is the application that each task was reported for.
	reported map[types.UID]string
	// live holds the applications known to be live while the initial listing
	// is replayed; nil after it.
	live    map[string]bool
	stopped bool
	// handling and handled are for Progress, which does not take mu.
	handling atomic.Bool
	handled  atomic.Uint64
	handle   cache.ResourceEventHandlerRegistration
}

// settings are what the configuration may say of this manager.
type settings struct {
	// GenerateUniqueAppID gives each pod that names no application one of its own. Otherwise
	// all of a namespace share one. Nil leaves it to the ConfigMaps.
	GenerateUniqueAppID *bool `yaml:"generateUniqueAppId"`
}

// New makes the manager.
func New(deps managers.Deps) (protocol.AppManager, error) { return newManager(deps) }

func newManager(deps managers.Deps) (*Manager, error) {
	var set settings
	if err := deps.Settings(&set); err != nil {
		return nil, err
	}
	appID := workload.AppID
	if ptr.Deref(set.GenerateUniqueAppID, deps.UniqueAppID) {
		appID = workload.UniqueAppID
	}
	return &Manager{
		Deps:     deps,
		appID:    appID,
		reported: make(map[types.UID]string),
		live:     make(map[string]bool),
	}, nil
}

// Name returns what the configuration calls this manager.
func (g *Manager) Name() string { return g.Deps.Name }

// ServiceInit does nothing: the informer is run by its owner.
func (g *Manager) ServiceInit() error { return nil }

// Start begins to report. The handlers are called for every pod that exists,
// then for what changes, on a goroutine of the informer.
func (g *Manager) Start() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped || g.handle != nil {
		return errors.New("general app manager: started more than once")
	}
	handle, err := g.Cluster.PodInformer().AddEventHandler(handlers{g})
	if err != nil {
		return fmt.Errorf("general app manager: watching pods: %w", err)
	}
	g.handle = handle
	return nil
}

// HasSynced reports whether all pods that existed at the start have been handled.
func (g *Manager) HasSynced() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.handle != nil && g.handle.HasSynced()
}

// Between calls do while no pod is handled.
func (g *Manager) Between(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live = nil
	do()
}

// Replay reports pods as Start does those that exist. It returns early if the
// manager is stopped. Of an application it reports the placeholders first, as what another
// of its pods describes: a gang that is reported with a pod has the placeholders made that it
// lacks.
func (g *Manager) Replay(pods []*v1.Pod) {
	pods, describes := g.holdsFirst(pods)
	for _, pod := range pods {
		g.locked(func() {
			g.live = nil // applications may end between two calls
			g.take(pod, cmp.Or(describes[g.appID(pod)], pod), true)
		})
	}
}

// holdsFirst returns pods with the placeholders of each application first, and which pod
// describes an application that has placeholders. The order of applications, and of other
// pods, stays.
func (g *Manager) holdsFirst(pods []*v1.Pod) (order []*v1.Pod, describes map[string]*v1.Pod) {
	holds, place := make(map[types.UID]bool), make(map[string]int)
	for i, pod := range pods {
		task, _ := workload.ParseTask(pod)
		if id := g.appID(pod); task.Placeholder {
			holds[pod.UID] = true
		} else if _, known := place[id]; !known {
			place[id] = i
		}
	}
	if len(holds) == 0 {
		return pods, nil
	}
	describes = make(map[string]*v1.Pod)
	for _, pod := range pods {
		if at, known := place[g.appID(pod)]; known && holds[pod.UID] {
			describes[g.appID(pod)] = pods[at]
		}
	}
	order = slices.Clone(pods)
	slices.SortStableFunc(order, func(a, b *v1.Pod) int {
		if x, y := g.appID(a), g.appID(b); x != y || holds[a.UID] == holds[b.UID] {
			return cmp.Compare(placeOf(place, x), placeOf(place, y))
		}
		if holds[a.UID] {
			return -1
		}
		return 1
	})
	return order, describes
}

// placeOf is that of an application; one of which there are only placeholders has the last.
func placeOf(place map[string]int, app string) int {
	if at, known := place[app]; known {
		return at
	}
	return math.MaxInt
}

// Stop ends reporting. A protocol call under way must be able to return, for
// Stop waits for it; none is made afterwards.
func (g *Manager) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	if g.handle == nil {
		return
	}
	if err := g.Cluster.PodInformer().RemoveEventHandler(g.handle); err != nil {
		g.Log.Warn("pod handlers not removed", "err", err)
	}
	g.handle = nil
}

// gate is what the protocol has besides: see managers.Gate.
type gate interface {
	Owner(taskID string) string
	Report(request *protocol.AddTaskRequest) bool
}

// owner returns the application of a task that is known, if only because a predecessor has
// reported it, whatever the labels of its pod say by now; else nothing.
func (g *Manager) owner(uid types.UID) string {
	if known, ok := g.Protocol.(gate); ok {
		if app := known.Owner(string(uid)); app != "" {
			return app
		}
	}
	return g.reported[uid]
}

// report reports a task. Nothing depends on the answer.
func (g *Manager) report(task protocol.TaskMetadata) {
	request := &protocol.AddTaskRequest{Metadata: task}
	if to, ok := g.Protocol.(gate); ok {
		to.Report(request)
		return
	}
	g.Protocol.AddTask(request)
}

// ours reports whether a pod is for this manager.
func (g *Manager) ours(pod *v1.Pod) bool {
	return workload.Ours(pod, g.SchedulerName) && g.Claimed(pod) == ""
}

// Task returns what task a pod is, and false if it is not for this manager.
func (g *Manager) Task(pod *v1.Pod) (protocol.TaskMetadata, bool) {
	if !g.ours(pod) {
		return protocol.TaskMetadata{}, false
	}
	meta, _ := g.parse(pod)
	return meta, true
}

// parse reads what a pod says about itself as a task.
func (g *Manager) parse(pod *v1.Pod) (protocol.TaskMetadata, []workload.Problem) {
	task, found := workload.ParseTask(pod)
	task.ApplicationID = g.appID(pod)
	return task, found
}

// ListApplications returns the applications that have an assigned pod which has
// not terminated. The oldest such pod of an application describes it.
func (g *Manager) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	informer := g.Cluster.PodInformer()
	if !informer.HasSynced() {
		return nil, errors.New("general app manager: the pods have not been listed yet")
	}
	var pods []*v1.Pod
	for _, obj := range informer.GetStore().List() {
		if pod, ok := obj.(*v1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return g.applications(pods), nil
}

// applications describes those that have an assigned pod among pods which has not
// terminated. A pod belongs to the application that it has been reported for, whatever
// it says by now.
func (g *Manager) applications(pods []*v1.Pod) map[string]protocol.ApplicationMetadata {
	g.mu.Lock()
	defer g.mu.Unlock()
	oldest, assigned := make(map[string]*v1.Pod), make(map[string]bool)
	for _, pod := range pods {
		if workload.Terminated(pod) {
			continue
		}
		id := g.reported[pod.UID]
		if id == "" {
			if !g.ours(pod) {
				continue
			}
			id = g.appID(pod)
		}
		assigned[id] = assigned[id] || pod.Spec.NodeName != ""
		if known := oldest[id]; known == nil || describesBetter(pod, known) {
			oldest[id] = pod
		}
	}
	apps := make(map[string]protocol.ApplicationMetadata, len(assigned))
	for id, pod := range oldest {
		if !assigned[id] {
			continue
		}
		// Problems are reported when the handlers see the pod.
		app, _ := workload.ParseApplication(pod, g.Cluster.Namespace(pod.Namespace), g.UserLabel)
		app.ApplicationID = id
		apps[id] = app
	}
	return apps
}

// describesBetter reports whether a rather than b describes their application: an
// assigned pod before others, the older one first. A placeholder does not say who the
// user is, so that a pod that it waits for comes before it.
func describesBetter(a, b *v1.Pod) bool {
	if x, y := rank(a), rank(b); x != y {
		return x < y
	}
	return older(a, b)
}

func rank(pod *v1.Pod) int {
	task, _ := workload.ParseTask(pod)
	switch {
	case task.Placeholder:
		return 2
	case pod.Spec.NodeName == "":
		return 1
	}
	return 0
}

// older orders pods by creation; those of the same second by name, so that
// every replica chooses the same.
func older(a, b *v1.Pod) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	if a.Name != b.Name {
		return a.Name < b.Name
	}
	return a.UID < b.UID
}

// GetExistingAllocation returns the allocation of an assigned pod of this
// manager that has not terminated, else nil.
func (g *Manager) GetExistingAllocation(pod *v1.Pod) *si.Allocation {
	meta, ours := g.Task(pod)
	if !ours || pod.Spec.NodeName == "" || workload.Terminated(pod) {
		return nil
	}
	return managers.Allocation(meta, g.Resources)
}
