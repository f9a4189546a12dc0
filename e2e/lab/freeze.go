package lab

import (
	"errors"
	"fmt"
	"syscall"
)

// Freeze stops a replica with all that looks after it, as when its container is paused.
// A supervisor that went on would kill a lead that does not.
func (l *Lab) Freeze(replica string) error {
	if err := l.FreezeSupervisor(replica); err != nil {
		return err
	}
	return l.Kill(replica, syscall.SIGSTOP)
}

// FreezeSupervisor stops the supervisor of a replica, if it has one: nobody looks
// whether the replica shows life.
func (l *Lab) FreezeSupervisor(replica string) error {
	p, err := l.process(replica)
	if err != nil || !p.Supervised {
		return err
	}
	return l.Kill(SupervisorOf(replica), syscall.SIGSTOP)
}

// Thaw has a replica go on, and its supervisor. One that has ended has nothing to go on
// with.
func (l *Lab) Thaw(replica string) error {
	var failed error
	for _, name := range []string{replica, SupervisorOf(replica)} {
		p, err := l.process(name)
		if err != nil && name != replica {
			continue // there is none
		}
		if err == nil {
			err = p.signal(syscall.SIGCONT)
		}
		if err != nil && !errors.Is(err, ErrGone) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	return failed
}
