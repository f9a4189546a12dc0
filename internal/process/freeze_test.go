package process_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/internal/process"
)

// counterEnv names the file of a counter, and makes this a process whose threads
// count all the time.
const counterEnv = "UNDERSTUDY_PROCESS_TEST_COUNTER"

func TestMain(m *testing.M) {
	if os.Getenv(yieldEnv) != "" {
		fmt.Println(yieldAndResume())
		return
	}
	file := os.Getenv(counterEnv)
	if file == "" {
		os.Exit(m.Run())
	}
	counter, err := shared(file)
	if err != nil {
		panic(err)
	}
	for range 4 {
		go func() {
			for {
				atomic.AddUint64(counter, 1)
			}
		}()
	}
	select {}
}

// shared maps the first word of a file.
func shared(path string) (*uint64, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	page, err := unix.Mmap(int(file.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*uint64)(unsafe.Pointer(&page[0])), nil
}

func TestAFrozenProcessDoesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(path, make([]byte, os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	counter, err := shared(path)
	if err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable)
	cmd.Env = append(os.Environ(), counterEnv+"="+path, "GOMAXPROCS=4")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	for range 20 {
		was := atomic.LoadUint64(counter)
		for deadline := time.Now().Add(time.Minute); atomic.LoadUint64(counter) == was; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not count")
			}
		}
		if err := process.Freeze(cmd.Process); err != nil {
			t.Fatal(err)
		}
		frozen := atomic.LoadUint64(counter)
		time.Sleep(20 * time.Millisecond)
		if n := atomic.LoadUint64(counter) - frozen; n > 0 {
			t.Fatalf("it has counted %d while it was frozen", n)
		}
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAProcessThatHasEndedIsNotFrozen(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if err := process.Freeze(cmd.Process); err == nil {
		t.Error("no error")
	}
}
