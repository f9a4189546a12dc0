// Package standby is what an understudy does all day: it keeps ready, beside its view
// of the mirror, what a lead needs, so that taking over costs what has changed and not
// what exists.
//
//   - An engine that is fed and held (feed.go): every change of the view is told to it,
//     so that it knows at any time what a new one would be told. Asks are not fed.
//   - What ledger and cluster do not agree about (suspects.go): every change of a task in
//     the ledger or of a pod in the cluster makes it a suspect, until both are seen to
//     agree. A promotion looks at those that are left, and at nothing else.
//   - An app manager that knows all pods (follow.go): it speaks to a protocol that only
//     takes notes, and is given the lead's on promotion.
//
// A lead takes the standby over as it is (promote.go): it is promoted once, and works as
// the lead's engine and manager until Stop.
//
// What users are told is not lost with the lead that was about to tell it, as far as records
// and objects say what it was. Every lead compares the status of Applications, the conditions
// of PodGroups and those of pods with what they should be. An Event says nowhere whether it
// has been told, so that its name follows from what it tells, and it may be told again:
//
//   - what managers say, by every replica; what a follower has not said is kept for a minute,
//     and said when it leads (tell.go);
//   - what the records say that was decided lately, or has failed and is tried again, by a new
//     lead (ledger.Recent).
//
// Lost with a lead are Events about what records do not keep: that a task has completed, was
// preempted, or names another application; the steps of a gang; that the phase of a pod
// could not be written. Lost with all replicas is what managers said of an object that has
// changed since.
//
// It guarantees that
//
//   - whoever is ready has an engine that has taken all that it was fed, and has looked at
//     every task once;
//   - a task belongs to the application that the ledger says, whatever the labels of its
//     pod say later.
package standby
