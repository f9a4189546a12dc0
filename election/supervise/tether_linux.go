package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tether is a page of memory that a supervisor shares with its child. In it is
// a robust futex (set_robust_list(2)), which a thread of the child holds for as
// long as the child lives. The kernel marks such a futex when its owner ends,
// before it takes the memory of the process apart, and wait(2) tells of a death
// only after that: half a gigabyte takes a busy machine a hundred milliseconds.
type tether struct {
	file *os.File
	page []byte
}

// knot is what is in the page. All but the word is for the kernel, and in terms
// of the child's addresses.
type knot struct {
	// word is the ID of the thread that holds the futex, and flags.
	word uint32
	// entry is the only one of the thread's robust list: the address of the next,
	// which is the head.
	entry uintptr
	// head is a struct robust_list_head.
	head struct {
		first   uintptr
		offset  int // from an entry to its futex
		pending uintptr
	}
	// owed says that the child leads and has to change beat now and then.
	owed, beat uint32
	// latest says which of the slots holds what the child left last.
	latest uint32
	slots  [2]slot
}

// slot is room for something that the child leaves to its supervisor, in one page
// with everything else.
type slot struct {
	size uint32
	data [1900]byte
}

// Flags of a robust futex, from linux/futex.h.
const (
	ownerDied = 0x40000000
	waiters   = 0x80000000 // somebody wants to be woken
)

// The operations of futex(2) on memory that processes share.
const (
	futexWait = 0
	futexWake = 1
)

// newTether makes the supervisor's end.
func newTether() (*tether, error) {
	fd, err := unix.MemfdCreate("understudy-tether", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	file := os.NewFile(uintptr(fd), "understudy-tether")
	if err = unix.Ftruncate(fd, int64(os.Getpagesize())); err == nil {
		var t *tether
		if t, err = mapTether(file); err == nil {
			return t, nil
		}
	}
	_ = file.Close()
	return nil, err
}

func mapTether(file *os.File) (*tether, error) {
	page, err := unix.Mmap(int(file.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the tether: %w", err)
	}
	return &tether{file, page}, nil
}

func (t *tether) knot() *knot { return (*knot)(unsafe.Pointer(&t.page[0])) }

// slack waits until the child begins to die, or cut is called.
func (t *tether) slack() {
	for {
		now := atomic.LoadUint32(&t.knot().word)
		if now&ownerDied != 0 {
			return
		}
		t.futex(futexWait, now) // returns at once if the word is another by now
	}
}

// cut has slack return; the child is not affected.
func (t *tether) cut() {
	atomic.StoreUint32(&t.knot().word, ownerDied)
	t.futex(futexWake, 1)
}

// leave leaves data to the supervisor in place of what was left before; what is too
// long is not left. A child that dies meanwhile has left the one or the other.
func (t *tether) leave(data []byte) {
	k := t.knot()
	next := 1 - k.latest&1
	s := &k.slots[next]
	s.size = 0
	if len(data) <= len(s.data) {
		s.size = uint32(copy(s.data[:], data))
	}
	atomic.StoreUint32(&k.latest, next)
}

// will returns what a child that is dead has left.
func (t *tether) will() []byte {
	s := &t.knot().slots[atomic.LoadUint32(&t.knot().latest)&1]
	return s.data[:min(int(s.size), len(s.data))]
}

// lead says whether a beat is owed.
func (t *tether) lead(owed bool) {
	var word uint32
	if owed {
		word = 1
	}
	atomic.StoreUint32(&t.knot().owed, word)
}

func (t *tether) beat() { atomic.AddUint32(&t.knot().beat, 1) }

// pulse is how often the child has beaten, and whether it owes more.
func (t *tether) pulse() (beats uint32, owed bool) {
	k := t.knot()
	return atomic.LoadUint32(&k.beat), atomic.LoadUint32(&k.owed) != 0
}

func (t *tether) futex(op, value uint32) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.knot().word)), uintptr(op), uintptr(value), 0, 0, 0)
}

// close gives the page back, once nobody waits in slack. t may be nil.
func (t *tether) close() {
	if t == nil {
		return
	}
	_ = unix.Munmap(t.page)
	_ = t.file.Close()
}

// hold ties the calling process to its supervisor. The thread that holds the
// futex is set apart, and does nothing but live.
func (t *tether) hold() error {
	held := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: a thread that ended would look like a death
		err := t.own()
		held <- err
		if err == nil {
			select {}
		}
	}()
	return <-held
}

// own makes the calling thread the owner of the futex.
func (t *tether) own() error {
	k := t.knot()
	k.entry = uintptr(unsafe.Pointer(&k.head))
	k.head.first = uintptr(unsafe.Pointer(&k.entry))
	k.head.offset = int(unsafe.Offsetof(k.word)) - int(unsafe.Offsetof(k.entry))
	_, _, errno := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(unsafe.Pointer(&k.head)), unsafe.Sizeof(k.head), 0)
	if errno != 0 {
		return fmt.Errorf("set_robust_list: %w", errno)
	}
	atomic.StoreUint32(&k.word, uint32(unix.Gettid())|waiters)
	t.futex(futexWake, 1) // who waits has waited for any change of the word
	return nil
}

// hold ties this process to the supervisor that started it, if one did.
func hold() (*tether, error) {
	value := os.Getenv(tetherEnv)
	if value == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil {
		return nil, fmt.Errorf("%s=%q: %w", tetherEnv, value, err)
	}
	file := os.NewFile(uintptr(fd), "understudy-tether")
	t, err := mapTether(file)
	_ = file.Close() // the mapping stays
	if err != nil {
		return nil, err
	}
	return t, t.hold()
}

// lastBreath is the time between two looks at a process that is about to die.
const lastBreath = 200 * time.Microsecond

// awaitDeath returns when the child that holds the tether is dead, or has been
// reaped. A slack tether means that one thread has ended, as they only do all
// together; dead is the child when none of them can ever run its code again.
func (t *tether) awaitDeath(pid int, reaped <-chan struct{}) {
	t.slack()
	for !bereftOfMemory(pid) {
		select {
		case <-reaped:
			return
		case <-time.After(lastBreath):
		}
	}
	giveWay(pid)
}

// giveWay has what the kernel still does for a dead child, its memory above all, be
// done when nobody else wants the processors: on a small machine a successor does.
func giveWay(pid int) {
	const last = 19
	_ = unix.Setpriority(unix.PRIO_PGRP, pid, last) // its group is its own: see attributes
}

// bereftOfMemory reports whether no thread of a process has an address space any
// more: an ending thread lets go of it, and never leaves the kernel again. What
// it had sent by then is under way, as with any death. A process of which nothing
// can be read is not known to be one.
func bereftOfMemory(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, thread := range threads {
		pages, err := os.ReadFile(filepath.Join(dir, thread.Name(), "statm"))
		ended := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
		if !ended && (err != nil || !bytes.HasPrefix(pages, []byte("0 "))) {
			return false
		}
	}
	return true
}
