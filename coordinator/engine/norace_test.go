//go:build !race

package engine_test

const coreRaces = false
