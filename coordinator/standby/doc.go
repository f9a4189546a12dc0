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
// It guarantees that
//
//   - whoever is ready has an engine that has taken all that it was fed, and has looked at
//     every task once;
//   - a task belongs to the application that the ledger says, whatever the labels of its
//     pod say later.
package standby
