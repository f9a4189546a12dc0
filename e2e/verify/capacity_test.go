package verify

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

func TestCapacity(t *testing.T) {
	full := func() *story {
		s := newStory()
		s.addNode("n1", 1000)
		s.create("a", 600)
		s.create("b", 400)
		s.create("c", 600)
		s.bind("a", "n1", 1)
		s.bind("b", "n1", 1)
		return s
	}
	s := full()
	c := Capacity(s.node, s.pods, nil)
	holds(t, c)
	if !strings.Contains(c.Detail, "n1 at 100% of cpu") {
		t.Errorf("detail: %s", c.Detail)
	}

	t.Run("one too many", func(t *testing.T) {
		s := full()
		s.bind("c", "n1", 1)
		s.remove("a") // too late
		fails(t, Capacity(s.node, s.pods, nil), "node n1 has 1000 of cpu and pods requesting 1600, with ns/pod-c")
	})
	t.Run("room made by a pod that finished", func(t *testing.T) {
		s := full()
		s.finish("a")
		s.bind("c", "n1", 1)
		holds(t, Capacity(s.node, s.pods, nil))
	})
	t.Run("room made by a pod that went", func(t *testing.T) {
		s := full()
		s.remove("a")
		s.bind("c", "n1", 1)
		s.remove("b")
		holds(t, Capacity(s.node, s.pods, nil))
	})
	t.Run("room made and taken at one revision, as a listing after a gap tells", func(t *testing.T) {
		s := full()
		s.bind("c", "n1", 1)
		s.remove("a")
		s.pods[len(s.pods)-1].Revision = s.pods[len(s.pods)-2].Revision
		holds(t, Capacity(s.node, s.pods, nil))
	})
	t.Run("a pod being deleted still takes its room", func(t *testing.T) {
		s := full()
		s.change("a", func(p *history.Pod) { p.Deleting = true })
		s.bind("c", "n1", 1)
		fails(t, Capacity(s.node, s.pods, nil), "requesting 1600")
	})
	t.Run("another scheduler's pod takes room too", func(t *testing.T) {
		s := newStory()
		s.addNode("n1", 1000)
		s.create("a", 600)
		s.emit(history.Added, history.Pod{
			UID: "f", Namespace: "kube-system", Name: "foreign", Scheduler: "default-scheduler", Node: "n1",
			Requests: map[v1.ResourceName]int64{v1.ResourceCPU: 500, v1.ResourcePods: 1},
		})
		s.bind("a", "n1", 1)
		fails(t, Capacity(s.node, s.pods, nil), "with ns/pod-a")
	})
	t.Run("pods bound before the recording count", func(t *testing.T) {
		s := newStory()
		s.addNode("n1", 1000)
		s.emit(history.Base, history.Pod{
			UID: "a", Node: "n1", Requests: map[v1.ResourceName]int64{v1.ResourceCPU: 1000, v1.ResourcePods: 1},
		})
		s.create("c", 600)
		s.bind("c", "n1", 1)
		fails(t, Capacity(s.node, s.pods, nil), "requesting 1600")
	})
	t.Run("too many pods", func(t *testing.T) {
		s := newStory()
		s.addNode("n1", 1000)
		for _, uid := range strings.Split("abcdefghijk", "") {
			s.create(uid, 1)
			s.bind(uid, "n1", 1)
		}
		fails(t, Capacity(s.node, s.pods, nil), "node n1 has 10 of pods")
	})
	t.Run("a resource that the node lacks", func(t *testing.T) {
		s := full()
		s.create("g", 0)
		s.change("g", func(p *history.Pod) {
			p.Requests = map[v1.ResourceName]int64{"example.com/gpu": 1}
		})
		s.bind("g", "n1", 1)
		fails(t, Capacity(s.node, s.pods, nil), "node n1 has 0 of example.com/gpu")
	})
	t.Run("a pod that grew in place", func(t *testing.T) {
		s := full()
		s.change("b", func(p *history.Pod) {
			p.Requests = map[v1.ResourceName]int64{v1.ResourceCPU: 500, v1.ResourcePods: 1}
		})
		fails(t, Capacity(s.node, s.pods, nil), "requesting 1100")
	})
	t.Run("a node that shrinks is nobody's fault", func(t *testing.T) {
		s := full()
		s.addNode("n1", 500)
		s.run("a")
		holds(t, Capacity(s.node, s.pods, nil))
		s.bind("c", "n1", 1)
		fails(t, Capacity(s.node, s.pods, nil), "has 500 of cpu")
	})
	t.Run("a node that never was", func(t *testing.T) {
		s := full()
		s.bind("c", "n9", 1)
		fails(t, Capacity(s.node, s.pods, nil), "a node that never was")
	})
	t.Run("no node seen", func(t *testing.T) {
		fails(t, Capacity(nil, nil, nil), "no node was observed")
	})
}
