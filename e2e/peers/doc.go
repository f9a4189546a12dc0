// Package peers measures anyone who schedules by name, with the same harness: replicas of
// Understudy, kube-scheduler, an external scheduler, and a null binder, which does nothing
// but send a Binding for each pod and so shows what the machine can do.
//
// Each measurement has a control plane of its own, started for it, and rounds alternate
// between the peers. A [Report] has pods a second, latencies, and the CPU time that each
// process took for a pod, as medians with their range, and as ratios to the null binder and
// to kube-scheduler, each to that of the same round.
//
// A measurement in which a process of the lab ended, another replica came to lead, a pod was
// bound twice, or a node was given more than it has, is none: it is reported as failed.
package peers
