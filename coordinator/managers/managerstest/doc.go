// Package managerstest is what the tests of app managers run in: a lead that notes the
// calls of the protocol, pods, and an API server that has the objects of some kinds. It
// works within a bubble of testing/synctest.
package managerstest
