//go:build race

package coordinator_test

// withRaceDetector says that everything takes ten times as long.
const withRaceDetector = true
