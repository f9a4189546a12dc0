// Package general is the app manager of ordinary pods: it turns what the pod
// informer tells into calls of the application management protocol.
//
// Guarantees:
//
//   - A pod that was reported is reported complete and removed exactly under
//     the application it was reported for, even if its labels have changed
//     since, if its deletion was only noticed by a new listing
//     (DeletedFinalStateUnknown), or if another pod took its name meanwhile.
//   - A manager makes no protocol call after Stop has returned.
//   - ListApplications fails rather than return a listing that is not whole.
package general
