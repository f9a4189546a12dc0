// Package supervise runs a replica as a child process, starts it again whenever
// it ends, and releases the Lease on behalf of one that has died. That it is dead
// is known from the kernel, so nobody has to wait for the Lease to expire.
//
// # Guarantees
//
// The Lease is released for one holder only: the child that has been waited for.
// Each child is handed a random suffix that no other process has, and makes its
// holder identity of it (Incarnation); the suffix in the Lease therefore proves
// whose it is. The write is a compare-and-swap, so a successor is never deposed.
// The supervisor itself never takes the Lease.
//
// A child does not outlive its supervisor: the kernel kills it then (on Linux).
// When both die at once nobody is left to release the Lease, and it expires.
//
// Dead means that none of the child's threads can run its code again. wait(2) says
// so, but only once the kernel has released the child's memory, which takes time
// that grows with it: 50 ms for 360 MB. On Linux a tether tells before that. A
// thread of the child holds a robust futex in memory shared with the supervisor
// (Hold), of which the kernel says when it begins to end that thread, and when no
// thread has an address space any more (/proc/PID/task/*/statm) the child is dead.
// A child without a tether, or a kernel that does not tell, costs no more than the
// wait. What is left to release is done at the lowest priority, so that on a small
// machine a successor does not have to share.
//
// # What it leaves to others
//
// It judges nothing but death. A child that hangs is for its own watchdog and for
// the liveness probe of its container; one that ignores SIGTERM is for whoever
// sends SIGKILL. It has no configuration of its own: which Lease it is follows
// from the child's.
//
// What the dead sent before the end may still arrive after its successor has
// begun; epochs fence it, as they fence a lead that was frozen.
package supervise
