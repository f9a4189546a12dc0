// Package chronicle keeps what the scheduling core tells of and what would be lost with each
// lead: its events, and once a minute how many applications and containers there were.
//
// # Guarantees
//
//   - One numbering. The events of all leads have IDs without gap and repetition, from zero on
//     for as long as etcd has the history in which they began; an identity that is the same for
//     as long says so. An event that cannot be read any more keeps its ID, and says that.
//   - What was read stays. An event can be read once it is durable in etcd, whatever the policy
//     of the mirror: a successor has it too, under the same ID.
//   - Bounded. So many events are kept, for so long, and 1,440 samples. While etcd is away, no
//     more than one run of events waits to be written; the others wait in the core, which drops
//     the oldest of them, and an event says how many that were.
//   - Nobody waits for it. A lead reads what older leads have written in the background. What it
//     writes goes with the mirror's transactions; what falls due to be removed goes with that.
//     A reader has an ID and no queue: one that stalls costs nothing and delays nobody.
//
// The keys are beside those that understudies follow (record.Keys.Followed): an understudy pays
// nothing for the chronicle, and has the lead answer.
package chronicle
