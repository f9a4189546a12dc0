// Package electiontest is an API server with one Lease in memory, for tests of
// everything that depends on an election. Clients can be cut off, slowed down
// and left with a deaf watch, the Lease can be wiped, deleted and planted. It
// waits on channels and timers only, so that it runs in the virtual time of
// testing/synctest.
package electiontest
