package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// yielding is the nice value of a process that yields: it gets a tenth of a processor that
// one of nice value 0 wants as well.
const yielding = 10

// rounds bounds how often the threads of a process are gone through.
const rounds = 100

// Yield has other processes come before this one, all of its threads, until resume is called.
// Without the right to take that back (CAP_SYS_NICE or RLIMIT_NICE) it fails, and changes
// nothing.
func Yield() (resume func() error, err error) {
	before, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return nil, fmt.Errorf("read own priority: %w", err)
	}
	before = 20 - before // as the kernel returns it
	if before >= yielding {
		return func() error { return nil }, nil
	}
	if err := tryToYield(before); err != nil {
		return nil, fmt.Errorf("yield: %w", err)
	}
	resume = func() error { return setNice(before) }
	if err := setNice(yielding); err != nil {
		return nil, errors.Join(err, resume())
	}
	return resume, nil
}

// tryToYield has one thread yield and take that back. If it may not, the thread ends, perhaps
// after the return.
func tryToYield(before int) error {
	tried := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // which cannot end
			tried <- tryToYield(before)
			runtime.UnlockOSThread()
			return
		}
		err := unix.Setpriority(unix.PRIO_PROCESS, 0, yielding)
		if err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, 0, before)
		}
		if err == nil {
			runtime.UnlockOSThread()
		}
		tried <- err
	}()
	return <-tried
}

// setNice gives all threads of this process a nice value. A thread has that of the one that
// made it: when all were seen to have the value none with another can come.
func setNice(value int) error {
	for range rounds {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("read own threads: %w", err)
		}
		changed := false
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				continue
			}
			now, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
			if err == nil && 20-now != value {
				changed = true
				err = unix.Setpriority(unix.PRIO_PROCESS, tid, value)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("priority of thread %d: %w", tid, err)
			}
		}
		if !changed {
			return nil
		}
	}
	return fmt.Errorf("nice value %d: threads come faster than they are found", value)
}
