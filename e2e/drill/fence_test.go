package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
)

// A lead is frozen between its decision and the binding, and thawed when another
// leads. It binds nothing: its own transport refuses what it is about to send;
// where that does not, the API server refuses the binding, and etcd what it
// writes next.
func TestABindingUnderWayWhenTheTermEndsIsRefused(t *testing.T) {
	t.Parallel()
	cfg := load.Default().Steady(40, 20*time.Second)
	cfg.Timeout = 90 * time.Second
	for _, c := range []struct {
		name, off string
		sends     bool // the thawed lead sends what it had decided
	}{
		{"by_its_own_transport", "", false},
		{"by_the_API_server", "term", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := unguarded(t, c.off, nil)
			fenceIs(t, l, serve.FenceEnforced)
			var old Fault
			var thawed time.Time
			v := drilled(t, l, cfg, func(ctx context.Context, s *Session, _ *load.Generator) (err error) {
				if old, err = freezeBeforeBind(ctx, s); err != nil {
					return err
				}
				frozen, err := l.Replica(old.Replica).Process()
				if err != nil {
					return err
				}
				if _, err := s.Failover(ctx, old); err != nil {
					return errors.Join(err, l.Thaw(old.Replica))
				}
				thawed = time.Now()
				if c.sends {
					err = thawAheadOfEtcd(ctx, t, l, old, thawed)
				} else {
					err = l.Thaw(old.Replica)
				}
				if err != nil {
					return err
				}
				return await(ctx, "the thawed lead to end", func() (bool, error) { return !frozen.Running(), nil })
			})
			if !v.OK {
				t.Error(ErrVerdict)
			}
			refused := 0
			for _, b := range late(t, l, old.Epoch, thawed) {
				switch {
				case b.Accepted():
					t.Errorf("%s/%s was bound by epoch %d after another had taken over", b.Namespace, b.Name, b.Epoch)
				case strings.Contains(b.Message, "ValidatingAdmissionPolicy '"+kube.FencePolicy):
					refused++
				default: // given up by the old lead
					t.Logf("%s/%s: epoch %d was answered %d %s", b.Namespace, b.Name, b.Epoch, b.Code, b.Message)
				}
			}
			t.Logf("%d bindings of the thawed lead were refused by the API server", refused)
			if c.sends && refused == 0 {
				t.Error("the API server refused nothing for its epoch")
			}
			if c.sends && !wrote(t, l, old.Replica, "fenced") {
				t.Error("the thawed lead does not say that etcd refused it")
			}
		})
	}
}

// freezeBeforeBind has the lead freeze at its next binding, just before that is
// sent.
func freezeBeforeBind(ctx context.Context, s *Session) (Fault, error) {
	lead, err := s.Lab.Leader(ctx)
	if err != nil {
		return Fault{}, err
	}
	epoch, err := s.Epoch()
	if err != nil {
		return Fault{}, err
	}
	p, err := s.Lab.Replica(lead).Process()
	if err != nil {
		return Fault{}, err
	}
	s.Note()
	if err := errors.Join(s.Lab.FreezeSupervisor(lead), tellFailpoints(ctx, p, "arm=bind/before:stop")); err != nil {
		return Fault{}, err
	}
	err = await(ctx, lead+" to freeze", func() (bool, error) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		return bytes.Contains(status, []byte("State:\tT")), err
	})
	return Fault{Replica: lead, Epoch: epoch, At: time.Now()}, err
}

// thawAheadOfEtcd lets the old lead go on, and etcd answer only once the API
// server has refused it something: that etcd refuses it ends its work.
func thawAheadOfEtcd(ctx context.Context, t *testing.T, l *lab.Lab, old Fault, thawed time.Time) error {
	const etcd = "etcd-0"
	if err := errors.Join(l.Kill(etcd, syscall.SIGSTOP), l.Thaw(old.Replica)); err != nil {
		return errors.Join(err, l.Kill(etcd, syscall.SIGCONT))
	}
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	// That nothing is refused is for the test to say.
	_ = await(limited, "a refusal", func() (bool, error) { return len(late(t, l, old.Epoch, thawed)) > 0, nil })
	return l.Kill(etcd, syscall.SIGCONT)
}

// late returns the bindings of an epoch that the API server received after a
// moment.
func late(t *testing.T, l *lab.Lab, epoch uint64, after time.Time) []verify.Binding {
	t.Helper()
	state, err := l.State()
	if err != nil {
		t.Fatal(err)
	}
	all, err := verify.ReadAuditFile(state.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	var late []verify.Binding
	for _, b := range all {
		if b.Epoch == epoch && b.Received.After(after) {
			late = append(late, b)
		}
	}
	return late
}

// wrote reports whether the log of a replica contains something.
func wrote(t *testing.T, l *lab.Lab, replica, what string) bool {
	t.Helper()
	p, err := l.Replica(replica).Process()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(log, []byte(what))
}

// fenceIs waits until every replica says so of the API server's fence.
func fenceIs(t *testing.T, l *lab.Lab, want serve.Fence) {
	t.Helper()
	replicas, err := l.Replicas()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, r := range replicas {
		err := await(ctx, fmt.Sprintf("%s to say fence=%s", r.Name, want), func() (bool, error) {
			now, err := r.Status(ctx)
			return err == nil && now.Fence == want, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
