package spark

import (
	"errors"
	"fmt"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/managers/tasks"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/protocol"
)

// Type is the type of the manager in the configuration.
const Type = "spark-operator"

// What the operator calls its resource, and writes on pods.
const (
	group        = "sparkoperator.k8s.io"
	version      = "v1beta2"
	kind         = "SparkApplication"
	resourceName = "sparkapplications"

	labelName       = "sparkoperator.k8s.io/app-name"
	labelSubmission = "sparkoperator.k8s.io/submission-id"
	labelRole       = "spark-role"
	roleDriver      = "driver"
	groupExecutor   = "spark-executor"
)

// AnnotationName is on the placeholders of a gang, and names their SparkApplication as
// the operator's label does on its own pods.
const AnnotationName = "understudy.dev/spark-application"

var (
	_ protocol.AppManager  = (*Manager)(nil)
	_ protocol.Recoverable = (*Manager)(nil)
	_ managers.Claimer     = (*Manager)(nil)
)

// Manager is the app manager of SparkApplications.
type Manager struct {
	deps  managers.Deps
	watch *resources.Watch
	tasks *tasks.Tasks

	// apps has SparkApplications by namespace and name. tasks.Do guards it.
	apps map[string]*application
}

// New makes the manager.
func New(deps managers.Deps) (protocol.AppManager, error) {
	if err := deps.Settings(&struct{}{}); err != nil {
		return nil, fmt.Errorf("it has no settings: %w", err)
	}
	return newManager(deps), nil
}

func newManager(deps managers.Deps) *Manager {
	m := &Manager{deps: deps, apps: make(map[string]*application)}
	m.tasks = tasks.New(deps, owner{m})
	cfg := resources.Default()
	cfg.Trim = trim
	m.watch = resources.New(resources.Kind{Group: group, Kind: kind, Versions: []string{version}},
		deps.Reads, deps.Discovery, m.handler(), cfg, deps.Now, deps.Log)
	return m
}

// Name returns the name in the configuration.
func (m *Manager) Name() string { return m.deps.Name }

// ServiceInit does nothing.
func (m *Manager) ServiceInit() error { return nil }

// Start begins to watch SparkApplications and pods.
func (m *Manager) Start() error {
	if err := m.tasks.Start(); err != nil {
		return fmt.Errorf("app manager %s: %w", m.deps.Name, err)
	}
	m.watch.Start()
	return nil
}

// Stop ends what Start began, and waits for it.
func (m *Manager) Stop() {
	m.watch.Stop()
	m.tasks.Stop()
}

// Describe returns how the watch of the SparkApplications stands.
func (m *Manager) Describe() []serve.Resource { return []serve.Resource{m.watch.Status().Describe()} }

// Rules returns what the manager has to be allowed.
func (m *Manager) Rules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resourceName}, Verbs: []string{"get", "list", "watch"}}}
}

// Claims reports whether a pod is one of the operator's, unless the manager cannot report
// it yet.
func (m *Manager) Claims(pod *v1.Pod) bool { return named(pod) != "" && m.watch.HasSynced() }

// ListApplications returns the attempts whose pods hold resources.
func (m *Manager) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	if !m.watch.HasSynced() {
		err := errors.New("the SparkApplications have not been listed yet")
		if last := m.watch.Status().Err; last != "" {
			err = fmt.Errorf("%w: %s", err, last)
		}
		return nil, fmt.Errorf("app manager %s: %w", m.deps.Name, err)
	}
	apps, err := m.tasks.Applications()
	if err != nil {
		return nil, fmt.Errorf("app manager %s: %w", m.deps.Name, err)
	}
	return apps, nil
}

// GetExistingAllocation returns the allocation of an assigned pod of the operator.
func (m *Manager) GetExistingAllocation(pod *v1.Pod) *si.Allocation { return m.tasks.Allocation(pod) }

// named returns the SparkApplication, by namespace and name, that a pod is of.
func named(pod *v1.Pod) string {
	name := pod.Labels[labelName]
	if name == "" {
		name = pod.Annotations[AnnotationName]
	}
	if name == "" {
		return ""
	}
	return cache.ObjectName{Namespace: pod.Namespace, Name: name}.String()
}
