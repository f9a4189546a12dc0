// Package engine is the adapter between the ledger and yunikorn-core, which
// decides in process where pods run. Effects of the ledger become requests to
// the core; what the core answers becomes events for the ledger.
//
// # Guarantees
//
//   - An engine starts held: it can be fed nodes, applications, allocations and
//     asks, but it places nothing, and nothing it says leaves this package
//     until Engage. What it said meanwhile and is still true is said then.
//   - After Stop has returned, no event leaves this package.
//   - A callback of the core never blocks and never panics: it updates a table
//     and a queue, and one goroutine of this package feeds the Sink from there,
//     in order.
//   - Every method may be called again with the same argument: what the core
//     has already is not sent twice, and what it answered already is answered
//     again.
//   - An allocation that the core is told of is never reported back as a new
//     decision.
//   - Restored allocations and foreign pods whose node is not known yet wait
//     for it, in whatever order informers deliver.
//   - Before the Sink hears of an allocation, the predicates cache counts it.
//
// # How the core is held
//
// A node is registered draining and without capacity, and nothing else: with
// capacity, asks that require the node and placeholder swaps would still go
// through. Engage first waits until the core has digested everything it was
// fed, then gives nodes their capacity and makes them schedulable. Without any ask
// in the core that may be done before, by Open, while the engine is still held: the
// predicates refuse everything until Engage.
//
// # One per process
//
// The core keeps plugins, users, metrics and configuration in globals and
// cannot be reset, so Start works once per process. Its web service, which
// would listen on a port of its own, is not started.
//
// # What the core must be kept from
//
// The core does not expect its shim to be quick. Where two of its goroutines
// meet over an application, an ask or a node that is on its way out, it panics
// or charges a queue for ever. lifecycle.go, grants.go and release.go say what
// is done about that; churn_test.go looks for more.
//
// # Deliberate differences from the original shim
//
//   - Asks carry no creation time: the core knows whole seconds only, and would
//     order applications of the same second at random. Without it the core
//     takes the order of submission, which the ledger keeps across failovers.
//   - Applications without pods are completed here, not by the core's timer. If
//     the core has dropped one while a task of it was on its way, application
//     and task are submitted again instead of being rejected.
package engine
