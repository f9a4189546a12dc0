//go:build !linux

package coordinator

import (
	"syscall"
	"time"
)

// setUserTimeout leaves it to the pings of gRPC to find a dead connection.
func setUserTimeout(syscall.RawConn, time.Duration) error { return nil }
