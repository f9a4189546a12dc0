// Package api is what outside clients read of a replica: YuniKorn's own REST interface,
// /ws/v1, as yunikorn-core 1.9 has it. docs/rest.md lists the endpoints.
//
// # Guarantees
//
//   - Nothing here waits for the loop that owns the ledger, or makes it wait. A lead answers
//     from the objects of the scheduling core, under the core's own locks, one object at a
//     time, and from a second ledger, which follows that of the loop. Only the first reader
//     waits, until that is filled. An understudy answers from its view.
//   - What the core's own web service would answer, the lead answers: status, headers and
//     body. The core's types for JSON are used, not copied. TestAnswersAreTheCores compares.
//   - What a lead answers is what the lead before it answered: TestEqualAfterFailovers compares
//     all answers, and has a table of what may differ and why.
//   - An understudy passes a request on to the lead, and to nobody else: the host is the
//     one at which gossip knows the holder of the Lease. A request that has been passed on
//     once is never passed on again.
//   - Each answer names the replica that gave it, the epoch, and the revision of etcd that
//     it is true for at least. See the Header constants.
//   - At any time no more than a few goroutines make answers. A client that reads slowly
//     keeps none of them.
//
// The core's own router cannot be mounted: it is not exported, and its server listens on
// port 9080 of all interfaces. What is here was written after pkg/webservice of the core.
package api
