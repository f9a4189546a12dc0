//go:build !race

package coordinator_test

const withRaceDetector = false
