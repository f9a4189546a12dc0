// Package mirror is the lead's writer: it keeps etcd equal to the ledger.
//
// # Guarantees
//
//   - One writer per epoch. Every transaction compares the leader key with what
//     Claim wrote, so that nothing of an older epoch is accepted once a newer one
//     has been claimed. The code that writes is in internal/fenced, and takes a
//     fence: a write without one does not compile.
//   - Done means durable. The callback of an Append runs when each of its changes,
//     or a newer value of the same key, has been committed; callbacks run in the
//     order of Append, on the goroutine of Run. After a lost fence none runs.
//   - The newest value wins. An answer that got lost leaves a transaction of which
//     nobody knows whether it will still take effect. Before it is repeated, the
//     leader key is written again, which voids whatever is still on its way.
//   - Bounded. Changes wait in one queue with at most one entry for each record,
//     so a backlog never exceeds the size of the state. A transaction has at most
//     MaxOps operations and about MaxBytes bytes.
//   - At its own pace. There is one transaction at a time. While changes come one by one
//     each is written at once; while they come quickly, a batch waits for more of them,
//     30 ms at most.
//
// A batch of changes that needs more than one transaction is not atomic: a
// successor may find the first part of it, in order of first change. It finds
// less than its predecessor knew, never something the predecessor did not know,
// and no effect of that batch has left the process.
//
// # With etcd away
//
// Under the policy Strict callbacks wait. Under Available they wait for Patience
// at most, counted while etcd gives no successful answer; then they run ahead of
// durability, which suspends the second sentence above. The debt is what the queue
// holds, and it goes to etcd, fence first, as soon as etcd answers; from then on
// callbacks wait again. Status, a metric and a log line say that the guarantee is
// suspended, until everything that ran ahead is durable. A backlog that etcd is
// working off is not a reason to run ahead, however long it takes.
//
// # A record that etcd refuses
//
// A record larger than etcd takes (1.5 MiB unless configured) must not stop the
// others. It is refused: an older version of it is deleted, as a successor would
// believe it, whereas an absent one is recovered from the cluster; it is logged,
// counted and listed in Status. Its callback runs like any other, without the
// record being durable. With annotations limited to 256 KiB it takes a custom
// resource of unusual size to get here.
package mirror
