// Package serve shows operators and probes how a replica is: /livez, /readyz,
// /metrics, /statusz, and /debug/pprof where it is asked for.
//
// It guarantees that a request never waits for the lead loop (it reads
// snapshots that a Source hands out), that nothing it serves changes the state
// of the replica, and that when Serve has returned, no handler is running and
// the port is free. A replica answers while it is not ready: not being ready is
// an answer, with the reason.
package serve
