//go:build race

package engine_test

// The core reads its event settings anew on a goroutine of its own after each change of
// the configuration. Two of them race, in the core.
const coreRaces = true
