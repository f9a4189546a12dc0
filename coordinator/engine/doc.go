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
// # Where applications are
//
// An application stays in the queue in which it was placed first until it ends, in
// every replica, whatever the configuration says later. A queue that is configured no
// more drains: its applications go on under its limits, their new pods included, and
// it takes no others. That is what YuniKorn does as long as it lives. A restart of
// YuniKorn places everything anew, by the rules of the day, and puts what has no queue
// any more into root.@recovery@, where no limit holds: it has forgotten where
// applications were. A failover forgets nothing. The ledger knows the queue, the
// mirror knows the limits of queues that are gone, and home.go takes applications
// there.
//
// root.@recovery@ is left for applications of which nobody knows the queue and that no
// rule places, and for those whose queue has queues below it by now, or is below one
// that has none: the core schedules nothing there. A lead leaves them where they are,
// for it cannot move what runs. Who leads after it has them in root.@recovery@, and
// says so in the ledger.
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
