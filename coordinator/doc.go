// Package coordinator is a replica of Understudy: it follows the lead, and when
// it wins the Lease recovers and leads until its term ends.
//
// A role is a function call. Run starts what every role needs (informers, view,
// elector, HTTP endpoints) and plays the roles once: awaitReady and Campaign
// (understudy), recover (recovering), loop.run (lead). Losing the term is
// a return from there, with the cause; everything that exists only in a term is
// made and taken down by serveTerm. The process then ends, because yunikorn-core
// can not be reset in place, and whoever supervises it starts a fresh
// understudy.
//
// It guarantees that
//
//   - nothing is bound, created, deleted or reported before the change that
//     causes it is durable in etcd (loop), unless the mirror's policy
//     "available" has suspended that while etcd is away;
//   - a lead acts only after its view has applied its own claim and its
//     informers have caught up with the API server (recover);
//   - no request that writes is sent after the term is over (the transport of
//     package kube asks guard before each).
package coordinator
