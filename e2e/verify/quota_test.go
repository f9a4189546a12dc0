package verify

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

const testQueues = `
partitions:
  - name: default
    placementrules: [{name: provided}, {name: tag, value: namespace, create: true}]
    queues:
      - name: root
        queues:
          - name: Team
            resources: {max: {vcore: "1", pods: 3}}
            queues:
              - {name: a, resources: {max: {vcore: 600m, memory: 1Gi}}}
              - {name: b}
          - {name: free}
`

func TestQueueQuota(t *testing.T) {
	queues, err := ParseQueues(testQueues)
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *story) Check { return QueueQuota(queues, s.pods, nil) }
	in := func(s *story, queue, uid string, cpu int64) {
		s.create(uid, cpu)
		s.change(uid, func(p *history.Pod) { p.Queue = queue })
	}
	// full leaves nothing of the quotas of team and of its queue a.
	full := func() *story {
		s := newStory()
		in(s, "root.team.a", "a", 600)
		in(s, "root.team.b", "b", 400)
		in(s, "root.team.b", "c", 100)
		in(s, "root.free", "f", 9000)
		s.bind("a", "n1", 1)
		s.bind("b", "n1", 1)
		s.bind("f", "n1", 1)
		return s
	}
	c := check(full())
	holds(t, c)
	if want := "2 queues with a quota, 2 assignments replayed; fullest: root.team at 100% of cpu"; c.Detail != want {
		t.Errorf("detail: %s, want %s", c.Detail, want)
	}

	t.Run("one too many for the parent", func(t *testing.T) {
		s := full()
		s.bind("c", "n1", 1)
		s.remove("a") // too late
		fails(t, check(s), "queue root.team may use 1000 of cpu and uses 1100, with ns/pod-c")
	})
	t.Run("too much for the queue itself", func(t *testing.T) {
		s := newStory()
		in(s, "Team.A", "a", 700) // below root, if it does not say so
		s.bind("a", "n1", 1)
		fails(t, check(s), "queue root.team.a may use 600 of cpu and uses 700")
	})
	t.Run("too many pods", func(t *testing.T) {
		s := newStory()
		for _, uid := range []string{"a", "b", "c", "d"} {
			in(s, "root.team.b", uid, 1)
			s.bind(uid, "n1", 1)
		}
		fails(t, check(s), "queue root.team may use 3 of pods and uses 4, with ns/pod-d")
	})
	t.Run("room made by a pod that finished", func(t *testing.T) {
		s := full()
		s.finish("a")
		s.bind("c", "n1", 1)
		holds(t, check(s))
	})
	t.Run("room made by a pod that went", func(t *testing.T) {
		s := full()
		s.remove("b")
		s.bind("c", "n1", 1)
		holds(t, check(s))
	})
	t.Run("a pod that grew in place", func(t *testing.T) {
		s := full()
		s.change("b", func(p *history.Pod) { p.Requests = map[v1.ResourceName]int64{v1.ResourceCPU: 500} })
		fails(t, check(s), "uses 1100")
	})
	t.Run("placed by its namespace", func(t *testing.T) {
		s := full()
		s.create("n", 5000) // it asks for no queue
		s.bind("n", "n1", 1)
		in(s, "root.unheard-of", "u", 5000) // nor this one for one that exists
		s.bind("u", "n1", 1)
		holds(t, check(s))
	})
	t.Run("of another scheduler", func(t *testing.T) {
		s := full()
		s.change("c", func(p *history.Pod) { p.Scheduler = "default-scheduler" })
		s.bind("c", "n1", 0)
		holds(t, check(s))
	})
	t.Run("over the quota when the recording began", func(t *testing.T) {
		s := full()
		s.bind("c", "n1", 1)
		for i := range s.pods {
			s.pods[i].Kind = history.Base
		}
		s.run("c")
		c := check(s)
		fails(t, c, "no pod was assigned in a queue with a quota")
		if c.Violations != 1 {
			t.Errorf("%q", c.Examples)
		}
		in(s, "root.team.a", "late", 0)
		s.change("late", func(p *history.Pod) { p.Requests = map[v1.ResourceName]int64{v1.ResourceMemory: 1 << 30} })
		s.bind("late", "n1", 1) // takes nothing of what there is too little of
		holds(t, check(s))
	})
	t.Run("no quota", func(t *testing.T) {
		none, err := ParseQueues("")
		if err != nil {
			t.Fatal(err)
		}
		fails(t, QueueQuota(none, full().pods, nil), "no queue has a quota")
	})
	t.Run("gaps", func(t *testing.T) {
		gap := []history.Gap{{What: "pods", After: 3, Until: 9, Reason: "expired"}}
		fails(t, QueueQuota(queues, full().pods, gap), "lacks revisions 4 to 9")
	})
}

func TestParseQueues(t *testing.T) {
	q, err := ParseQueues(testQueues)
	if err != nil {
		t.Fatal(err)
	}
	if got := q.Max["root.team.a"]; got[v1.ResourceCPU] != 600 || got[v1.ResourceMemory] != 1<<30 {
		t.Errorf("root.team.a: %v", got)
	}
	if again, err := ParseQueues(testQueues); err != nil || !q.Same(again) {
		t.Errorf("not the same as itself, %v", err)
	}
	if other, err := ParseQueues(strings.Replace(testQueues, "600m", "601m", 1)); err != nil || q.Same(other) {
		t.Errorf("the same with another quota, %v", err)
	}
	for text, want := range map[string]string{
		"partitions: [":  "queues",
		"partitions: []": "0 partitions",
		strings.Replace(testQueues, "{name: provided}", "{name: user}", 1):                        "placement rule user",
		strings.Replace(testQueues, "value: namespace", "value: namespace, parent: {name: x}", 1): "placement rule tag",
		strings.Replace(testQueues, "600m", "much", 1):                                            "root.team.a: vcore much",
	} {
		if _, err := ParseQueues(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
