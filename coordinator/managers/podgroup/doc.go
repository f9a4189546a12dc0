// Package podgroup is the app manager of Kubernetes' own gangs: pods that name a PodGroup
// of scheduling.k8s.io in spec.schedulingGroup.
//
// Guarantees:
//
//   - The pods of a PodGroup are tasks of one application, and one task group of it: the
//     application that the first of them names, else one that is made for the group.
//     Several groups may be one application.
//   - Of a group with the policy gang no pod is bound before minCount have a node: those
//     that are bound, and those that have ended well, count. There are no placeholders. A
//     change of minCount counts until the group is whole.
//   - A group that has been whole is not held back again, whatever becomes of its pods, and
//     whoever leads. Both the mirror and the status of the PodGroup say so.
//   - A pod whose PodGroup does not exist waits, and says why. One that has been bound goes
//     on.
//   - The condition PodGroupInitiallyScheduled is what kube-scheduler makes of it: True for
//     good once the group has been whole; before that False, after a try that failed. At
//     most one write is in flight for an object, and each lead writes what is missing.
package podgroup
