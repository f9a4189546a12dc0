package term

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/coordinator/standby"
	"github.com/understudy-ha/understudy/coordinator/telemetry"
	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/view"
)

// Deps is what a term works with. All of it outlives the term. What has no comment is
// what its type says; all of it is required but Events and Refusals.
type Deps struct {
	Incarnation string
	Keys        record.Keys
	Budgets     Budgets
	// History says which applications that have ended are remembered.
	History ledger.History

	Standby Standby
	View    View
	// Claim makes the epoch of leader the one that etcd accepts writes of, and returns
	// the mirror that writes them and the revision of the claim. begun is the record of
	// the term so far, which is written with it. It goes on until ctx ends while etcd
	// does not answer.
	Claim func(ctx context.Context, leader record.Leader, begun record.Term) (Mirror, int64, error)
	// Barrier waits until the informers have caught up with the API server.
	Barrier func(ctx context.Context, epoch uint64) error
	// Executors makes what carries out effects on the cluster in the name of a term;
	// sink hears of the outcome.
	Executors func(tenure kube.Tenure, sink kube.Sink) Executors
	// Resume campaigns again after a term that lapsed, for as long as nobody else
	// has held the Lease since.
	Resume func(ctx context.Context) (*election.Term, error)

	// Successor names who should lead next, given who was asked for.
	Successor func(asked string) string
	// Look has the elector read the Lease.
	Look func()
	// Role is told of each change of role.
	Role func(role serve.Role, epoch uint64)
	// Leads is told once this replica leads.
	Leads func()
	// Stopped is told of a term whose Lease could not be renewed, once all its work has
	// stopped: nobody has to wait for the Lease to expire. It must return at once.
	Stopped func(epoch uint64)

	Events, Refusals *prometheus.CounterVec
	Tracing          *telemetry.Tracing
	Standing         *telemetry.Standing
	Log              *slog.Logger
	Now              func() time.Time
}

// Standby is the understudy that this replica was, which a term takes over. See
// package standby for the methods.
type Standby interface {
	Open() error
	Promote(p standby.Promotion) standby.Reconciled
	Verify(ctx context.Context, state *ledger.Ledger) (engine.Mismatches, error)
	SetAside(ctx context.Context, state *ledger.Ledger, apps []string) (standby.Reconciled, error)
	Begin(ctx context.Context) error
	Do(effect ledger.Effect) error
	Announce()
	Durable(changes []ledger.Change)
	Replay()
	Stop()
	Probes() []Probe
	Configuration() standby.Configuration
}

// View is the follower of the mirror, as package view has it.
type View interface {
	WaitRevision(ctx context.Context, revision int64) error
	Status() view.Status
	Take() (*ledger.Ledger, record.Digest)
}

// Mirror writes the changes of a lead, as package mirror has it.
type Mirror interface {
	Append(changes []ledger.Change, done func())
	AppendLater(changes []ledger.Change, done func())
	PutTerm(term record.Term)
	PutConfiguration(c record.Configuration)
	Run(ctx context.Context) error
	Flush(ctx context.Context) error
	Status() mirror.Status
	// Reclaim claims a newer epoch over the one that this mirror has claimed, and
	// fails if anybody else has claimed one since.
	Reclaim(ctx context.Context, leader record.Leader) (revision int64, err error)
}

// Executors carry out effects on the cluster.
type Executors interface {
	// Do takes an effect and does not wait.
	Do(effect ledger.Effect)
	// Forget drops what is remembered of a pod that is gone.
	Forget(taskID string)
	// Stop returns when nothing is under way any more.
	Stop()
	// Probes tell whether work is done.
	Probes() []Probe
}

// Probe tells whether one part of a lead gets on with its work.
type Probe = standby.Probe
