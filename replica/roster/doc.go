// Package roster tells replicas of each other: who is there, in which role, how
// far behind, and who has fallen silent. It gossips over memberlist (SWIM).
//
// # What it is good for
//
// The status of all replicas from any of them; the choice of the successor when
// a lead hands over; and a hint, within about three seconds, that a lead may have
// died, on which understudies look at the Lease at once.
//
// # What it is not
//
// Proof, with one exception. A replica that is silent here may lead, and one that
// is seen here may be about to lose its term. Nothing else that this package says
// makes anyone take the Lease, or lets anyone keep it; with gossip cut off or
// configured away the replicas do the same, a little later.
//
// The exception is what a replica states of itself once its work has stopped: that its
// term of an epoch is over (TellTermEnded). It is neither made nor believed without a
// keyring, whose owners trust each other as replicas do; a stranger could say it of a
// lead that lives.
//
// # Names
//
// A member's name is its incarnation. A name that came back on another address
// would be refused by the others as a conflict for as long as they remember it.
//
// # Encryption
//
// With a keyring file, packets and streams are encrypted (AES-GCM), and what is
// not is refused. The file holds one key a line in base64 (16, 24 or 32 bytes),
// the first being the one to send with; it is read again every few seconds. A key
// is rotated in three steps, each on all replicas: add the new one at the end,
// move it to the front, remove the old one.
package roster
