// Package v1 is our own interface, /api/v1: applications, tasks, queues, nodes, users, terms and
// failovers, to be listed, filtered, paged and watched. docs/api.md describes it, and
// docs/openapi.json, which is made from the types here.
//
// It guarantees that
//
//   - it only reads, and nothing here makes the loop that owns the ledger wait;
//   - what a list holds of memory does not depend on how long it is, apart from the names of the
//     applications: pieces are made and sent one after the other;
//   - a page goes on after the last key of the one before: what exists all the time is on exactly
//     one page, whatever comes and goes meanwhile;
//   - a watch misses nothing: who has followed up to a revision goes on from there, at any
//     replica, or is told to begin anew. A client costs a position in a log, and one that does
//     not read is left; no other is delayed;
//   - of applications and tasks it shows what is durable, as far as package loop's Reader does;
//   - all errors have one form, and name what is wrong with a request. What is not known in a
//     query is refused, not ignored.
package v1
