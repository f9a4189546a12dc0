// Package bench measures three replicas on a real control plane: how fast a
// burst of pods is bound, how long a pod waits under a light load, how long
// nothing is bound when the lead is killed, and what the replicas use.
//
// A figure is only reported together with the verdict on the run it was measured
// in, and every figure with what is expected of it, met or not. The machine's
// share that the control plane and the load take is reported as well, for all of
// it runs on one machine.
package bench
