// Package apps turns Kubernetes objects into calls of the application
// management protocol: the ears of the house. General is the app manager of
// ordinary pods; the Parse functions read what a pod's labels and annotations,
// and the annotations of its namespace, say about it.
//
// Guarantees:
//
//   - Malformed input never keeps a pod from being scheduled and never panics:
//     what cannot be read counts as absent, the next source of the same fact is
//     tried, and a Problem names the key and what is wrong with it.
//   - Objects from the informers' caches are never changed; what is handed on
//     is a copy, pods excepted, which the receiver must not change either.
//   - A pod that was reported is reported complete and removed exactly under
//     the application it was reported for, even if its labels have changed
//     since, if its deletion was only noticed by a new listing
//     (DeletedFinalStateUnknown), or if another pod took its name meanwhile.
//   - A manager makes no protocol call after Stop has returned.
//   - ListApplications fails rather than return a listing that is not whole.
package apps
