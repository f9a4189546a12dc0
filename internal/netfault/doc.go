// Package netfault breaks connections: a Proxy stands between a client and a
// server on this machine and, while it runs, loses what either of them sends, or
// holds it up.
//
// It is a model of a network, above TCP. A connection that the network would not
// let come about is accepted and stays silent, and what is lost is not sent again
// when the fault is over: a connection with a hole in it is closed then. The end
// of a connection travels as its bytes do: nobody hears of it while they are lost
// or held.
//
// It is in the main module, for tests of packages here and for the lab alike: the
// path of the module e2e lies below this one's, so that Go lets it import what is
// internal.
package netfault
