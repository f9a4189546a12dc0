package election

import (
	"errors"
	"fmt"
)

// Causes with which a Term's context is cancelled; test with errors.Is.
var (
	// ErrLost means that the Lease is no longer this term's: held by another,
	// wiped or deleted. The cause is a *LostError.
	ErrLost = errors.New("lease lost")
	// ErrRenewDeadline means that no renewal has succeeded for RenewDeadline.
	ErrRenewDeadline = errors.New("lease not renewed before the deadline")
	// ErrReleased means that the holder gave the term up: Release or Finished.
	ErrReleased = errors.New("term released")
)

// ErrTermUnfinished is returned by Campaign while the elector's previous Term
// has not been finished.
var ErrTermUnfinished = errors.New("election: the previous term has not been finished")

// LostError says what was found in place of the term's Lease. It matches
// ErrLost.
type LostError struct {
	// By is the holder found; empty if there is none.
	By string
	// Transitions is the leaseTransitions found.
	Transitions uint64
	// Deleted is true if there is no Lease any more.
	Deleted bool
}

// Error implements error.
func (e *LostError) Error() string {
	switch {
	case e.Deleted:
		return ErrLost.Error() + ": it has been deleted"
	case e.By == "":
		return ErrLost.Error() + ": its holder has been wiped"
	default:
		return fmt.Sprintf("%v to %q at transition %d", ErrLost, e.By, e.Transitions)
	}
}

// Is makes errors.Is(err, ErrLost) true.
func (e *LostError) Is(target error) bool { return target == ErrLost }
