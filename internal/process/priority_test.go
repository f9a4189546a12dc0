package process_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/internal/process"
)

// yieldEnv makes this a process that yields and resumes, and says how that went.
const yieldEnv = "UNDERSTUDY_PROCESS_TEST_YIELDS"

// yieldAndResume yields while threads come and go. It returns the nice values before, then, and
// after, and the error.
func yieldAndResume() (all string) {
	stop := make(chan struct{})
	var coming sync.WaitGroup
	for range 4 {
		coming.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var thread sync.WaitGroup
				thread.Go(func() { // ends with its thread, so that another is made
					runtime.LockOSThread()
					time.Sleep(time.Millisecond)
				})
				thread.Wait()
			}
		})
	}
	defer coming.Wait()
	defer close(stop)
	before := niceValues()
	resume, err := process.Yield()
	if err != nil { // the thread that tried it ends, which takes as long as others come first
		for deadline := time.Now().Add(time.Minute); len(niceValues()) > 1 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	then := niceValues()
	if err == nil {
		err = resume()
	}
	return fmt.Sprint(before, then, niceValues(), err)
}

// niceValues returns those of all threads, each once.
func niceValues() []string {
	threads, _ := os.ReadDir("/proc/self/task")
	seen := map[string]bool{}
	var values []string
	for _, thread := range threads {
		stat, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/stat")
		if err != nil {
			continue
		}
		const nice = 19 - 3 // of the fields after the command
		value := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[nice]
		if !seen[value] {
			seen[value] = true
			values = append(values, value)
		}
	}
	return values
}

func yieldAs(t *testing.T, attributes *syscall.SysProcAttr) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.SysProcAttr = []string{yieldEnv + "=1"}, attributes
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// ownNice is the nice value of this process, which has to be one that yields to others.
func ownNice(t *testing.T) string {
	t.Helper()
	own := niceValues()
	if len(own) != 1 || len(own[0]) > 1 && own[0][0] != '-' {
		t.Skipf("this process has the nice values %v itself", own)
	}
	return own[0]
}

func TestYieldAndResume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root is sure to have the right to resume")
	}
	own := ownNice(t)
	for range 5 {
		if got := yieldAs(t, nil); got != fmt.Sprintf("[%s] [10] [%s] <nil>", own, own) {
			t.Fatal(got)
		}
	}
}

func TestYieldNeedsTheRightToResume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	own := ownNice(t)
	const nobody = 65534
	got := yieldAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}})
	if !strings.HasPrefix(got, fmt.Sprintf("[%s] [%s] [%s] yield: ", own, own, own)) {
		t.Fatal(got)
	}
}
