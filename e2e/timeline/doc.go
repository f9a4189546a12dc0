// Package timeline tells what happened when, after the lead was killed: the
// Lease taken, the epoch claimed in etcd, the steps of the promotion, the first
// pod bound by the new epoch.
//
// What can be seen from outside is taken from the outside, at the local time at
// which a watch delivered it: the Lease, the leader key, the assigned pod. Only
// the steps in between are taken from the record of the term, where the new
// lead wrote them; the table says which is which. Assemble is a function of
// recorded data, so a timeline can be checked, or drawn again, later.
package timeline
