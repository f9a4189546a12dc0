// Package explain says why a pod has no node, or why it ended, in words that help: what is in its
// way, in figures, and what would change that.
//
// Explain is a pure function of Facts. Who leads gathers them when somebody asks (Core), so that
// a pod that waits costs nothing between two questions. The first thing in the way counts, in the
// order in which the coordinator and the core look at them: the pod itself, its application, the
// gang, limits of running applications, quotas of queues, limits of users, nodes, its turn. All
// the others are in the explanation too, as figures.
package explain
