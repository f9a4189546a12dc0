package application

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/managers/tasks"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// Type is the type of the manager in the configuration.
const Type = "application"

var (
	_ protocol.AppManager  = (*Manager)(nil)
	_ protocol.Recoverable = (*Manager)(nil)
	_ managers.Follower    = (*Manager)(nil)
	_ managers.Claimer     = (*Manager)(nil)
)

// Manager is the app manager of Application objects.
type Manager struct {
	deps  managers.Deps
	watch *resources.Watch
	tasks *tasks.Tasks
	// settler has what is to be written settled, by the key of told.
	settler *resources.Settler

	// What tasks.Do guards: objects by namespace and name, and applications that are
	// to end because their object is gone, until they have ended.
	objects map[string]*unstructured.Unstructured
	leaving map[string]bool

	// mu guards what follows. It is held for a moment only, never during a call.
	mu sync.Mutex
	// holders has the name of the object that an application ID stands for, rivals
	// those of others with the same ID.
	holders map[string]string
	rivals  map[string][]string
	told    map[string]managers.AppStatus // what became of applications, by ID
	written map[string]written            // the newest status, by application ID
}

// New makes the manager.
func New(deps managers.Deps) (protocol.AppManager, error) {
	if err := deps.Settings(&struct{}{}); err != nil {
		return nil, fmt.Errorf("it has no settings: %w", err)
	}
	return newManager(deps), nil
}

func newManager(deps managers.Deps) *Manager {
	m := &Manager{
		deps:    deps,
		objects: make(map[string]*unstructured.Unstructured),
		leaving: make(map[string]bool),
		holders: make(map[string]string),
		rivals:  make(map[string][]string),
		told:    make(map[string]managers.AppStatus),
		written: make(map[string]written),
	}
	m.settler = resources.NewSettler(m.settle, deps.Log)
	m.tasks = tasks.New(deps, owner{m})
	cfg := resources.Default()
	cfg.Trim = trim
	m.watch = resources.New(resources.Kind{
		Group: v1alpha1.GroupName, Kind: "Application", Versions: []string{v1alpha1.Version},
	}, deps.Reads, deps.Discovery, m.handler(), cfg, deps.Now, deps.Log)
	return m
}

// Name returns the name in the configuration.
func (m *Manager) Name() string { return m.deps.Name }

// ServiceInit does nothing.
func (m *Manager) ServiceInit() error { return nil }

// Start begins to watch objects and pods.
func (m *Manager) Start() error {
	if err := m.tasks.Start(); err != nil {
		return fmt.Errorf("app manager %s: %w", m.deps.Name, err)
	}
	m.settler.Start()
	m.watch.Start()
	return nil
}

// Stop ends what Start began, and waits for it.
func (m *Manager) Stop() {
	m.settler.Stop()
	m.watch.Stop()
	m.tasks.Stop()
}

// Describe returns how the watch of the objects stands.
func (m *Manager) Describe() []serve.Resource { return []serve.Resource{m.watch.Status().Describe()} }

// Rules returns what the manager has to be allowed.
func (m *Manager) Rules() []rbacv1.PolicyRule {
	resource := v1alpha1.Resource().Resource
	return []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{resource}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{v1alpha1.GroupName}, Resources: []string{resource + "/status"}, Verbs: []string{"patch"}},
	}
}

// Claims reports whether a pod names an object that is known.
func (m *Manager) Claims(pod *v1.Pod) bool {
	name := named(pod)
	if name == "" {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holders[workload.NamedAppID(pod)] == name
}

// ListApplications returns the applications of objects whose pods hold resources.
func (m *Manager) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	if !m.watch.HasSynced() {
		return nil, m.unsynced()
	}
	apps, err := m.tasks.Applications()
	if err != nil {
		return nil, fmt.Errorf("app manager %s: %w", m.deps.Name, err)
	}
	return apps, nil
}

func (m *Manager) unsynced() error {
	err := errors.New("the Application objects have not been listed yet")
	if last := m.watch.Status().Err; last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return fmt.Errorf("app manager %s: %w", m.deps.Name, err)
}

// GetExistingAllocation returns the allocation of an assigned pod that names an object.
func (m *Manager) GetExistingAllocation(pod *v1.Pod) *si.Allocation { return m.tasks.Allocation(pod) }

// owner is what the tasks ask.
type owner struct{ m *Manager }

func (o owner) Names(pod *v1.Pod) string { return named(pod) }

func (o owner) Describe(name string, _ *v1.Pod) (protocol.ApplicationMetadata, bool) {
	object := o.m.objects[name]
	if object == nil || o.m.holder(appID(object)) != name || o.m.leaving[appID(object)] {
		return protocol.ApplicationMetadata{}, false
	}
	app, _ := o.m.metadata(object)
	return app, true
}

func (o owner) Reported(string, string, *v1.Pod) {}

// named returns the object, by namespace and name, that a pod would be of.
func named(pod *v1.Pod) string {
	name, ok := strings.CutPrefix(workload.NamedAppID(pod), pod.Namespace+"-")
	if !ok || name == "" {
		return ""
	}
	return cache.ObjectName{Namespace: pod.Namespace, Name: name}.String()
}

// appID returns the ID of an object's application.
func appID(object *unstructured.Unstructured) string {
	return object.GetNamespace() + "-" + object.GetName()
}

func (m *Manager) holder(id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holders[id]
}
