// Package kube is the coordinator's side of the Kubernetes API: informers that
// keep the cluster in memory, and executors that change it. It is the hands of
// the house; what to do is decided elsewhere.
//
// Guarantees:
//
//   - No request that changes anything is sent outside a term, nor with less
//     than a margin of the lease left; one under way is cancelled when the term
//     ends (FencedTransport). Reads are not affected.
//   - Every Binding and every pod created says in which term it was decided, for
//     the API server to judge. That it refuses them for that is no outcome of the
//     work: it is passed on, and the work tried again, until the term ends or goes
//     on. A Binding and a deletion name the UID of the pod they were decided for,
//     so that neither can hit a pod that took the same name.
//   - Executors take work at any time without blocking, keep the order of work
//     on the same pod, lose none while the term lasts, and run on a bounded
//     number of goroutines. Each piece of work may be asked for again.
//   - After Barrier has returned, the pod informer and the follower know every
//     change of a pod that was made before Barrier was called.
//   - A follower is called for one change at a time, never with a version of an
//     object older than one it has been given, and not at all once Unfollow has
//     returned.
//   - The executors and listings never change an object of a cache.
//
// Events are posted directly rather than through client-go's broadcaster, which
// drops what exceeds a fixed queue: after a burst of pods the reasons that
// matter would be lost. What is kept of a pod in memory is cut down to what
// scheduling reads, see the transforms.
package kube
