package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// TestThirdPartyManager builds understudy with an app manager of another module, which
// knows package protocol and what the coordinator gives it, and fails it over.
func TestThirdPartyManager(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "batches")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", binary, ".")
	build.Dir = "thirdparty"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := onStage(t, 8*time.Second, 5*time.Second, func(o *lab.Options) {
		o.Binary = binary
		configure := o.Configure
		o.Configure = func(replica string, file map[string]any) {
			configure(replica, file)
			file["managers"] = []any{
				map[string]any{"name": "batches", "settings": map[string]any{"queue": "root.default"}},
				map[string]any{"name": "general"},
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	first, _ := s.lead()
	s.create(ctx, "before", "nightly")
	s.do(s.Kill(first, syscall.SIGKILL))
	s.create(ctx, "meanwhile", "nightly") // nobody may lead: an understudy hears of it
	s.create(ctx, "other", "hourly")
	second, err := s.WaitLeader(ctx, first)
	s.do(err)
	s.bound(ctx, "before", "meanwhile", "other")
	s.do(s.Client().CoreV1().Pods(metav1.NamespaceDefault).Delete(ctx, "before", metav1.DeleteOptions{}))
	s.do(s.Kill(second, syscall.SIGKILL))
	_, err = s.WaitLeader(ctx, second)
	s.do(err)
	s.create(ctx, "after", "nightly")
	s.bound(ctx, "after")

	// Two applications, both the manager's, with three tasks: general has left them alone.
	want := map[string]int{"default.nightly": 2, "default.hourly": 1}
	s.do(until(ctx, func() bool {
		got := s.applications(ctx, "batches")
		return len(got) == len(want) && got["default.nightly"] == 2 && got["default.hourly"] == 1
	}))
	if others := s.applications(ctx, "general"); len(others) > 0 {
		t.Errorf("the manager of other pods has %v", others)
	}
}

func (s *stage) create(ctx context.Context, name, batch string) {
	s.t.Helper()
	_, err := s.Client().CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"example.com/batch": batch}},
		Spec: v1.PodSpec{
			SchedulerName: "yunikorn",
			Containers:    []v1.Container{{Name: "main", Image: "none"}},
		},
	}, metav1.CreateOptions{})
	s.do(err)
}

func (s *stage) bound(ctx context.Context, names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.do(until(ctx, func() bool {
			pod, err := s.Client().CoreV1().Pods(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
			s.do(err)
			return pod.Spec.NodeName != ""
		}))
	}
}

// applications returns how many tasks that live each application of a manager has in
// the mirror.
func (s *stage) applications(ctx context.Context, manager string) map[string]int {
	s.t.Helper()
	state := s.mirrored(ctx)
	found := make(map[string]int)
	for app := range state.Apps() {
		if app.Manager == manager {
			found[app.ID] = state.Live(app.ID)
		}
	}
	return found
}

// mirrored is the state that the mirror holds.
func (s *stage) mirrored(ctx context.Context) *ledger.Ledger {
	s.t.Helper()
	records, err := verify.ReadRecords(ctx, s.Etcd(), s.state.Prefix)
	s.do(err)
	keys, state := record.Keys{Prefix: s.state.Prefix}, ledger.New()
	for _, kv := range records {
		entry, err := keys.Decode(keys.Root()+kv.Key, kv.Value)
		s.do(err)
		if entry.App != nil || entry.Task != nil {
			state.Apply(entry.Change())
		}
	}
	return state
}
