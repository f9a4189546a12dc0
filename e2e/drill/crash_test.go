package drill

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/election"
)

// Each replica is armed to end itself at another moment of its first term, so
// that three leads in a row die, each there; started again, they are not armed.
// Nothing may be lost, done twice or written by one that was followed.
func TestLeadsThatDieAtTheWorstMoments(t *testing.T) {
	t.Parallel()
	for _, points := range [][]string{
		{"mirror/before-commit:30", "mirror/after-commit:30", "bind/before:40"},
		{"bind/after:40", "promote/claimed", "promote/reconciled"},
		{"promote/engine-released", "mirror/after-commit:1", "bind/after:1"},
	} {
		t.Run(strings.ReplaceAll(strings.Join(points, ","), "/", "-"), func(t *testing.T) {
			if testing.Short() {
				t.Skip("starts a control plane")
			}
			binary := failpoints(t)
			l := up(t, func(o *lab.Options) {
				o.Binary, o.SkipWait = binary, true
				o.Failpoints = map[string]string{}
				for i, p := range points {
					o.Failpoints[fmt.Sprintf("understudy-%d", i)] = p
				}
			})
			crashes(t, l, points)
		})
	}
}

func crashes(t *testing.T, l *lab.Lab, points []string) {
	s, err := Begin(t.Context(), l, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	armed := map[string]string{}
	for i, p := range points {
		armed[fmt.Sprintf("understudy-%d", i)] = p
	}
	// Who leads next is not for the test to say. A lead that has been through it
	// gives way to one that has not; as long as there are any, pods come.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for round := 0; len(armed) > 0; round++ {
		if err := crashRound(ctx, t, s, round); err != nil {
			t.Fatalf("%v; not yet hit: %v", err, armed)
		}
		for name, point := range armed {
			hit, err := died(l, name, point)
			if err != nil {
				t.Fatal(err)
			}
			if hit {
				delete(armed, name)
			}
		}
		lead, err := l.Leader(ctx)
		if err == nil && armed[lead] == "" && len(armed) > 0 {
			next := slices.Min(slices.Collect(maps.Keys(armed)))
			t.Logf("round %d: %s, which is not armed any more, is to hand over to %s", round, lead, next)
			asking, cancel := context.WithTimeout(ctx, 20*time.Second)
			if _, err := election.StepDown(asking, election.KubeLease(l.Client().CoordinationV1(), s.state.Namespace, s.state.Lease), next); err != nil {
				t.Log(err) // it has ended by itself meanwhile
			}
			cancel()
		}
	}
	verdict, err := s.Verdict(ctx)
	report(t, verdict, err)
}

// crashRound puts on some load, and sees to it that from the first pods that run
// on, nothing touches them.
func crashRound(ctx context.Context, t *testing.T, s *Session, round int) error {
	cfg := load.Default().Steady(40, 10*time.Second)
	cfg.Name, cfg.Timeout = fmt.Sprintf("round-%d", round), 2*time.Minute
	g, err := s.Load(cfg)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		r, err := g.Run(ctx)
		t.Logf("round %d: %d of %d pods bound, longest time without a bind %v", round, r.Bound, cfg.Pods, r.Gap.Length)
		return err
	})
	if round == 0 {
		group.Go(func() error {
			err := await(ctx, "running pods", func() (bool, error) { return len(s.Cluster.Running().Pods) >= 20, nil })
			s.Note()
			return err
		})
	}
	return group.Wait()
}

// died says whether the replica ended itself at the point.
func died(l *lab.Lab, replica, point string) (bool, error) {
	p, err := l.Replica(replica).Process()
	if err != nil {
		return false, err
	}
	log, err := os.ReadFile(p.Log)
	name, _, _ := strings.Cut(point, ":")
	return strings.Contains(string(log), "failpoint "+name+": SIGKILL"), err
}
