package drill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/replica/failpoint"
)

// The successors hear late of a pod that somebody else has put on the only node. A
// new lead waits until it has heard of it; without that it puts another beside it,
// for which there is no room.
func TestANewLeadThatHearsOfPodsLate(t *testing.T) {
	small := func(o *lab.Options) {
		o.Nodes, o.Node = 1, lab.NodeSize{CPU: "10", Memory: "64Gi", Pods: "100"}
	}
	room := func(s *Session) bool {
		return verify.Capacity(s.Cluster.Nodes(), s.Cluster.Pods(), s.Cluster.Gaps()).OK
	}
	t.Run("waits", func(t *testing.T) {
		s := begin(t, unguarded(t, "", small))
		st := makeStale(t, s)
		// It holds the Lease, and has long done all else.
		if err := errors.Join(s.awaitSuccessor(t.Context(), st.old), pause(t.Context(), 3*time.Second)); err != nil {
			t.Fatal(err)
		}
		st.release(t)
		if _, err := s.Lab.WaitLeader(t.Context(), st.old.Replica); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), st.foreign); err != nil {
			t.Fatal(err)
		}
		bound(t, s, st.waiting)
		settled(t, s)
		if !room(s) {
			t.Error("the node is over its capacity")
		}
	})
	t.Run("does_not_wait", func(t *testing.T) {
		s := begin(t, unguarded(t, failpoint.PodBarrier, small))
		st := makeStale(t, s)
		bound(t, s, st.waiting)
		settled(t, s)
		st.release(t)
		if room(s) {
			t.Error("a node over its capacity went unnoticed")
		}
	})
}

// stale is a cluster whose lead is frozen, and whose other replicas hear nothing of
// pods any more.
type stale struct {
	s                *Session
	old              Fault
	waiting, foreign *v1.Pod
}

// makeStale leaves a pod that waits for the node, whose room a foreign pod has
// taken unheard.
func makeStale(t *testing.T, s *Session) *stale {
	t.Helper()
	ctx, st := t.Context(), &stale{s: s}
	before := st.heard(t)
	st.waiting = create(t, s, podOf("stale", "waiting", requests("5"), func(p *v1.Pod) {
		p.Spec.NodeSelector = map[string]string{"room": "yes"}
	}))
	eventually(t, "all to hear of the waiting pod", func(context.Context) (bool, error) {
		for name, n := range st.heard(t) {
			if n <= before[name] {
				return false, fmt.Errorf("%s has not", name)
			}
		}
		return true, nil
	})
	var err error
	if st.old, err = s.FreezeLead(ctx); err != nil {
		t.Fatal(err)
	}
	st.tell(t, "hold="+failpoint.PodChanged)
	st.foreign = create(t, s, podOf("stale", "foreign", requests("8"), func(p *v1.Pod) {
		p.Spec.SchedulerName, p.Spec.NodeName = "another", "node-0000"
	}))
	patch := []byte(`{"metadata":{"labels":{"room":"yes"}}}`)
	if _, err := s.Lab.Client().CoreV1().Nodes().Patch(ctx, "node-0000", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return st
}

// release lets everybody go on.
func (st *stale) release(t *testing.T) {
	t.Helper()
	st.tell(t, "release="+failpoint.PodChanged)
	if err := st.s.Lab.Thaw(st.old.Replica); err != nil {
		t.Fatal(err)
	}
}

// others are all replicas but the frozen one.
func (st *stale) others(t *testing.T) []lab.Process {
	t.Helper()
	all, err := othersThan(st.s, st.old.Replica)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (st *stale) tell(t *testing.T, query string) {
	t.Helper()
	if err := tellAll(t.Context(), st.others(t), query); err != nil {
		t.Fatal(err)
	}
}

// heard counts the changes of pods that each replica has heard of.
func (st *stale) heard(t *testing.T) map[string]int {
	t.Helper()
	heard := map[string]int{}
	for _, p := range st.others(t) {
		raw, err := st.s.Lab.Replica(p.Name).Get(t.Context(), "/debug/failpoint")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			var name string
			var n int
			if _, err := fmt.Sscan(line, &name, &n); err == nil && name == failpoint.PodChanged {
				heard[p.Name] = n
			}
		}
	}
	return heard
}

// settled waits until the history of the cluster is complete.
func settled(t *testing.T, s *Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Cluster.Settle(ctx); err != nil {
		t.Fatal(err)
	}
}

// A new lead begins with all that was committed before its claim, even if that has
// not reached it yet: it waits for it. Without the wait it begins with what it has,
// and the verdict says so, whatever the cluster makes good for.
func TestPromotionWaitsForTheView(t *testing.T) {
	cfg := load.Default().Steady(40, 10*time.Second)
	cfg.Timeout = 60 * time.Second
	t.Run("waits", func(t *testing.T) {
		report(t, drilled(t, unguarded(t, "", nil), cfg, func(ctx context.Context, s *Session, g *load.Generator) error {
			old, goOn, err := killAhead(ctx, s, g)
			if err != nil {
				return err
			}
			if err := s.awaitSuccessor(ctx, old); err != nil {
				return err
			}
			// It has long done all else.
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
			if leadSays(ctx, s, func(now serve.Status) bool { return now.Role == serve.Lead }) {
				return errors.New("a successor leads without what etcd held at its claim")
			}
			if err := goOn(); err != nil {
				return err
			}
			_, err = s.Failover(ctx, old)
			return err
		}), nil)
	})
	t.Run("does_not_wait", func(t *testing.T) {
		v := drilled(t, unguarded(t, failpoint.BarrierGuard, nil), cfg, func(ctx context.Context, s *Session, g *load.Generator) error {
			old, goOn, err := killAhead(ctx, s, g)
			if err != nil {
				return err
			}
			_, err = s.Failover(ctx, old)
			return errors.Join(err, goOn())
		})
		if passed(t, v, "promoted state") {
			t.Error("a lead that began without the newest records went unnoticed")
		}
	})
}

// killAhead kills the lead when it has written what the others have not applied,
// which they do not before goOn.
func killAhead(ctx context.Context, s *Session, g *load.Generator) (old Fault, goOn func() error, err error) {
	lead, err := s.Lab.Leader(ctx)
	if err != nil {
		return old, nil, err
	}
	others, err := othersThan(s, lead)
	if err != nil {
		return old, nil, err
	}
	if err := tellAll(ctx, others, "hold="+failpoint.ViewChange); err != nil {
		return old, nil, err
	}
	_, bound := g.Progress()
	if err := g.WaitBound(ctx, bound+10); err != nil {
		return old, nil, err
	}
	old, err = s.KillLead(ctx, syscall.SIGKILL)
	return old, func() error { return tellAll(ctx, others, "release="+failpoint.ViewChange) }, err
}

// awaitSuccessor waits until an epoch is claimed that is newer than that of old.
func (s *Session) awaitSuccessor(ctx context.Context, old Fault) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return await(ctx, "a successor", func() (bool, error) {
		epoch, err := s.Epoch()
		return epoch > old.Epoch, err
	})
}

// othersThan are all replicas but the one called name.
func othersThan(s *Session, name string) ([]lab.Process, error) {
	var all []lab.Process
	for _, other := range s.state.Replicas() {
		if other == name {
			continue
		}
		p, err := s.Lab.Replica(other).Process()
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func tellAll(ctx context.Context, replicas []lab.Process, query string) error {
	var failed error
	for _, p := range replicas {
		failed = errors.Join(failed, tellFailpoints(ctx, p, query))
	}
	return failed
}
