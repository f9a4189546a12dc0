package managers

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
)

// Deps is what an app manager is made from. All of it outlives the manager. Objects that
// it gives are shared and must not be changed.
type Deps struct {
	// Name is that of the manager in the configuration. AppManager.Name has to return
	// it: the records of its applications carry it.
	Name string
	// Settings decodes what the configuration says of this manager into a struct with
	// yaml tags. A field that the struct does not have is an error. Nil for nothing.
	Settings func(into any) error

	// Protocol is where the manager reports, from Start on, whatever the role of the
	// replica: see Gate.
	Protocol protocol.ApplicationManagementProtocol
	// Cluster is what this replica knows of pods and namespaces.
	Cluster Cluster
	// Reads reads and watches any resource, Discovery says which there are.
	Reads     dynamic.Interface
	Discovery discovery.DiscoveryInterface
	// Writes changes any resource. While this replica does not lead, each change fails
	// with kube.ErrFenced.
	Writes dynamic.Interface

	// SchedulerName is the spec.schedulerName of the pods to schedule, and UserLabel the
	// key of the label that names the user of a pod.
	SchedulerName, UserLabel string
	// UniqueAppID gives each pod that names no application one of its own, unless the
	// manager's settings say otherwise.
	UniqueAppID bool
	// Resources returns what a pod requests, in the engine's units.
	Resources func(*v1.Pod) map[string]int64

	// Claimed names the manager before this one to which a pod belongs: see Claimer. It
	// is empty for a pod that may be this manager's.
	Claimed func(pod *v1.Pod) string

	// Problems tells users what could not be read of their pod, and Event anything about
	// any object. While this replica does not lead nothing is told. Both return at once.
	Problems func(pod *v1.Pod, found []workload.Problem)
	Event    func(about v1.ObjectReference, warning bool, reason, message string)

	Now func() time.Time
	Log *slog.Logger
}

// Cluster is where a manager sees pods.
type Cluster interface {
	// PodInformer watches the pods of all namespaces.
	PodInformer() cache.SharedIndexInformer
	// Namespace returns the namespace, or nil if it is not known.
	Namespace(name string) *v1.Namespace
}

// Constructor makes a manager. It starts nothing, and fails for settings that are not
// valid.
type Constructor func(Deps) (protocol.AppManager, error)

// Registry has the managers that a binary can run, by type.
type Registry map[string]Constructor

// Entry enables a manager.
type Entry struct {
	// Name is that of the manager, Type that of its constructor; empty for the same.
	Name, Type string
	// Settings decodes the settings: see Deps.
	Settings func(into any) error
}

// Check returns what is wrong with entries, before any of them is made.
func (r Registry) Check(entries []Entry) error {
	var errs []error
	seen := make(map[string]bool)
	for _, e := range entries {
		if _, ok := r[e.kind()]; !ok {
			known := slices.Sorted(maps.Keys(r))
			errs = append(errs, fmt.Errorf("app manager %s: there is no type %q, want one of %s", e.Name, e.kind(), strings.Join(known, ", ")))
		}
		if seen[e.Name] {
			errs = append(errs, fmt.Errorf("app manager %s is enabled twice", e.Name))
		}
		seen[e.Name] = true
	}
	return errors.Join(errs...)
}

func (e Entry) kind() string {
	if e.Type != "" {
		return e.Type
	}
	return e.Name
}

// Make makes the manager of an entry; deps is the rest of what it is made from.
func (r Registry) Make(e Entry, deps Deps) (protocol.AppManager, error) {
	deps.Name, deps.Settings = e.Name, e.Settings
	if deps.Settings == nil {
		deps.Settings = func(any) error { return nil }
	}
	deps.Log = deps.Log.With("manager", e.Name)
	manager, err := r[e.kind()](deps)
	if err != nil {
		return nil, fmt.Errorf("app manager %s: %w", e.Name, err)
	}
	if manager.Name() != e.Name {
		return nil, fmt.Errorf("app manager %s calls itself %q", e.Name, manager.Name())
	}
	return manager, nil
}

// Follower is implemented by a manager that wants to hear what becomes of its
// applications, such as to write it into the status of a resource.
type Follower interface {
	// AppChanged is told of each change of an application of this manager, once it is
	// durable, and of every application that is known when this replica begins to lead:
	// of one that has ended, its predecessor may not have come to write so. It is called
	// by the lead's loop and must return at once.
	AppChanged(AppStatus)
}

// AppStatus is what a Follower is told.
type AppStatus struct {
	ApplicationID string
	// State is its name, such as Running; empty for an application that is gone.
	State string
	// Message says why it is in that state; empty if nothing has been said.
	Message string
	// Queue is where the engine has placed it; empty before that.
	Queue string
	Since time.Time
}

// Group is a task group without placeholders: its tasks are bound all or none.
type Group struct {
	Name string
	// UID tells a group from another that takes its name.
	UID string
	// Wanted is how many tasks have to have a node before any of them is bound. Zero says
	// that the group does not exist: its tasks wait.
	Wanted int32
	// Whole says that as many have had one already.
	Whole bool
	// Priority is that of all its tasks, nil for that of each pod.
	Priority *int32
	// Yields says that its tasks preempt no others, Together that they may not be preempted
	// one by one.
	Yields, Together bool
}

// Grouper is what the protocol of a manager has besides: see Gate.
type Grouper interface {
	// SetGroup says how a group of an application is. It may say the same again. It comes
	// before the tasks of the group, and after the application.
	SetGroup(appID string, group Group)
}

// GroupFollower is implemented by a manager that wants to hear what becomes of the groups
// that it has set.
type GroupFollower interface {
	// GroupsChanged is told of all groups of an application when, and as, AppChanged would
	// be told of the application. There are none of one that is gone.
	GroupsChanged(appID string, groups []GroupStatus)
}

// GroupStatus is what a GroupFollower is told.
type GroupStatus struct {
	Name, UID string
	// Whole says that as many tasks as were wanted have had a node. It stays so.
	Whole bool
	// Reason and Message say why it was not whole when that was tried last; empty if it has
	// not been tried yet.
	Reason, Message string
}

// Claimer is implemented by a manager that can tell from a pod alone that it is one of
// its own. A pod that several managers report belongs to the first of them, in the order
// of the configuration: what a later one reports of a pod that an earlier one claims is
// left out. Without Claimer the manager that reports a pod first has it.
type Claimer interface {
	Claims(pod *v1.Pod) bool
}

// Replayer is implemented by a manager that can report again what it has reported while
// its replica did not lead; nothing is noted for it then.
type Replayer interface {
	// Between calls do while the manager handles nothing.
	Between(do func())
	// Replay reports pods that wait, and that the lead does not know, and whatever else
	// the manager has to report that no pod tells. It returns early if the manager is
	// stopped.
	Replay(pods []*v1.Pod)
}

// Prober is implemented by a manager without which nothing is scheduled: a lead whose
// manager makes no progress ends its term.
type Prober interface {
	// Progress returns whether something is being handled, and how much has been. It
	// does not wait.
	Progress() (busy bool, done uint64)
}

// Describer is implemented by a manager that follows resources of its own.
type Describer interface {
	// Describe returns at once.
	Describe() []serve.Resource
}

// Syncer is implemented by a manager that can tell when it has seen what existed when it
// was started. A replica is not ready before.
type Syncer interface {
	HasSynced() bool
}
