// Package process does to other processes what the operating system only begins
// when it is asked.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	freezeLimit = 30 * time.Second
	freezePoll  = time.Millisecond
)

// Freeze stops a process with SIGSTOP, and returns when none of its threads runs any
// more. The signal alone does not see to that: one thread takes it and has the others
// stop, and they run on until it gets a processor.
func Freeze(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze process %d: %w", p.Pid, err)
	}
	for deadline := time.Now().Add(freezeLimit); ; time.Sleep(freezePoll) {
		frozen, err := stopped(p.Pid)
		if err != nil {
			return fmt.Errorf("freeze process %d: %w", p.Pid, err)
		}
		if frozen {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("freeze process %d: it still runs after %v", p.Pid, freezeLimit)
		}
	}
}

// stopped reports whether every thread of a process is stopped, or has ended.
func stopped(pid int) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(filepath.Join(dir, thread.Name(), "stat"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return false, err
		}
		// The field before is the command in parentheses, and may itself hold any.
		state := bytes.TrimLeft(stat[bytes.LastIndexByte(stat, ')')+1:], " ")
		if !bytes.HasPrefix(state, []byte("T")) && !bytes.HasPrefix(state, []byte("Z")) {
			return false, nil
		}
	}
	return true, nil
}
