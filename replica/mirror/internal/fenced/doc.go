// Package fenced holds the only code that writes below a prefix, so that a write
// without proof of leadership does not compile: Commit takes a Fence, and a
// Fence that is good for anything comes out of Claim.
package fenced
