// Package predicates answers one question for the scheduling engine: may this
// pod run on that node, now?
//
// It is answered by the Kubernetes scheduler's own filter plugins over a cache
// of nodes and pods that this package keeps, so that a pod is placed by the
// very rules kube-scheduler would apply. The cache also counts what has been
// decided but not yet shown by the API server ("assumed" pods).
//
// # Guarantees
//
//   - A pod that was assumed on a node is counted there (resources, ports,
//     affinity, spread) from the moment Assume returns, until it is seen to be
//     bound, forgotten, terminated or removed.
//   - A pod is counted on one node at a time, and a terminated pod on none.
//   - An answer never uses precomputed state that is older than the change it
//     depends on: each piece carries the generations it was computed from.
//   - No call takes a lock of the caller's, blocks on I/O or starts a
//     goroutine.
//
// # Plugins
//
// NodeName, NodeUnschedulable, TaintToleration, NodeAffinity (with
// spec.nodeSelector), NodePorts, NodeResourcesFit, PodTopologySpread and
// InterPodAffinity always; VolumeRestrictions, VolumeBinding, NodeVolumeLimits
// and VolumeZone when the cache was built WithVolumes. A reservation (a node
// kept for a pod that does not fit yet) is checked only against what will not
// change by waiting: name, cordon, taints and node affinity.
//
// # Cost
//
// What depends on the pod alone is computed once. What depends on other pods
// (spread, affinity) is computed once per signature, that is for all pods that
// differ in nothing the plugin looks at, and again only after a change that
// can matter to it. Rules that are scoped to kubernetes.io/hostname are
// checked on the candidate node without any such state: the plugin's fast path
// for them is switched on here, whatever the feature gates say.
package predicates
