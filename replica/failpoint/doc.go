// Package failpoint ends the process at a chosen place, as a crash would.
//
// In a normal build Hit does nothing and costs nothing: it is empty, and the
// compiler removes the call. Built with the tag `failpoints`, the process kills
// itself with SIGKILL at the N-th hit of one armed point:
//
//	UNDERSTUDY_FAILPOINT=mirror/before-commit      at the first hit
//	UNDERSTUDY_FAILPOINT=mirror/before-commit:40   at the 40th
//	UNDERSTUDY_FAILPOINT=bind/before:40:stop       SIGSTOP instead: it freezes
//
// UNDERSTUDY_FAILPOINT_FILE names a file that holds the same instead. The process
// that dies of it removes the file, so that the next one in the same environment
// lives. A running process is armed through Handler: `POST ?arm=NAME[:N][:stop]`
// counts from the next hit on, an empty arm disarms, and GET lists the hits so far. A
// replica serves it at /debug/failpoint.
//
// With `POST ?hold=NAME` whoever passes that point waits there until
// `POST ?release=NAME`. One that is never released makes that part of the process
// hang, and leaves all others at work.
//
// The points are:
//
//	mirror/before-commit   a batch is about to be sent to etcd
//	mirror/after-commit    etcd has committed it, and nobody here knows yet
//	bind/before, bind/after     around a request that binds a pod
//	promote/claiming       a lead is about to claim its epoch: etcd has not been asked
//	promote/claimed, promote/reconciled, promote/engine-released
//	                            steps of a recovery, each just done
//	informer/pod           a change of a pod is about to be heeded
//	loop/step              events are about to be stepped by the lead's loop
//	engine/predicates      the core asks whether a pod fits a node
//	manager/handle         an app manager is about to handle a change of a pod
//	view/change            changes of the mirror are about to be applied to a view
//
// Built with the tag, guards can also be switched off, to show that the checks
// of the end-to-end tests find what a guard prevents:
//
//	UNDERSTUDY_GUARDS_OFF=term,etcd-fence
package failpoint

// The points that this repository has.
const (
	BeforeCommit = "mirror/before-commit"
	AfterCommit  = "mirror/after-commit"
	PodChanged   = "informer/pod"
	ViewChange   = "view/change"
	Claiming     = "promote/claiming"
	// The places where a part of a lead is made to hang.
	LoopStep      = "loop/step"
	Predicates    = "engine/predicates"
	BindBefore    = "bind/before"
	ManagerHandle = "manager/handle"
)

// The guards that tests can switch off.
const (
	// TermGuard ends work, and refuses requests, when the term is over.
	TermGuard = "term"
	// EtcdFence makes etcd refuse writes of an older epoch.
	EtcdFence = "etcd-fence"
	// CommitGuard holds effects back until what causes them is durable.
	CommitGuard = "commit-before-act"
	// RecoveryGuard tells an understudy's engine of the allocations that exist.
	RecoveryGuard = "recovery"
	// ReconcileGuard brings a new lead's ledger in agreement with the cluster.
	ReconcileGuard = "reconcile"
	// UsageGuard keeps a lead from an engine whose account is not the ledger's.
	UsageGuard = "usage"
	// BarrierGuard has a new lead wait until its view has everything up to its claim.
	BarrierGuard = "barrier"
	// GossipGuard takes the silence of a replica for a hint, and for no proof that
	// it is dead.
	GossipGuard = "gossip"
	// ProofGuard has a supervisor release the Lease for its own child alone.
	ProofGuard = "proof"
	// EpochFloor has an epoch be above all that etcd knows, whatever the Lease says.
	EpochFloor = "epoch-floor"
	// Recoverable, followed by the name of an app manager, has a promotion ask that manager.
	Recoverable = "recoverable-"
	// BudgetGuard bounds how long a step of a promotion may take.
	BudgetGuard = "budget"
	// PodBarrier keeps a new lead from acting on a stale picture of the pods.
	PodBarrier = "pod-barrier"
)
