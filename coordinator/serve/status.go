package serve

import "time"

// Role is what a replica does at the moment.
type Role string

// The roles, in the order in which a replica goes through them.
const (
	// Understudy follows the lead.
	Understudy Role = "understudy"
	// Recovering holds the Lease and is not yet caught up.
	Recovering Role = "recovering"
	// Lead schedules.
	Lead Role = "lead"
	// Exiting has ended its term, or never had one, and stops.
	Exiting Role = "exiting"
)

// Status is what /statusz and `understudy status -o json` show of one replica.
type Status struct {
	Replica     string `json:"replica"`
	Incarnation string `json:"incarnation"`
	Role        Role   `json:"role"`
	// Epoch is the epoch of the own term; zero for a replica that leads nothing.
	Epoch  uint64 `json:"epoch"`
	Leader Leader `json:"leader"`
	Mirror Mirror `json:"mirror"`
	View   View   `json:"view"`
	Counts Counts `json:"counts"`
	Fence  Fence  `json:"fence"`
	// Configuration is the queue configuration in force here.
	Configuration Configuration `json:"configuration"`
	// Accounting is how the accounts of a lead agreed last, nil where that is not known.
	Accounting *Accounting `json:"accounting,omitempty"`
	// Managers are the app managers, in the order of the configuration.
	Managers []Manager `json:"managers"`
	// Suspended says in words which guarantees do not hold at the moment, such
	// as durability while etcd is away. Empty when all is well.
	Suspended []string `json:"suspended"`
	// Terms is the history of leadership, newest first.
	Terms []Term `json:"terms"`
	// Members are the replicas that gossip knows of, this one first; empty without
	// gossip. It tells how they were a moment ago, and proves nothing.
	Members []Member `json:"members,omitempty"`

	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// UptimeSeconds is how long the process has been running.
	UptimeSeconds float64 `json:"uptimeSeconds"`
	// Restarts is how often its supervisor has started it again, and LastEnd how the
	// process before it ended, nil if there was none.
	Restarts int  `json:"restarts"`
	LastEnd  *End `json:"lastEnd,omitempty"`
}

// Manager is an app manager of a replica.
type Manager struct {
	Name string `json:"name"`
	// Problem is how it failed last, empty if it never did.
	Problem string `json:"problem,omitempty"`
	// Noted is how many reports of it wait for this replica to lead, because the state
	// that it follows does not agree with them.
	Noted int `json:"noted"`
	// Applications is how many it has that have not ended.
	Applications int `json:"applications"`
	// Resources are those of its own that it follows.
	Resources []Resource `json:"resources,omitempty"`
}

// Resource is one that an app manager follows.
type Resource struct {
	// Name is group/version, Kind=kind, and Served says that the API server has it.
	Name   string `json:"name"`
	Served bool   `json:"served"`
	// Objects is how many of it there are.
	Objects int `json:"objects"`
	// LastError is why it could not be read last; empty while it can.
	LastError string `json:"lastError,omitempty"`
}

// Reason is a word for how a process ended.
type Reason string

// The reasons.
const (
	// Ended is for one that ended by itself, without complaint.
	Ended Reason = "ended"
	// Crashed is for one that ended in error or by a signal.
	Crashed Reason = "crashed"
	// Hung is for one that was ended because it did not get on.
	Hung Reason = "hung"
)

// End is how a process ended.
type End struct {
	Incarnation string    `json:"incarnation"`
	At          time.Time `json:"at"`
	Reason      Reason    `json:"reason"`
	// How says it in words.
	How string `json:"how"`
	// Epoch is the newest in which it led, zero if it never did.
	Epoch uint64 `json:"epoch,omitempty"`
}

// Fence is whether the API server refuses what was decided in a term that is
// over, as this replica last found out by a dry run.
type Fence string

// The answers.
const (
	FenceUnknown  Fence = "unknown"
	FenceAbsent   Fence = "absent"
	FenceEnforced Fence = "enforced"
)

// Configuration says which queue configuration is in force.
type Configuration struct {
	// Source is "configmap", or "mirror": the last one that a lead took for valid, while
	// that of the ConfigMaps is not. Empty while there is none, and the replica waits.
	Source string `json:"source"`
	// Accepted is when it was taken, Epoch the term of the lead that wrote it, where
	// it comes from the mirror.
	Accepted time.Time `json:"accepted,omitzero"`
	Epoch    uint64    `json:"epoch,omitempty"`
	// Error is why the configuration of the ConfigMaps is not in force; empty if it is, or
	// waits.
	Error string `json:"error,omitempty"`
	// Hash tells it from others, and Waiting is the hash of the one that the ConfigMaps have,
	// while that waits for this replica to be started again: hot refresh is off.
	Hash    string `json:"hash,omitempty"`
	Waiting string `json:"waiting,omitempty"`
	// Restart has the keys whose values this replica takes on when it is started again, which
	// it is when its turn has come.
	Restart []string `json:"restart,omitempty"`
}

