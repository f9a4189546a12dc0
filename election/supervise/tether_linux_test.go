package supervise

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fade is a child of which the thread that holds the tether ends, and nothing
// else.
func fade() int {
	fd, err := strconv.Atoi(os.Getenv(tetherEnv))
	if err != nil {
		panic(err)
	}
	t, err := mapTether(os.NewFile(uintptr(fd), "tether"))
	if err != nil {
		panic(err)
	}
	var owner func()
	owner = func() {
		runtime.LockOSThread() // and never unlocks, so that the thread ends with this
		if unix.Gettid() == unix.Getpid() {
			go owner()
			select {} // Go never ends the main thread
		}
		if err := t.own(); err != nil {
			panic(err)
		}
	}
	go owner()
	select {}
}

// tied starts a child that nobody waits for until the test ends.
func tied(t *testing.T, kind string) (*exec.Cmd, *tether) {
	t.Helper()
	rope, err := newTether()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+kind, tetherEnv+"=3")
	cmd.ExtraFiles = []*os.File{rope.file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		rope.close()
	})
	return cmd, rope
}

// That a child is dead is known before anybody has waited for it, and so before
// its memory need have been taken apart.
func TestDeathIsKnownBeforeTheChildIsReaped(t *testing.T) {
	cmd, rope := tied(t, "deaf")
	for rope.knot().word == 0 { // it has not come to tie itself yet
		rope.futex(futexWait, 0)
	}
	if bereftOfMemory(cmd.Process.Pid) {
		t.Fatal("taken for dead while it lives")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	rope.awaitDeath(cmd.Process.Pid, nil)
}

// A thread that has ended does not make a process dead.
func TestAThreadThatEndsIsNoDeath(t *testing.T) {
	cmd, rope := tied(t, "fading")
	rope.slack()
	if bereftOfMemory(cmd.Process.Pid) {
		t.Fatal("taken for dead for one thread's end")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	rope.awaitDeath(cmd.Process.Pid, nil)
}

// What is left last counts, and nothing that was not left entirely.
func TestWill(t *testing.T) {
	rope, err := newTether()
	if err != nil {
		t.Fatal(err)
	}
	defer rope.close()
	if unsafe.Sizeof(knot{}) > uintptr(len(rope.page)) {
		t.Fatalf("the knot takes %d bytes", unsafe.Sizeof(knot{}))
	}
	left := func(want string) {
		t.Helper()
		if got := string(rope.will()); got != want {
			t.Errorf("left is %q, want %q", got, want)
		}
	}
	left("")
	for _, data := range []string{"first", "second", "third, and longer"} {
		rope.leave([]byte(data))
		left(data)
	}
	half := &rope.knot().slots[1-rope.knot().latest]
	half.size = uint32(copy(half.data[:], "half of")) // and it dies
	left("third, and longer")
	rope.leave(make([]byte, len(half.data)+1))
	left("")
}

// A child that never tied itself is waited for.
func TestWithoutATieDeathIsKnownFromWait(t *testing.T) {
	cmd, rope := tied(t, "untied")
	reaped := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		rope.awaitDeath(cmd.Process.Pid, reaped)
	}()
	_ = cmd.Wait()
	close(reaped)
	rope.cut()
	<-over
}
