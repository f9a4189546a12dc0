//go:build !linux

package supervise

import "runtime/debug"

// shed gives back memory that was needed only to get here.
func shed() { debug.FreeOSMemory() }
