package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/election"
)

// maxSupervisor is how much memory a supervisor may have resident.
const maxSupervisor = 40 << 20

// stage is a lab whose replicas elect their lead by a Lease of a given duration.
type stage struct {
	*lab.Lab
	t     *testing.T
	state *lab.State
}

func onStage(t *testing.T, lease, renew time.Duration, change ...func(*lab.Options)) *stage {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := lab.Default()
	o.Dir, o.Nodes = filepath.Join(t.TempDir(), "lab"), 1
	o.Configure = func(_ string, file map[string]any) {
		file["election"] = map[string]any{"leaseDuration": lease.String(), "renewDeadline": renew.String()}
	}
	for _, c := range change {
		c(&o)
	}
	var out bytes.Buffer
	o.Out = &out
	l, err := lab.Up(t.Context(), o)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(false); err != nil {
			t.Error(err)
		}
	})
	state, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	return &stage{l, t, state}
}

func (s *stage) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// lead waits until all replicas are ready, and returns who leads and as whom.
func (s *stage) lead() (name, incarnation string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	name, err := s.WaitLeader(ctx)
	s.do(errors.Join(err, s.WaitReady(ctx)))
	return name, s.holder(ctx)
}

func (s *stage) holder(ctx context.Context) string {
	s.t.Helper()
	lease, err := s.Client().CoordinationV1().Leases(s.state.Namespace).Get(ctx, s.state.Lease, metav1.GetOptions{})
	s.do(err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// followed waits until another incarnation has taken the Lease, and returns after
// how long and why.
func (s *stage) followed(dead string, since time.Time) (time.Duration, election.Reason) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var took time.Duration
	s.do(until(ctx, func() bool {
		holder := s.holder(ctx)
		took = time.Since(since)
		return holder != "" && holder != dead
	}))
	var why election.Reason
	s.do(until(ctx, func() bool {
		name, err := s.WaitLeader(ctx)
		s.do(err)
		status, err := s.Replica(name).Status(ctx)
		s.do(err)
		for _, term := range status.Terms { // its record is the last thing to be written
			if term.Epoch == status.Epoch {
				why = election.Reason(term.Reason)
			}
		}
		return why != ""
	}))
	return took, why
}

func TestSupervisor(t *testing.T) {
	const lease = 8 * time.Second
	s := onStage(t, lease, 5*time.Second)
	t.Run("replica_killed", func(t *testing.T) {
		s.t = t
		name, incarnation := s.lead()
		at := time.Now()
		s.do(s.Kill(name, syscall.SIGKILL))
		took, why := s.followed(incarnation, at)
		t.Logf("the lease was taken after %v", took)
		if why != election.Dead {
			t.Errorf("it was free because %s", why)
		}
	})
	t.Run("both_killed", func(t *testing.T) {
		s.t = t
		name, incarnation := s.lead()
		replica, err := s.Replica(name).Process()
		s.do(err)
		s.do(s.Kill(lab.SupervisorOf(name), syscall.SIGKILL))
		s.do(until(t.Context(), func() bool { return !replica.Running() }))
		last, err := s.Client().CoordinationV1().Leases(s.state.Namespace).Get(t.Context(), s.state.Lease, metav1.GetOptions{})
		s.do(err)
		took, why := s.followed(incarnation, last.Spec.RenewTime.Time)
		if why != election.Expired || took < lease {
			t.Errorf("the lease was taken %v after its last renewal because %s", took, why)
		}
	})
	t.Run("API_server_away", func(t *testing.T) {
		s.t = t
		name, incarnation := s.lead()
		s.do(s.Kill("kube-apiserver", syscall.SIGSTOP))
		at := time.Now()
		err := s.Kill(name, syscall.SIGKILL)
		<-time.After(time.Second)
		s.do(errors.Join(err, s.Kill("kube-apiserver", syscall.SIGCONT)))
		took, why := s.followed(incarnation, at)
		t.Logf("the lease was taken after %v", took)
		if why != election.Dead {
			t.Errorf("it was free because %s", why)
		}
	})
	t.Run("replica_that_ignores_SIGTERM", func(t *testing.T) {
		s.t = t
		name, _ := s.lead()
		replica, err := s.Replica(name).Process()
		s.do(err)
		s.do(s.Kill(name, syscall.SIGSTOP))
		s.do(s.Stop(name))
		if replica.Running() {
			t.Error("it runs after it was stopped")
		}
		s.do(s.Start(name))
	})
	t.Run("memory", func(t *testing.T) {
		s.t = t
		s.lead()
		state, err := s.State()
		s.do(err)
		supervisors := 0
		for _, p := range state.Processes {
			if p.Kind != lab.KindSupervisor {
				continue
			}
			supervisors++
			usage, err := p.Usage()
			s.do(err)
			t.Logf("%s: %.1f MiB resident", p.Name, float64(usage.RSS)/(1<<20))
			if usage.RSS > maxSupervisor {
				t.Errorf("%s has %d bytes resident, more than %d", p.Name, usage.RSS, maxSupervisor)
			}
		}
		if supervisors != 3 {
			t.Errorf("%d supervisors", supervisors)
		}
	})
}

// A replica that cannot start is tried again in ever longer intervals, and says
// each time what is wrong.
func TestSupervisorOfAReplicaThatCannotStart(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the built executable")
	}
	executable, err := filepath.Abs("../bin/understudy")
	if err != nil {
		t.Fatal(err)
	}
	const head = "apiVersion: understudy.dev/v1alpha1\nkind: Config\netcd: {endpoints: [http://127.0.0.1:1]}\n"
	file := func(more string) string {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(head+more), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"configuration": {[]string{"run", "--config", file("x: 1")}, 1, "line 4: x: unknown field"},
		"flag":          {[]string{"run", "--config", file(""), "--log-level", "loud"}, 2, `log.level: is "loud"`},
		"missing file":  {[]string{"run", "--config", file("") + "x"}, 1, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), executable, append([]string{"supervise", "--"}, c.args...)...)
			out, err := os.Create(filepath.Join(t.TempDir(), "output"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			const ends = 3
			pauses := awaitPauses(t, out.Name(), ends)
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != c.status {
				t.Errorf("it ended with %v", err)
			}
			// The longest pause doubles each time, and each is at least half of that.
			if pauses[2] < 2*pauses[0] {
				t.Errorf("pauses of %v", pauses)
			}
			raw, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			said := string(raw)
			how := fmt.Sprintf(`"how":"exit status %d"`, c.status)
			for _, what := range []string{`"msg":"replica started"`, c.says, how} {
				if strings.Count(said, what) < ends {
					t.Errorf("it does not say %s each time:\n%s", what, said)
				}
			}
		})
	}
}

// awaitPauses waits until a supervisor that writes to a file has paused n times,
// and returns for how long.
func awaitPauses(t *testing.T, output string, n int) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var pauses []time.Duration
	err := until(ctx, func() bool {
		raw, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		pauses = nil
		for line := range bytes.Lines(raw) {
			var said struct {
				Msg   string
				Pause time.Duration
			}
			if json.Unmarshal(line, &said) == nil && strings.HasSuffix(said.Msg, "after a pause") {
				pauses = append(pauses, said.Pause)
			}
		}
		return len(pauses) >= n
	})
	if err != nil {
		t.Fatalf("paused %d times: %v", len(pauses), err)
	}
	return pauses
}
