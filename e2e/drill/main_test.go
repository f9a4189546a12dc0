package drill

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// up starts a lab for a drill. What replicas say goes to the test's log if it
// fails.
func up(t *testing.T, change func(*lab.Options)) *lab.Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	var out strings.Builder
	o := lab.Default()
	o.Dir, o.Nodes, o.Audit, o.Out = filepath.Join(t.TempDir(), "lab"), 20, true, &out
	if change != nil {
		change(&o)
	}
	if o.Armable {
		failpoints(t)
	}
	l, err := lab.Up(t.Context(), o)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, l)
		}
		if err := l.Down(false); err != nil {
			t.Error(err)
		}
	})
	return l
}

// keepLogs copies the logs to where they survive the test, if the environment
// names such a place.
func keepLogs(t *testing.T, l *lab.Lab) {
	to := os.Getenv("LAB_KEEP_LOGS")
	if to == "" {
		t.Log("set LAB_KEEP_LOGS to a directory to keep the logs of a failed drill")
		return
	}
	to = filepath.Join(to, filepath.Base(t.Name()))
	if err := os.CopyFS(to, os.DirFS(filepath.Join(l.Dir(), "logs"))); err != nil {
		t.Log(err)
	}
	if raw, err := os.ReadFile(filepath.Join(l.Dir(), "audit.log")); err == nil {
		_ = os.WriteFile(filepath.Join(to, "audit.log"), raw, 0o600)
	}
	t.Logf("logs: %s", to)
}

func report(t *testing.T, v verify.Verdict, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	var out strings.Builder
	if err := v.Print(&out); err != nil {
		t.Error(err)
	}
	t.Log("\n" + out.String())
	if !v.OK {
		t.Error(ErrVerdict)
	}
}

// logger shows what goes wrong in observing, and how leads were succeeded.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// failpoints builds the replica with its failpoints compiled in.
func failpoints(t *testing.T) string {
	t.Helper()
	binary, err := armed()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// Once: a lab that runs uses the file.
var armed = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(root, "bin", "understudy-failpoints")
	cmd := exec.Command("go", "build", "-tags", "failpoints", "-ldflags", "-s -w", "-o", binary, "./cmd/understudy")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return binary, nil
})
