//go:build race

package standby

// everyKill is how many of the kills one is tried of: all take minutes with the race
// detector.
const everyKill = 7
