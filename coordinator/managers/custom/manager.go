package custom

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	lru "k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/managers/resources"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Type is the type of these managers in the configuration. Their settings are a
// Definition.
const Type = "custom"

var (
	_ protocol.AppManager  = (*Manager)(nil)
	_ protocol.Recoverable = (*Manager)(nil)
	_ managers.Claimer     = (*Manager)(nil)
	_ managers.Follower    = (*Manager)(nil)
	_ managers.Syncer      = (*Manager)(nil)
	_ managers.Describer   = (*Manager)(nil)
)

// Manager is the app manager of one definition.
type Manager struct {
	deps    managers.Deps
	program *Program
	watch   *resources.Watch
	finder  *finder
	log     *slog.Logger
	// schemaOf returns what the API server says of a kind.
	schemaOf func(schema.GroupVersionKind) (*spec.Schema, error)

	// turn is held while a pod or an object is handled, calls of the protocol included.
	// Nobody who is asked by the lead takes it: a call may wait for the lead.
	turn    sync.Mutex
	stopped bool
	handle  cache.ResourceEventHandlerRegistration

	// mu guards what follows. It is held for a moment only, never during a call.
	mu   sync.Mutex
	book *book
	// told is what users were told last about an object.
	told map[types.NamespacedName]string
	// recorded are the applications of this manager that the lead has.
	recorded map[string]bool
	// unsure says that an orphan may only seem to be one: see orphaned.
	unsure bool
	// mismatch is why the definition does not fit the schema that the API server has;
	// empty if it does.
	mismatch string

	// synced is closed once all objects that existed are known, stop when Stop is called.
	synced     chan struct{}
	syncedOnce sync.Once
	stop       chan struct{}
	stopOnce   sync.Once
	made       time.Time

	leaving workqueue.TypedRateLimitingInterface[string] // IDs of applications
	running sync.WaitGroup
}

const (
	// firstRetry and lastRetry bound how long the removal of an application that still
	// has something waits for its next try.
	firstRetry, lastRetry = 200 * time.Millisecond, time.Minute
	// patience is how long Claims waits for the objects to be listed, from New on.
	patience = 5 * time.Second
)

// Reasons of Events on an object.
const (
	// ReasonNotEvaluated says that the object does not count, because an expression of
	// the definition fails over it.
	ReasonNotEvaluated = "NotEvaluated"
	// ReasonLeftOut says that something in the object does not count.
	ReasonLeftOut = "LeftOut"
	// ReasonSkipped says that the object could not be handled at all.
	ReasonSkipped = "ObjectSkipped"
)

// New makes the manager of the definition in the settings.
func New(deps managers.Deps) (protocol.AppManager, error) {
	definition, err := Decode(deps.Settings)
	if err != nil {
		return nil, err
	}
	program, err := Compile(deps.Name, definition, nil)
	if err != nil {
		return nil, err
	}
	return newManager(deps, program), nil
}

func newManager(deps managers.Deps, program *Program) *Manager {
	if deps.Claimed == nil {
		deps.Claimed = func(*v1.Pod) string { return "" }
	}
	m := &Manager{
		deps: deps, program: program, log: deps.Log, made: deps.Now(),
		told: make(map[types.NamespacedName]string), recorded: make(map[string]bool),
		synced: make(chan struct{}), stop: make(chan struct{}),
		leaving: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)),
	}
	m.schemaOf = (&resolver.ClientDiscoveryResolver{Discovery: deps.Discovery}).ResolveSchema
	m.book = newBook(func(id string) { m.leaving.Add(id) })
	m.finder = &finder{
		Program: program, schedulerName: deps.SchedulerName, reads: deps.Reads, known: m.known,
		absent: m.absent, read: lru.NewLRUExpireCache(maxRead), log: deps.Log,
	}
	gvk := program.definition.kind().gvk()
	cfg := resources.Default()
	cfg.Trim = program.trim
	m.watch = resources.New(resources.Kind{Group: gvk.Group, Kind: gvk.Kind, Versions: []string{gvk.Version}},
		deps.Reads, deps.Discovery, m.objectHandler(), cfg, deps.Now, deps.Log)
	return m
}

// Name returns the name in the configuration.
func (m *Manager) Name() string { return m.deps.Name }

// ServiceInit does nothing.
func (m *Manager) ServiceInit() error { return nil }

// Start begins to watch objects and pods.
func (m *Manager) Start() error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if m.stopped || m.handle != nil {
		return errors.New("started more than once")
	}
	handle, err := m.deps.Cluster.PodInformer().AddEventHandler(podHandler{m})
	if err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	m.handle = handle
	m.running.Go(m.removeAll)
	m.watch.Start()
	return nil
}

