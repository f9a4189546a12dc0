package coordinator

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestIncarnationIsLeftForTheKubelet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "termination-log")
	if err := os.WriteFile(path, []byte("what the incarnation before has written, which was longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &replica{log: slog.New(slog.DiscardHandler), incarnation: "r1_ABC"}
	t.Setenv(TerminationLogEnv, path)
	r.leaveName()
	if got, err := os.ReadFile(path); err != nil || string(got) != "\nunderstudy incarnation r1_ABC\n" {
		t.Errorf("%v: %q", err, got)
	}
	// Where it cannot be written, the replica runs all the same.
	for _, path := range []string{"", filepath.Join(path, "no", "directory")} {
		t.Setenv(TerminationLogEnv, path)
		r.leaveName()
	}
}
