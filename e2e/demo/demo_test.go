package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What a newcomer sees, in small.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := Default()
	o.Lab.Dir, o.Lab.Nodes, o.Pods = filepath.Join(t.TempDir(), "lab"), 20, 400
	var out bytes.Buffer
	o.Out = &out
	err := Run(t.Context(), o)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	rest := out.String()
	for _, want := range []string{
		"SIGKILL to the lead", "lead killed", "lease taken", "epoch claimed", "first bind", "400 bound",
		"bound once", "node capacity", "fenced writes", "records agree", "running pods untouched",
	} {
		if !strings.Contains(rest, want) {
			t.Errorf("nothing is said of %q", want)
		}
	}
	var created int
	if _, killed, ok := strings.Cut(rest, "SIGKILL to the lead"); ok {
		_, killed, _ = strings.Cut(killed, ", with ")
		_, _ = fmt.Sscanf(killed, "%d pods created", &created)
	}
	if created == 0 || created > o.Pods*9/10 {
		t.Errorf("%d of %d pods were created when the lead was killed: its successor may have nothing to bind", created, o.Pods)
	}
	if strings.Contains(rest, "FAILED") {
		t.Error("a check failed and Run did not")
	}
	if _, err := os.Stat(o.Lab.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lab's directory is left: %v", err)
	}
}

func TestInterruptedDemoLeavesNothingRunning(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := Default()
	o.Lab.Dir, o.Lab.Nodes, o.Pods = filepath.Join(t.TempDir(), "lab"), 5, 5000
	ctx, cancel := context.WithCancel(t.Context())
	o.Out = writer(func(b []byte) {
		if strings.Contains(string(b), "creating") {
			time.AfterFunc(2*time.Second, cancel) // in the middle of the burst
		}
	})
	if err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want that it was cancelled", err)
	}
	// Its processes are children of this one: any left would show up as such.
	if left := children(t); left != "" {
		t.Errorf("still running: %s", left)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// children returns the processes whose parent is this one.
func children(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err == nil {
			all.Write(raw)
		}
	}
	return strings.TrimSpace(all.String())
}

func TestRefusesWhatIsNoBurst(t *testing.T) {
	for _, spoil := range []func(*Options){
		func(o *Options) { o.Pods = 1 },
		func(o *Options) { o.KillAfter = 1 },
	} {
		o := Default()
		spoil(&o)
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("Run: %v", err)
		}
	}
}
