// Package tested tells whether the tests that documents name exist, and writes the table of
// what covers YuniKorn's contract, protocol/COVERAGE.md, from protocol/coverage.yaml.
//
// It reads the source of tests and runs none. A row can therefore name a test of the module
// e2e as well. Whether a test asserts what its row says is for people to read.
package tested
