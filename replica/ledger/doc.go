// Package ledger is the state of applications and tasks, and nothing else: no
// clock, no I/O, no goroutine, no log, no lock. Time arrives in events.
//
// A lead steps events (Step) and gets back a Delta: the records that changed,
// and the effects that somebody else has to carry out once those changes are
// durable. An understudy, and a lead that recovers, applies the changes of
// others (Apply). Both arrive at the same state. One goroutine owns a Ledger;
// Clone and the records it hands out may be read by any.
//
// It guarantees that
//
//   - applications and tasks move along the tables in machine.go and no other
//     way; an event that does not fit is refused and changes nothing;
//   - after a crash at any point Due asks for exactly the work that no event has
//     confirmed, and Feed for what a new engine has to know first;
//   - a task is one application's, whatever events say later and even if records
//     of older versions say two: see identity.go;
//   - an end that a manager asks for is not lost because the application can not take
//     it yet: see step_ends.go;
//   - deadlines are absolute, so that no failover extends them;
//   - a record that has left the ledger is never changed.
//
// An application:
//
//	New ─► Submitted ──┬─► Accepted ─┬──────────────► Running ─► Completed
//	   └─► Recovering ─┤             └─► Reserving ─►   ▲
//	                   ▼                      │         │
//	               Rejected                   └─► Resuming
//
//	Submitted, Accepted, Reserving, Running ─► Failing ─► Failed ◄─ Rejected
//	Accepted, Reserving, Running ─► Killing ─► Killed
//
// A task:
//
//	New ─► Pending ─► Scheduling ─► TaskAllocated ─► Bound ─► Completed
//
//	New, Pending, Scheduling ─► Rejected ─► Failed ◄─ TaskAllocated
//	Pending, Scheduling, TaskAllocated, Bound ─► Killing ─► Killed
//	any ─► Completed
//
// Applications that are New or Accepted and tasks that are Pending or Rejected
// do not outlast a step; a task stays New only while its application, or its crew, is not
// ready for it. A task whose node is lost before it was bound fails and begins
// anew in the same step. An application that has become idle is completed when
// the engine or its manager says so, not before.
//
// An application with task groups reserves first: placeholder pods are created
// and bound, then the engine swaps them for the real tasks one by one. Only
// placeholders are asked for while Reserving, only real tasks while Running.
//
// A crew is a task group without placeholders: see Crew. Its tasks are New until there are
// as many as it wants, and TaskAllocated until as many have a node. Then all are bound. If
// that takes too long they give back what they have, and begin anew after a pause.
package ledger
