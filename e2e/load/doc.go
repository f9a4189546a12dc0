// Package load makes pods and measures how fast they are bound.
//
// A [Generator] creates a bounded number of pods, either as fast as a bounded
// number of connections allow (a burst, as of a large Deployment or job) or at
// a steady rate, and takes the time of each pod from right before its creation
// is sent until the watch shows it bound, on one clock. It costs the machine
// little: a fixed pool of workers, the protobuf encoding, and no watch of its
// own, for it listens to the history that the drill records anyway.
//
// It guarantees that every pod it made is accounted for: a creation whose
// answer was lost is looked up, not repeated under another name, and Created
// names every pod with its UID for the checks of package verify.
package load
