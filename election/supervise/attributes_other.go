//go:build !linux

package supervise

import "syscall"

// attributes of a child, which elsewhere outlives a supervisor that is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
