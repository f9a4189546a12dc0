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
// A lead that shows no life is killed, which makes its death known like any other. From
// winning the Lease to the end of its work it beats in the page that the tether is in
// (Tie.Beat), and one that has not for a second is taken for frozen or hung: also one
// that a debugger holds. The patience doubles with each kill and shrinks again, and is
// threefold while a thread of the child wants a processor or waits for a disk, so that
// a starved machine does not lose every lead in turn. It is counted in looks of the
// supervisor, so that one that did not get to run itself, as when the whole container
// is paused, blames nobody. An understudy owes no beat.
//
// # What it leaves to others
//
// What a lead that beats gets done is for its own watchdog; an understudy that hangs is
// for the liveness probe of its container; one that ignores SIGTERM is for whoever
// sends SIGKILL. It has no configuration of its own: which Lease it is follows
// from the child's.
//
// What the dead sent before the end may still arrive after its successor has
// begun; epochs fence it, as they fence a lead that was frozen.
package supervise
