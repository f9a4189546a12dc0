package protocol

import (
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
)

// AppManager follows the life of one kind of application and reports it to the
// coordinator through the ApplicationManagementProtocol it was built with.
type AppManager interface {
	// Name identifies the manager in records, logs and status. It must be
	// unique among the managers of a coordinator and must not change between
	// versions, for the records of its applications carry it.
	Name() string

	// ServiceInit prepares what Start needs. It must not start goroutines. After an
	// error the manager is not started: see Start.
	ServiceInit() error

	// Start begins to watch and report; it must not wait for the watched
	// objects to appear. After an error the manager is named in log and status, its
	// applications stay as they are recorded, and the replica does without it.
	Start() error

	// Stop ends what Start began and returns when all of it has ended: no
	// protocol call may be made after it. Stop without Start does nothing.
	Stop()
}

// Recoverable is implemented by an AppManager whose applications can be told
// from the cluster alone. When a replica becomes lead, the coordinator asks about what
// it finds in the cluster and not in the records of its predecessor. The manager has been
// started by then.
type Recoverable interface {
	// ListApplications returns the applications of this manager that hold
	// resources, by application ID. A partial listing must never be returned as a
	// whole one: after an error, applications that the records lack stay unknown.
	ListApplications() (map[string]ApplicationMetadata, error)

	// GetExistingAllocation returns the allocation that an assigned pod of this
	// manager holds, or nil where the pod holds none: not assigned, terminated,
	// or not this manager's. The pod is shared and must not be changed.
	GetExistingAllocation(pod *v1.Pod) *si.Allocation
}