// Stop ends what Start began, and waits for it.
func (m *Manager) Stop() {
	m.stopOnce.Do(func() { close(m.stop) })
	m.watch.Stop()
	m.leaving.ShutDown()
	m.running.Wait()
	m.turn.Lock()
	defer m.turn.Unlock()
	m.stopped = true
	if m.handle == nil {
		return
	}
	if err := m.deps.Cluster.PodInformer().RemoveEventHandler(m.handle); err != nil {
		m.log.Warn("pod handlers not removed", "err", err)
	}
	m.handle = nil
}

// handleNow takes an event over and makes the calls that follow, unless Stop has been
// called.
func (m *Manager) handleNow(event func() []call) {
	m.turn.Lock()
	defer m.turn.Unlock()
	if m.stopped {
		return
	}
	for _, c := range event() {
		c(m.deps.Protocol)
	}
}

// HasSynced reports whether all objects that exist are known. A kind that is known to be
// absent has none.
func (m *Manager) HasSynced() bool { return m.watch.HasSynced() }

// Describe returns how the watch of the objects stands.
func (m *Manager) Describe() []serve.Resource {
	described := m.watch.Status().Describe()
	m.mu.Lock()
	described.LastError = cmp.Or(described.LastError, m.mismatch)
	m.mu.Unlock()
	return []serve.Resource{described}
}

// Rules returns what the manager has to be allowed.
func (m *Manager) Rules() []rbacv1.PolicyRule { return m.program.definition.Rules() }

// Rules returns what the manager of a definition has to be allowed.
func (d *Definition) Rules() []rbacv1.PolicyRule {
	rule := func(k Kind, verbs ...string) rbacv1.PolicyRule {
		gvr := k.gvr()
		return rbacv1.PolicyRule{APIGroups: []string{gvr.Group}, Resources: []string{gvr.Resource}, Verbs: verbs}
	}
	rules := []rbacv1.PolicyRule{rule(d.kind(), "get", "list", "watch")}
	if d.Pods.Owner != nil {
		for _, kind := range d.Pods.Owner.Through {
			rules = append(rules, rule(kind, "get"))
		}
	}
	return rules
}

// known is what the finder asks.
func (m *Manager) known(key types.NamespacedName) (uid types.UID, matches, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.book.objects[key]
	if o == nil {
		return "", false, false
	}
	return o.uid, o.matches, true
}

func (m *Manager) absent() bool {
	status := m.watch.Status()
	return status.Synced && !status.Present
}

// find returns the object of a pod that is for this manager.
func (m *Manager) find(pod *v1.Pod) (types.NamespacedName, bool) {
	if pod.Spec.SchedulerName != m.deps.SchedulerName || !workload.Ours(pod, m.deps.SchedulerName) {
		return types.NamespacedName{}, false
	}
	return m.finder.find(pod)
}

// Claims reports whether a pod belongs to an object of the definition. It waits while the
// objects are listed for the first time, and may ask the API server.
func (m *Manager) Claims(pod *v1.Pod) bool {
	if _, ok := m.program.fromPod(pod); !ok && m.placeholderOf(pod) == nil {
		return false
	}
	m.untilSynced()
	if m.owner(pod.UID) != nil || m.placeholderOf(pod) != nil {
		return true
	}
	_, ok := m.find(pod)
	return ok
}

// untilSynced waits until all objects that existed are known, for a while at most.
func (m *Manager) untilSynced() {
	select {
	case <-m.synced:
		return
	default:
	}
	timer := time.NewTimer(max(patience-m.deps.Now().Sub(m.made), 0))
	defer timer.Stop()
	select {
	case <-m.synced:
	case <-m.stop:
	case <-timer.C:
	}
}

// owner returns the application that a pod was reported for, nil if it was not.
func (m *Manager) owner(uid types.UID) *task {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.book.tasks[uid]
}

// ListApplications returns the applications whose pods hold resources.
func (m *Manager) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	informer := m.deps.Cluster.PodInformer()
	switch {
	case !m.watch.HasSynced():
		err := fmt.Errorf("app manager %s: the %s objects have not been listed yet", m.deps.Name, m.program.definition.Kind)
		if last := m.watch.Status().Err; last != "" {
			err = fmt.Errorf("%w: %s", err, last)
		}
		return nil, err
	case !informer.HasSynced():
		return nil, fmt.Errorf("app manager %s: the pods have not been listed yet", m.deps.Name)
	}
	apps := make(map[string]protocol.ApplicationMetadata)
	for _, obj := range informer.GetStore().List() {
		if pod, ok := obj.(*v1.Pod); ok {
			if a, _ := m.holder(pod); a != nil {
				apps[a.ApplicationID] = *a
			}
		}
	}
	return apps, nil
}

