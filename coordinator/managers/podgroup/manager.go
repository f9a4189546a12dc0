package podgroup

import (
	"errors"
	"fmt"
	"sync"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/managers/tasks"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/protocol"
)

// Type is the type of the manager in the configuration.
const Type = "podgroup"

// resource is the name of the resource, in all its versions.
const resource = "podgroups"

var (
	_ protocol.AppManager    = (*Manager)(nil)
	_ protocol.Recoverable   = (*Manager)(nil)
	_ managers.GroupFollower = (*Manager)(nil)
	_ managers.Claimer       = (*Manager)(nil)
	_ managers.Syncer        = (*Manager)(nil)
)

// Manager is the app manager of PodGroups.
type Manager struct {
	deps   managers.Deps
	groups managers.Grouper
	watch  *resources.Watch
	tasks  *tasks.Tasks

	// settler has conditions written, by the key of told.
	settler *resources.Settler

	// What tasks.Do guards: PodGroups, and what there is of them besides, both by
	// namespace and name.
	objects map[string]podGroup
	known   map[string]*membership

	// mu guards what follows. It is held for a moment only, never during a call.
	mu sync.Mutex
	// told is what became of groups, and names those of each application.
	told  map[string]managers.GroupStatus
	names map[string][]string
}

// membership is that of the pods of a group.
type membership struct {
	app  string // the application of all of them
	pods int    // that have been reported and exist
}

// New makes the manager. It has no settings.
func New(deps managers.Deps) (protocol.AppManager, error) {
	if err := deps.Settings(&struct{}{}); err != nil {
		return nil, fmt.Errorf("it has no settings: %w", err)
	}
	return newManager(deps), nil
}

func newManager(deps managers.Deps) *Manager {
	m := &Manager{
		deps:    deps,
		objects: make(map[string]podGroup),
		known:   make(map[string]*membership),
		told:    make(map[string]managers.GroupStatus),
		names:   make(map[string][]string),
	}
	m.groups, _ = deps.Protocol.(managers.Grouper)
	m.settler = resources.NewSettler(m.settle, deps.Log)
	m.tasks = tasks.New(deps, owner{m})
	cfg := resources.Default()
	cfg.Trim = trim
	m.watch = resources.New(resources.Kind{
		Group: schedulingv1beta1.GroupName, Kind: "PodGroup",
		Versions: []string{schedulingv1beta1.SchemeGroupVersion.Version, schedulingv1alpha3.SchemeGroupVersion.Version},
	}, deps.Reads, deps.Discovery, m.handler(), cfg, deps.Now, deps.Log)
	return m
}

// Name returns the name in the configuration.
func (m *Manager) Name() string { return m.deps.Name }

// ServiceInit fails if nobody can hold pods back.
func (m *Manager) ServiceInit() error {
	if m.groups == nil {
		return errors.New("the protocol knows no groups")
	}
	return nil
}

// Start begins to watch PodGroups and pods.
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

// HasSynced reports whether all PodGroups are known that there are. No pod is reported
// before.
func (m *Manager) HasSynced() bool { return m.watch.HasSynced() }

// Describe returns how the watch of PodGroups stands.
func (m *Manager) Describe() []serve.Resource { return []serve.Resource{m.watch.Status().Describe()} }

// Rules returns what the manager has to be allowed.
func (m *Manager) Rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{schedulingv1beta1.GroupName}, Resources: []string{resource}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{schedulingv1beta1.GroupName}, Resources: []string{resource + "/status"}, Verbs: []string{"patch"}},
	}
}

// Claims reports whether a pod names a PodGroup, be there one or not.
func (m *Manager) Claims(pod *v1.Pod) bool { return groupOf(pod) != "" }

// ListApplications returns the applications of the pods that hold resources.
func (m *Manager) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	if !m.watch.HasSynced() {
		return nil, fmt.Errorf("app manager %s: the PodGroups have not been listed yet", m.deps.Name)
	}
	apps, err := m.tasks.Applications()
	if err != nil {
		return nil, fmt.Errorf("app manager %s: %w", m.deps.Name, err)
	}
	return apps, nil
}

// GetExistingAllocation returns the allocation of an assigned pod that names a PodGroup.
func (m *Manager) GetExistingAllocation(pod *v1.Pod) *si.Allocation { return m.tasks.Allocation(pod) }
