//go:build !race

package standby

const everyKill = 1
