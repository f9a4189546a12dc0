// Package history writes down what happened to a cluster and to the mirrored
// state while a drill ran: every assignment, phase change and deletion of a
// pod, every node's capacity, and every write below the etcd prefix, each with
// the revision at which it was committed and the local time it became visible.
//
// It guarantees that a history is complete, or says where it is not: a broken
// watch is resumed at the revision after the last one seen. What a server no longer
// has, as an API server that was started anew, is read from the etcd behind it, the
// [Store], if that is given. Only when the revisions are not there either is the
// state listed anew and a [Gap] noted. Checks treat a gap as a failure, for what
// happened in it is unknown.
//
// It holds observations only and judges none of them; package verify does. It
// shares no code with the coordinator. One stream of pods feeds all observers
// of a drill, through [Cluster.Subscribe], because the machine that measures
// is usually also the one that is measured.
package history
