// Package drill is what the demonstration, the benchmark and the tests on a real
// control plane have in common: a lab whose history is written down from before
// the first pod, faults that are done to it, and the verdict on what came of it.
//
// It guarantees that a verdict is about the whole time since Begin: the history
// is brought up to date with the API server and etcd before it is judged, and
// what could not be observed counts against it. A fault is noted before it is
// done, with the pods that ran at that moment.
package drill