// Accounting says whether the ledger and the core count what the pods take.
type Accounting struct {
	Checked time.Time `json:"checked"`
	// Drift has a sentence for each amount that differs, More how many there are besides.
	Drift []string `json:"drift,omitempty"`
	More  int      `json:"more,omitempty"`
}

// Leader is who leads, as this replica sees it.
type Leader struct {
	Identity string `json:"identity"`
	Epoch    uint64 `json:"epoch"`
	// LeaseSeconds is how long the others wait after the last sign of life; zero while
	// nobody holds the Lease. LeaseStretched says that it is more than what is configured
	// here: the API server is slow.
	LeaseSeconds   float64 `json:"leaseSeconds"`
	LeaseStretched bool    `json:"leaseStretched"`
}

// Mirror is how the lead's writes to etcd fare. On an understudy only the
// policy is set.
type Mirror struct {
	// Revision is the etcd revision of the last write.
	Revision int64 `json:"revision"`
	// Pending is how many records wait to be written.
	Pending int `json:"pending"`
	// Suspended says that effects run ahead of durability, since Since.
	Suspended bool      `json:"suspended"`
	Since     time.Time `json:"since,omitzero"`
	Policy    string    `json:"policy"`
	LastError string    `json:"lastError,omitempty"`
}

// View is how far this replica has followed the mirror.
type View struct {
	Synced bool `json:"synced"`
	// Revision is the etcd revision up to which everything has been applied.
	Revision int64 `json:"revision"`
	// Lag is how many revisions the view is behind etcd. Other users of the same
	// etcd count too.
	Lag       int64 `json:"lag"`
	Connected bool  `json:"connected"`
	// Refused lists records that could not be read.
	Refused   []Refused `json:"refused,omitempty"`
	LastError string    `json:"lastError,omitempty"`
}

// Refused is a record of the mirror that could not be read, and why.
type Refused struct {
	Key   string `json:"key"`
	Error string `json:"error"`
}

// Counts is how many applications and tasks there are in each state.
type Counts struct {
	Apps  map[string]int `json:"apps"`
	Tasks map[string]int `json:"tasks"`
}

// Term is one term of leadership.
type Term struct {
	Epoch       uint64    `json:"epoch"`
	Incarnation string    `json:"incarnation"`
	Started     time.Time `json:"started"`
	// Ended is zero while the term lasts, or where its end was not recorded.
	Ended time.Time `json:"ended,omitzero"`
	// Reason says why the term began, EndReason why it ended.
	Reason    string `json:"reason"`
	EndReason string `json:"endReason,omitempty"`
	// Timings are the steps of the recovery, in order.
	Timings []Timing `json:"timings,omitempty"`
}

// Member is a replica as gossip shows it.
type Member struct {
	Replica     string `json:"replica"`
	Incarnation string `json:"incarnation"`
	Address     string `json:"address"`
	// Gone says that it has left or fallen silent.
	Gone  bool      `json:"gone,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Role  Role      `json:"role,omitempty"`
	Ready bool      `json:"ready"`
	// Missing says in short why it could not lead at once.
	Missing  string `json:"missing,omitempty"`
	Epoch    uint64 `json:"epoch"`
	Revision int64  `json:"revision"`
	Lag      int64  `json:"lag"`
	HTTP     string `json:"http,omitempty"`
	// Template is the version of the pod template that it was made from.
	Template string `json:"template,omitempty"`
	// Configuration is the hash of the queue configuration in force there.
	Configuration string `json:"configuration,omitempty"`
}

// Timing is when a step of a recovery was complete.
type Timing struct {
	Step string    `json:"step"`
	At   time.Time `json:"at"`
	// Millis counts from the start of the term.
	Millis float64 `json:"ms"`
}

// Check is one condition of readiness.
type Check struct {
	// Name is a short word such as "view"; /readyz lists the checks by it.
	Name string
	// Err says what is missing; nil means passed.
	Err error
	// Fatal marks a condition that only a restart can restore. Where it fails
	// /livez fails too; everything else leaves /livez alone, because restarting
	// a replica that waits for etcd makes nothing better.
	Fatal bool
}

// Source is asked for snapshots. Both methods are called from many goroutines
// at once and return without waiting for anything.
type Source interface {
	Status() Status
	Checks() []Check
}
