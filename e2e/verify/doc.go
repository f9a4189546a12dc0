// Package verify judges a drill from the API server and etcd alone: were all
// pods bound, each exactly once; was every node within its capacity at every
// moment, and every queue within its quota; did any write of an older epoch follow a
// newer claim; was each binding recorded before it was made; did each new lead begin
// with what etcd held at its claim; do the mirrored records agree with the cluster;
// was no running pod touched.
//
// Each check is a function from recorded data (package history, the API
// server's audit log, a snapshot of the prefix) to a [Check], so a test can
// plant a violation and see it found. A check passes only if the data proves
// it: a gap in a history, an unreadable record or a write that nobody signed
// fails it.
//
// Nothing is shared with the coordinator but the generated types of the
// records, for decoding. Keys, metadata and resource sums are read by this
// package's own rules or by Kubernetes' own library.
package verify
