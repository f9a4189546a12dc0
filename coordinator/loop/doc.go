// Package loop is the goroutine that owns the ledger of a lead, and the mailbox by
// which everybody else reaches it.
//
// It guarantees that
//
//   - events are stepped one after the other, in the order in which they were put
//     into the mailbox; none is dropped as long as the mailbox is open;
//   - nothing that leaves the process happens before the change that causes it is
//     durable (Journal), while effects on the engine do not wait for that;
//   - whoever reads at length (Reader) keeps the loop from nothing, and sees what is durable;
//   - a question is answered by the goroutine that owns the ledger, or refused: nobody
//     waits for an answer from a loop that has ended.
package loop
