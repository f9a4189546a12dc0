// Package etcdtest gives tests a real etcd, and a network in front of it that
// can be cut, stalled and restored.
//
// The binary is the one that `make tools` puts in bin/ at the repository's root,
// or the one that UNDERSTUDY_ETCD names. Everything listens on free ports of the
// loopback interface, data lives in a temporary directory, and both are gone
// when the test ends.
package etcdtest
