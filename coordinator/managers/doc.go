// Package managers is where app managers meet the lead: Contract is the application
// management protocol as a lead answers it, and what a manager says becomes events
// of the ledger here and nowhere else. Each folder below it is one manager.
//
// It guarantees that a call of a manager returns when the term ends, whatever the
// lead is doing: no manager hangs on a replica that leads no more.
package managers
