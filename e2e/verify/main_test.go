package verify

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// story builds a history of pods event by event, at rising revisions.
type story struct {
	rev  uint64
	pods []history.PodEvent
	node []history.NodeEvent
	last map[string]history.Pod
}

func newStory() *story { return &story{last: map[string]history.Pod{}} }

func (s *story) emit(kind history.Kind, p history.Pod) {
	s.rev++
	s.last[p.UID] = p
	s.pods = append(s.pods, history.PodEvent{At: time.Unix(int64(s.rev), 0), Revision: s.rev, Kind: kind, Pod: &p})
}

// addNode adds a node with cpu millicores and room for ten pods.
func (s *story) addNode(name string, cpu int64) {
	s.rev++
	s.node = append(s.node, history.NodeEvent{
		Revision: s.rev, Kind: history.Added, Name: name,
		Allocatable: map[v1.ResourceName]int64{v1.ResourceCPU: cpu, v1.ResourceMemory: 1 << 30, v1.ResourcePods: 10},
	})
}

// create adds a waiting pod of application "app" that requests cpu millicores.
func (s *story) create(uid string, cpu int64) {
	s.emit(history.Added, history.Pod{
		UID: uid, Namespace: "ns", Name: "pod-" + uid, Scheduler: Scheduler, AppID: "app", Phase: v1.PodPending,
		Requests: map[v1.ResourceName]int64{v1.ResourceCPU: cpu, v1.ResourcePods: 1},
	})
}

func (s *story) change(uid string, f func(*history.Pod)) {
	p := s.last[uid]
	f(&p)
	s.emit(history.Changed, p)
}

func (s *story) bind(uid, node string, epoch uint64) {
	s.change(uid, func(p *history.Pod) { p.Node, p.Epoch = node, epoch })
}

func (s *story) run(uid string) {
	s.change(uid, func(p *history.Pod) { p.Phase = v1.PodRunning })
}

func (s *story) finish(uid string) {
	s.change(uid, func(p *history.Pod) { p.Phase = v1.PodSucceeded })
}

func (s *story) remove(uid string) { s.emit(history.Gone, s.last[uid]) }

func expect(uids ...string) []Expected {
	var out []Expected
	for _, uid := range uids {
		out = append(out, Expected{Namespace: "ns", Name: "pod-" + uid, UID: uid})
	}
	return out
}

// holds fails the test unless the check passed.
func holds(t *testing.T, c Check) {
	t.Helper()
	if !c.OK || c.Violations != 0 {
		t.Errorf("%s: %d violations in a history without any: %q", c.Name, c.Violations, c.Examples)
	}
}

// fails fails the test unless the check found want, and only that.
func fails(t *testing.T, c Check, want string) {
	t.Helper()
	if c.OK || c.Violations != 1 || len(c.Examples) != 1 || !strings.Contains(c.Examples[0], want) {
		t.Errorf("%s: ok=%v, %d violations %q; want one containing %q", c.Name, c.OK, c.Violations, c.Examples, want)
	}
}
