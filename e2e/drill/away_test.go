package drill

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// A replica that starts while etcd or the API server does not answer says whom it
// cannot reach, is not ready and goes on; when there is an answer, it leads.
func TestStartWithoutAnEndpoint(t *testing.T) {
	t.Parallel()
	const replica = "understudy-0"
	l := up(t, func(o *lab.Options) { o.Replicas, o.Nodes = 1, 1 })
	state, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Lab: l, state: state}
	etcd, apiserver := state.Etcd.Endpoints[0], state.APIServer
	stop := func(name string) error { return l.Kill(name, syscall.SIGSTOP) }
	thaw := func(name string) error { return l.Kill(name, syscall.SIGCONT) }
	for _, tt := range []struct {
		name, process, url, says string
		away, back               func(string) error
	}{
		{"etcd is frozen", "etcd-0", etcd, "etcd does not answer", stop, thaw},
		{"etcd is not there", "etcd-0", etcd, "etcd does not answer", l.Stop, l.Start},
		{"the API server is frozen", "kube-apiserver", apiserver, "the API server does not answer", stop, thaw},
		{"the API server is not there", "kube-apiserver", apiserver, "the API server does not answer", l.Stop, l.Start},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := errors.Join(l.Stop(replica), tt.away(tt.process)); err != nil {
				t.Fatal(err)
			}
			from := len(logOf(t, s, replica))
			if err := l.Start(replica); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a line that names "+tt.url, func(context.Context) (bool, error) {
				for line := range strings.Lines(logOf(t, s, replica)[from:]) {
					if strings.Contains(line, tt.says) && strings.Contains(line, tt.url) {
						return true, nil
					}
				}
				return false, nil
			})
			eventually(t, "the probe to name "+tt.url, func(ctx context.Context) (bool, error) {
				err := l.Replica(replica).Ready(ctx)
				return err != nil && strings.Contains(err.Error(), tt.url), err
			})
			if err := tt.back(tt.process); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := l.WaitLeader(ctx)
			if err := errors.Join(err, l.WaitReady(ctx)); err != nil {
				t.Fatal(err)
			}
			if p, err := l.Replica(replica).Process(); err != nil || p.Restarts != 0 {
				t.Errorf("it was started again %d times, %v", p.Restarts, err)
			}
		})
	}
	t.Run("a field that does not exist", func(t *testing.T) {
		p, err := l.Replica(replica).Process()
		if err != nil {
			t.Fatal(err)
		}
		file := p.Args[len(p.Args)-1]
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(string(raw)+"binder:\n  worker: 3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), p.Args[0], "run", "--config", file).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() <= 0 || !strings.Contains(string(out), "binder.worker") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func logOf(t *testing.T, s *Session, process string) string {
	t.Helper()
	raw, err := os.ReadFile(s.state.Process(process).Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
