// Package workload reads what YuniKorn workloads write on their pods: labels and
// annotations of a pod, and annotations of its namespace. Every app manager and
// every executor that looks at a pod reads it here.
//
// Guarantees:
//
//   - Malformed input never keeps a pod from being scheduled and never panics:
//     what cannot be read counts as absent, the next source of the same fact is
//     tried, and a Problem names the key and what is wrong with it.
//   - Objects from the informers' caches are never changed; what is handed on
//     is a copy, pods excepted, which the receiver must not change either.
package workload
