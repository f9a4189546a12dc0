//go:build !linux

package supervise

func conditionOf(int) condition { return asleep }
