// Package chatter takes what yunikorn-core logs.
//
// The core has one logger in a process, and makes one of its own, which writes to standard error,
// when it first logs without. So Capture comes before any use of the core, the check of a
// configuration included. What is captured goes nowhere until Direct says where.
package chatter
