// Package election decides which replica leads, and under which epoch.
//
// Replicas compete for one coordination.k8s.io/v1 Lease. Whoever holds it gets
// a Term: an epoch, a deadline up to which it may act, and a context that ends
// with a cause. Lease is the door of the house; nobody leads without having
// come in through it.
//
// # Guarantees
//
// At most one Term is valid at any moment, however slow the API server is and
// whatever the wall clocks say. A Term is valid for RenewDeadline after the
// moment its last successful write was sent; everyone else waits for at least
// LeaseDuration after they saw that write. A response that arrives late extends
// nothing beyond what its send time allows, and a write whose answer is late or lost
// counts when the Lease is seen to carry it; and a Term that is over stays over.
//
// Epochs rise strictly: a new epoch is greater than the Lease's
// leaseTransitions, greater than what knownEpoch (the mirror in etcd) has on
// record and greater than any epoch this elector has seen; edits of leaseTransitions
// that no term can have made do not count, see below. Deleting or wiping
// the Lease does not bring an old epoch back. leaseTransitions is raised on
// every acquisition, also when the same identity acquires again; client-go
// raises it only when the holder changes, which is harmless: its value never
// falls, so an epoch that was in the Lease is never reached from below again.
// (The one window left, a Lease wiped with all its metadata before the new lead
// could claim its epoch and an elector that has never seen that Lease, is closed
// by the claim itself, which succeeds only over an older epoch.)
//
// Work that outlives its Term ends with the process: the watchdog calls
// Config.Expired if neither Finished nor Release has been called by the time
// the Lease could be taken by others.
//
// # Slow API servers
//
// The duration on the Lease is the holder's to choose, and others believe it. When
// writes take long until they are known to have landed, the next ones promise more, up
// to Config.MaxLeaseDuration; RenewDeadline and RequestTimeout gain as much and half as
// much. They approach that in steps: two slow writes among ten are enough for one, however
// quick those between them are; but where a write was so slow that no term lasts, the next
// one promises at once what suits. After twenty quick ones in a row the next write promises
// less, in steps. What a write promises counts from when it was sent: more only once it is known
// to have landed, less at once, as others may have seen it. A write that is lost
// changes nothing, so that an outage is never longer for having begun. Candidates
// wait for what the holder promised and no more; they give reads more time while these
// are not answered.
//
// # When the Lease is taken
//
// At once when it has been released, when this elector's own unanswered write
// turns out to have landed (the epoch that it wrote is led under, unless somebody
// has it on record; the term counts from when the write was sent, and is taken once
// more in the same epoch if too little is left of it), and when there never was a lead. After the full
// lease duration without a change, by the local monotonic clock, in all other
// cases. That includes a Lease that has been deleted or whose holder has been
// wiped by somebody other than the holder: the lead may not have noticed yet.
// The two are told apart by an annotation with the epoch that the holder keeps
// and that only a release removes (client-go's release can wipe the Lease of a
// successor; its own Lease carries a higher leaseTransitions than the
// annotation, so its honest releases are recognised).
//
// A Lease whose leaseTransitions are more than a million above what knownEpoch has on
// record, or leave no room for the next epoch, has been edited: no term had that epoch.
// It counts as wiped, whatever else it says, and is deleted once it has been left alone
// for as long; the next epoch follows what is on record. An epoch beyond that bound is
// never taken, so that none comes to be on record. It is deleted rather than
// put right because the API server's fence tells terms of one Lease by their epochs,
// which must not fall, and terms of two by the UID. Editing the annotation does no more
// than make a release look like a wiped Lease.
//
// At once, too, from a holder that is proven dead: see below; and when the holder
// itself has stated that its term of that epoch is over and its work has stopped
// (TermEnded), or is this elector, whose last term was not renewed in time and is
// finished. Both hold for that epoch alone, and for none that is older than what is
// on record elsewhere. A late renewal of such a term may still arrive: the taking
// is a compare-and-swap, and what arrives is of the same term, which is over.
//
// A released Lease may name a preferred successor; others then hold back for
// Config.PreferredWait. Kubernetes drops spec.preferredHolder unless the
// CoordinatedLeaderElection gate is on and a strategy is set, so a release
// writes an annotation; both are read.
//
// A release and a Depose leave the trace of the context they are called with on
// the Lease, under AnnotationTrace: so a failover is one trace from the process
// that gave the Lease up, or saw its holder die, to the one that took it.
//
// # Proof of death
//
// A crash need not wait for the Lease to expire, if there is proof that the
// process of the holder has ended. Two things are:
//
//   - Its parent has waited for it (package supervise). The parent releases the
//     Lease in its place, with Depose: a compare-and-swap that clears the holder if
//     it is the one that is known to be dead, and notes when it died.
//   - The kubelet reports its container terminated, with a termination message that
//     names the incarnation. The understudies see that in the status of the pod, tell
//     their electors (ProvenDead), and one takes the Lease from the dead, again by
//     compare-and-swap.
//
// The second covers what takes the parent along: the kernel that kills a container
// for its memory kills all of it. It is proof of this incarnation and no other, for
// the kubelet (v1.37, kuberuntime_container.go) makes a new file for the termination
// message of every container it starts, and reports what is in it only when the
// container runtime says that this container has exited. To compare the start of a
// container with that of the incarnation would not do: the API has whole seconds
// only, and one that crashes at once is started again within the same. Nor would a
// terminated state as such: the kubelet writes one, with a text of its own, when it
// cannot find a container.
//
// Everything else is a hint at best. A pod that has been deleted or that a
// controller has set to phase Failed, a node that is not ready and a replica that
// does not answer may all be cut off and at work. Whoever may write the status of
// the replicas' pods is trusted as the kubelet is.
//
// What the dead sent before they died may still arrive after a successor has begun.
// Its epoch is the older one, as is that of a lead that was frozen for long.
//
// # Beside client-go
//
// client-go's LeaderElector (v0.37) may contend for the same Lease. It judges
// expiry by the leaseDurationSeconds found in the record (older ones by their
// own configuration, which must then not be shorter than ours), since it last
// saw the record change. It compares records with times cut to whole seconds, so
// that it may miss all renewals but the first of a second: its clock may start
// up to a second early. Config.Margin covers that, which is why it is never less
// than a second. In the other direction the elector waits for the longer of the
// record's duration and its own, because client-go rounds its duration down.
//
// What cannot be repaired from here: a client-go leader counts its deadline from
// the response and not from the request, and a client-go candidate takes a
// deleted or wiped Lease at once.
package election
