package supervise

import "syscall"

// attributes of a child.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// Not in the terminal's process group: what is typed there would reach the
		// child twice, and a second signal ends it in disorder.
		Setpgid: true,
	}
}