// holder returns the application of a pod that holds resources, and the pod's task group.
func (m *Manager) holder(pod *v1.Pod) (*protocol.ApplicationMetadata, string) {
	if pod.Spec.NodeName == "" || workload.Terminated(pod) {
		return nil, ""
	}
	var key types.NamespacedName
	a := m.placeholderOf(pod)
	if a == nil && m.owner(pod.UID) == nil {
		var found bool
		if key, found = m.find(pod); !found {
			return nil, ""
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.book.tasks[pod.UID]; t != nil {
		a = t.app
	} else if o := m.book.objects[key]; o != nil {
		a = o.app
	}
	if a == nil {
		return nil, ""
	}
	meta := cloned(a.meta)
	return &meta, m.group(pod, a)
}

// GetExistingAllocation returns the allocation that a pod of an object holds, or nil.
func (m *Manager) GetExistingAllocation(pod *v1.Pod) *si.Allocation {
	a, group := m.holder(pod)
	if a == nil {
		return nil
	}
	meta, _ := workload.ParseTask(pod)
	meta.ApplicationID, meta.TaskGroupName = a.ApplicationID, group
	return managers.Allocation(meta, m.deps.Resources)
}

// AppChanged is told what becomes of the applications of this manager. The object of one may
// have been deleted while no replica ran, and nothing else tells of that.
func (m *Manager) AppChanged(now managers.AppStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := now.ApplicationID
	if now.State == "" {
		delete(m.recorded, id)
		return
	}
	m.recorded[id] = true
	if m.orphaned(id) {
		m.leaving.Add(id)
	}
}

// orphaned reports whether the lead has the application, and no object or pod is known to be of it.
// While there are objects that could not be read, it may be theirs. m.mu is held.
func (m *Manager) orphaned(id string) bool {
	select {
	case <-m.synced:
	default:
		return false
	}
	if !m.recorded[id] || m.book.apps[id] != nil {
		return false
	}
	m.unsure = m.book.unread()
	return !m.unsure
}

// removeOrphans has the applications removed that are orphaned. m.mu is held.
func (m *Manager) removeOrphans() {
	m.unsure = false
	for id := range m.recorded {
		if m.orphaned(id) {
			m.leaving.Add(id)
		}
	}
}

// removeAll removes applications of which nothing is left.
func (m *Manager) removeAll() {
	for {
		id, shutdown := m.leaving.Get()
		if shutdown {
			return
		}
		if err := m.remove(id); err != nil {
			m.log.Debug("an application of which nothing is left cannot be removed yet", "app", id, "err", err)
			m.leaving.AddRateLimited(id)
		} else {
			m.leaving.Forget(id)
		}
		m.leaving.Done(id)
	}
}

func (m *Manager) remove(id string) (err error) {
	m.handleNow(func() []call {
		m.mu.Lock()
		defer m.mu.Unlock()
		a := m.book.apps[id]
		if a == nil && !m.orphaned(id) || a != nil && len(a.objects)+len(a.tasks) > 0 {
			return nil
		}
		return []call{func(amp protocol.ApplicationManagementProtocol) {
			if amp.GetApplication(id) == nil {
				m.forget(id)
				return
			}
			if a != nil {
				amp.NotifyApplicationComplete(id) // placeholders are no more of use
			}
			if err = amp.RemoveApplication(id); err == nil {
				m.forget(id)
			}
		}}
	})
	return err
}

func (m *Manager) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.book.apps, id)
}

// group returns the name of the task group that a pod is a member of. m.mu is held.
func (m *Manager) group(pod *v1.Pod, a *app) string {
	if task, _ := workload.ParseTask(pod); task.Placeholder {
		return task.TaskGroupName
	}
	groups := a.meta.TaskGroups
	name, err := m.program.groupOf(pod, m.deps.SchedulerName)
	if err != nil {
		m.log.Warn("the task group of a pod cannot be told", "err", err)
	}
	if name == "" && m.program.podGroup == nil && len(groups) == 1 {
		return groups[0].Name
	}
	for i := range groups {
		if groups[i].Name == name {
			return name
		}
	}
	return ""
}
