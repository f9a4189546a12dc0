// Package telemetry sets up the log and the traces of a replica.
//
// Log: every line, of this project or of a library it uses, is one record of
// the same slog handler and carries the replica, its role and its epoch as they
// were when the line was written.
//
// Traces: the standard OTEL_* variables configure everything. With none of them
// set there is no exporter, no goroutine and no work: Enabled lets callers skip
// even the making of attributes. A broken setting is an error to report, and
// leaves a replica without traces, not without scheduling. One short trace
// stands for one step of an application or task. Its root links to the span of
// the step before, whose traceparent is kept in the record, so that the chain
// of links goes on across a failover. Every span carries epoch, replica.role
// and etcd.revision, and that of an application's or a task's step also app.id.
// Requests to etcd and to the API server are traced where they are part of a
// failover; watches and the renewal of the Lease never are. A supervisor does not
// speak to etcd: the revision on its spans is 0.
//
// A failover is one trace, to which several processes add. Who gives the Lease up
// begins it, the lead or the supervisor of one that has died: election.Release and
// election.Depose leave the span of their context on the Lease, and the successor
// continues it.
package telemetry
