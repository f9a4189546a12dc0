// Package application is the app manager of Application objects
// (applications.yunikorn.apache.org/v1alpha1): a user describes an application by an
// object, its pods name it by the usual label, and its status shows what becomes of it.
//
// The application of an object is <namespace>-<name>, as YuniKorn's own manager has it.
// A pod belongs to it if it is in the object's namespace, so that names with a dash are
// not ambiguous. Two objects with the same ID (a-b/c and a/b-c) are told so: the later
// one counts when the other is gone, and its pods are left to other managers until then.
//
// The object says more than its pods: queue, task groups, and parameters of the policy.
// Labels and annotations of the object name the user, as those of a pod do. The type of
// the policy changes nothing: task groups make a gang. A spec that changes counts when
// the application begins anew. A part of it that cannot be read counts as absent, and an
// Event says which. Objects should be created before their pods: an application that
// another manager has begun from its pods keeps to what these say.
//
// An object that is deleted while pods of its application live: YuniKorn refuses that for
// ever, and goes on as if nothing had happened. Here the application fails: pods that run
// are not touched, those that wait fail, and the application is forgotten when no pod
// lives. Deleting the CustomResourceDefinition does the same to all applications, and
// ends no pod that runs either.
//
// Guarantees:
//
//   - Every state and message reaches the status, if no newer one overtakes it; at most
//     one write is under way for an object, and what the status says is not written again.
//   - A status is written for the very object and version that it was decided for.
//   - An application that has ended is not begun anew by a failover.
package application
