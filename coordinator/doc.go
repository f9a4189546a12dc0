// Package coordinator is a replica of Understudy: it follows the lead, and when
// it wins the Lease recovers and leads until its term ends.
//
// A role is a function call. Run starts what every role needs (informers, view,
// standby, elector, gossip, HTTP endpoints) and plays the roles: awaitReady and Campaign
// (understudy), term.Lead.Serve (recovering, lead). Losing the lead is a return from
// there, with the cause. A replica that had taken nothing over yet steps back and
// campaigns again; any other ends its process, because yunikorn-core can not be reset in
// place, and whoever supervises it starts a fresh understudy.
//
// This package wires the rooms of the house and does nothing else. Each says in its own
// doc.go what it guarantees: term (leadership), standby (what an understudy keeps ready),
// loop (the goroutine that owns the ledger), managers (what reports applications), engine
// (what decides where pods run), kube (the cluster).
package coordinator
