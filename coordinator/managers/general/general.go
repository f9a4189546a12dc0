package general

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Cluster is where a manager sees pods.
type Cluster interface {
	// PodInformer watches the pods of all namespaces.
	PodInformer() cache.SharedIndexInformer
	// Namespace returns the namespace, or nil if it is not known.
	Namespace(name string) *v1.Namespace
}

// Config tunes a Manager; empty fields select defaults.
type Config struct {
	// SchedulerName is the spec.schedulerName of the pods to report.
	SchedulerName string
	// UserLabel is the key of the label that names the user of a pod.
	UserLabel string
	// Resources returns what a pod requests, in the engine's units, for
	// GetExistingAllocation. Nil leaves the resources out.
	Resources func(*v1.Pod) map[string]int64
}

// Name is the name of the manager in records.
const Name = "general"

var (
	_ protocol.AppManager  = (*Manager)(nil)
	_ protocol.Recoverable = (*Manager)(nil)
)

// Manager is the app manager of ordinary pods: labels and annotations say what
// application a pod belongs to, and the pods are all there is to know of it.
type Manager struct {
	amp      protocol.ApplicationManagementProtocol
	cluster  Cluster
	cfg      Config
	problems func(*v1.Pod, []workload.Problem)
	log      *slog.Logger

	// mu is held while a pod is handled. It guards what follows, and amp.
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

// New makes a manager that reports the pods of cluster to amp, and what
// cannot be read of a pod to report, which must return at once and may be nil.
func New(amp protocol.ApplicationManagementProtocol, cluster Cluster, cfg Config, report func(*v1.Pod, []workload.Problem), log *slog.Logger) *Manager {
	if cfg.SchedulerName == "" {
		cfg.SchedulerName = workload.DefaultSchedulerName
	}
	if cfg.UserLabel == "" {
		cfg.UserLabel = workload.DefaultUserLabel
	}
	if report == nil {
		report = func(*v1.Pod, []workload.Problem) {}
	}
	return &Manager{
		amp: amp, cluster: cluster, cfg: cfg, problems: report, log: log,
		reported: make(map[types.UID]string),
		live:     make(map[string]bool),
	}
}

// Name returns Name.
func (g *Manager) Name() string { return Name }

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
	handle, err := g.cluster.PodInformer().AddEventHandler(handlers{g})
	if err != nil {
		return fmt.Errorf("general app manager: watching pods: %w", err)
	}
	g.handle = handle
	return nil
}

// Address has the manager report to amp from now on. A manager that has been
// started with a protocol that only takes notes knows all pods by then, and what
// it reported before is not repeated: see Replay.
func (g *Manager) Address(amp protocol.ApplicationManagementProtocol) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.amp, g.live = amp, nil
}

// Replay reports pods as Start does those that exist. It returns early if the
// manager is stopped.
func (g *Manager) Replay(pods []*v1.Pod) {
	for _, pod := range pods {
		g.locked(func() {
			g.live = nil // applications may end between two calls
			g.added(pod, true)
		})
	}
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
	if err := g.cluster.PodInformer().RemoveEventHandler(g.handle); err != nil {
		g.log.Warn("pod handlers not removed", "manager", Name, "err", err)
	}
	g.handle = nil
}

// AppID returns the application that a pod names.
func (g *Manager) AppID(pod *v1.Pod) string { return workload.AppID(pod) }

// identities is what a protocol may have besides: it knows the application of a task
// that has been reported before, if only by a predecessor, whatever the labels of its
// pod say by now.
type identities interface {
	// Owner returns the ID of the application, empty if the task is not known.
	Owner(taskID string) string
}

// owner returns the application of a task that is known, else nothing.
func (g *Manager) owner(uid types.UID) string {
	if known, ok := g.amp.(identities); ok {
		if app := known.Owner(string(uid)); app != "" {
			return app
		}
	}
	return g.reported[uid]
}

// Task returns what task a pod is, and false if it is not for this manager.
func (g *Manager) Task(pod *v1.Pod) (protocol.TaskMetadata, bool) {
	if !workload.Ours(pod, g.cfg.SchedulerName) {
		return protocol.TaskMetadata{}, false
	}
	meta, _ := workload.ParseTask(pod)
	return meta, true
}

// ListApplications returns the applications that have an assigned pod which has
// not terminated. The oldest such pod of an application describes it.
func (g *Manager) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	informer := g.cluster.PodInformer()
	if !informer.HasSynced() {
		return nil, errors.New("general app manager: the pods have not been listed yet")
	}
	var pods []*v1.Pod
	for _, obj := range informer.GetStore().List() {
		if pod, ok := obj.(*v1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return g.Applications(pods, nil), nil
}

// Applications returns the applications that have an assigned pod among pods
// which has not terminated, described as ListApplications does. owner, which may be
// nil, returns the application that a pod has been reported for, whatever it says
// now, or nothing.
func (g *Manager) Applications(pods []*v1.Pod, owner func(*v1.Pod) string) map[string]protocol.ApplicationMetadata {
	oldest, assigned := make(map[string]*v1.Pod), make(map[string]bool)
	for _, pod := range pods {
		if workload.Terminated(pod) {
			continue
		}
		id := ""
		if owner != nil {
			id = owner(pod)
		}
		if id == "" {
			if !workload.Ours(pod, g.cfg.SchedulerName) {
				continue
			}
			id = workload.AppID(pod)
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
		app, _ := workload.ParseApplication(pod, g.cluster.Namespace(pod.Namespace), g.cfg.UserLabel)
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
	allocation := &si.Allocation{
		AllocationKey: meta.TaskID,
		NodeID:        pod.Spec.NodeName,
		ApplicationID: meta.ApplicationID,
		TaskGroupName: meta.TaskGroupName,
		Placeholder:   meta.Placeholder,
	}
	if pod.Spec.Priority != nil {
		allocation.Priority = *pod.Spec.Priority
	}
	if g.cfg.Resources != nil {
		allocation.ResourcePerAlloc = &si.Resource{Resources: make(map[string]*si.Quantity)}
		for name, value := range g.cfg.Resources(pod) {
			allocation.ResourcePerAlloc.Resources[name] = &si.Quantity{Value: value}
		}
	}
	return allocation
}
