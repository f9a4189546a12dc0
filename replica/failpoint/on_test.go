//go:build failpoints

package failpoint

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestKillsAtTheNthHit runs itself as a child that passes the point three times.
func TestKillsAtTheNthHit(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		for range 3 {
			Hit(AfterCommit)
			Hit(BeforeCommit)
			os.Stdout.WriteString("passed\n")
		}
		return
	}
	for spec, want := range map[string]int{BeforeCommit: 0, BeforeCommit + ":3": 2} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillsAtTheNthHit$")
		cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", "UNDERSTUDY_FAILPOINT="+spec)
		out, _ := cmd.Output()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != syscall.SIGKILL || strings.Count(string(out), "passed") != want {
			t.Errorf("%s: %v after %q, want SIGKILL after %d", spec, cmd.ProcessState, out, want)
		}
	}
}

// Whoever starts the process again, in the same environment, gets one that lives.
func TestFileArmsUntilItHasKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "armed")
	if err := os.WriteFile(file, []byte(BeforeCommit+":3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, killed := range []bool{true, false} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillsAtTheNthHit$")
		cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", "UNDERSTUDY_FAILPOINT_FILE="+file)
		out, _ := cmd.Output()
		passed := strings.Count(string(out), "passed")
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() != killed || passed != 3 && !killed {
			t.Errorf("start %d: %v after %q", i, cmd.ProcessState, out)
		}
	}
}

func TestArmedWhileRunning(t *testing.T) {
	var died, froze string
	s := newSet(func(name string) { died = name }, func(name string) { froze = name })
	call := func(method, query string) string {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, "/?"+query, nil))
		return w.Body.String()
	}
	s.hit(BeforeCommit)
	if got := call("GET", ""); got != "mirror/before-commit 1\n" {
		t.Errorf("got %q", got)
	}
	call("POST", "arm=mirror/before-commit:2")
	s.hit(BeforeCommit)
	if died != "" {
		t.Error("died a hit too early")
	}
	s.hit(BeforeCommit)
	if died != BeforeCommit {
		t.Error("did not die at the second hit")
	}
	died = ""
	call("POST", "arm=mirror/before-commit")
	call("POST", "arm=")
	s.hit(BeforeCommit)
	if died != "" {
		t.Error("died though disarmed")
	}
	call("POST", "arm=mirror/before-commit:2:stop")
	s.hit(BeforeCommit)
	s.hit(BeforeCommit)
	call("POST", "arm=mirror/after-commit:stop")
	if died != "" || froze != BeforeCommit {
		t.Errorf("died at %q, froze at %q", died, froze)
	}
	if s.hit(AfterCommit); froze != AfterCommit {
		t.Errorf("froze at %q", froze)
	}
	if got := call("POST", "arm=x:nought"); !strings.Contains(got, "want NAME") {
		t.Errorf("got %q", got)
	}
}

func TestHeldUntilReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(nil, nil)
		post := func(query string) {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/?"+query, nil))
		}
		post("hold=" + PodChanged)
		passed := false
		go func() {
			s.hit(PodChanged)
			passed = true
		}()
		s.hit(AfterCommit) // which nobody holds
		synctest.Wait()
		if passed {
			t.Error("passed a point that was held")
		}
		post("release=" + PodChanged)
		synctest.Wait()
		if !passed {
			t.Error("still held")
		}
	})
}
