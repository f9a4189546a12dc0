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
package managers
