// Package managers is where app managers plug in. A Registry has the managers that a
// binary can run, and Deps is what each is made from. A Gate stands between a manager and
// the ledger for the life of the process: it is the application management protocol, and
// what a manager says becomes events of the ledger here and nowhere else. Each folder
// below it is one manager.
//
// It guarantees that
//
//   - nothing that a manager reports to a replica that does not lead is lost: the next
//     lead is told what the ledger does not hold by then, in order;
//   - a call of a manager returns when the term ends, whatever the lead is doing: no
//     manager hangs on a replica that leads no more;
//   - a pod that several managers claim belongs to the first of them in the configuration.
//
// Nobody waits for a manager for long. One that panics or does not return is named in log
// and status, and is not asked the same again before it has returned:
//
//	call                       from                  limit  instead of an answer
//	ServiceInit, Start         start of the process  3 s    it is not started
//	HasSynced                  start of the process  3 s    it is not waited for any more
//	Claims                     another manager       8 s    no
//	GetExistingAllocation      promotion             3 s    it knows none of the pods
//	ListApplications           promotion             3 s    there are none
//	Between                    promotion             3 s    its gate is opened at once
//	Progress                   watchdog              3 s    nothing waits
//	Describe                   status                3 s    nothing
//	AppChanged, GroupsChanged  its own teller        3 s    later, the last state
//	Replay, handlers of pods   goroutines of its own        it holds up only itself
//	Stop                       take-down             3 s    it is left to itself
//
// Name and Rules are asked before anything runs. What a manager does on its own is its own.
package managers
