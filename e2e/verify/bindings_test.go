package verify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// twoBound is a history of two pods, each bound once, by epochs 1 and 2.
func twoBound() *story {
	s := newStory()
	s.addNode("n1", 1000)
	s.create("a", 100)
	s.create("b", 100)
	s.bind("a", "n1", 1)
	s.run("a")
	s.bind("b", "n1", 2)
	return s
}

// at is a moment n milliseconds into the audit log.
func at(n int) time.Time { return time.Unix(1000, 0).Add(time.Duration(n) * time.Millisecond) }

func binding(uid string, epoch uint64, code, from, to int) Binding {
	return Binding{
		Namespace: "ns", Name: "pod-" + uid, UID: uid, Node: "n1", Epoch: epoch, User: "coordinator",
		Code: code, Received: at(from), Completed: at(to),
	}
}

func TestBoundOnce(t *testing.T) {
	good := func() []Binding {
		return []Binding{binding("a", 1, 201, 0, 2), binding("b", 2, 201, 5, 7)}
	}
	holds(t, BoundOnce(expect("a", "b"), twoBound().pods, nil, nil))
	holds(t, BoundOnce(expect("a", "b"), twoBound().pods, nil, good()))

	t.Run("never bound", func(t *testing.T) {
		s := twoBound()
		s.create("c", 1)
		fails(t, BoundOnce(expect("a", "b", "c"), s.pods, nil, nil), "pod ns/pod-c (c) was never bound")
	})
	t.Run("never seen", func(t *testing.T) {
		fails(t, BoundOnce(expect("a", "b", "c"), twoBound().pods, nil, nil), "was never seen")
	})
	t.Run("never created", func(t *testing.T) {
		e := append(expect("a"), Expected{Namespace: "ns", Name: "lost"})
		fails(t, BoundOnce(e, twoBound().pods, nil, nil), "pod ns/lost was never created")
	})
	t.Run("nothing expected", func(t *testing.T) {
		fails(t, BoundOnce(nil, twoBound().pods, nil, nil), "no pod was expected")
	})
	t.Run("moved, though not expected", func(t *testing.T) {
		s := twoBound()
		s.bind("b", "n2", 2)
		fails(t, BoundOnce(expect("a"), s.pods, nil, nil), `moved from node "n1" to "n2"`)
	})
	t.Run("taken off its node", func(t *testing.T) {
		s := twoBound()
		s.bind("b", "", 2)
		fails(t, BoundOnce(expect("a"), s.pods, nil, nil), `moved from node "n1" to ""`)
	})
	t.Run("two bindings accepted", func(t *testing.T) {
		audit := append(good(), binding("a", 2, 201, 8, 9))
		fails(t, BoundOnce(expect("a", "b"), twoBound().pods, nil, audit), "two bindings accepted")
	})
	t.Run("two bindings accepted, one without a UID", func(t *testing.T) {
		again := binding("a", 2, 201, 8, 9)
		again.UID = ""
		fails(t, BoundOnce(expect("a", "b"), twoBound().pods, nil, append(good(), again)), "two bindings accepted")
	})
	t.Run("a second binding refused", func(t *testing.T) {
		audit := append(good(), binding("a", 2, 409, 8, 9))
		c := BoundOnce(expect("a", "b"), twoBound().pods, nil, audit)
		holds(t, c)
		if !strings.Contains(c.Detail, "2 bindings accepted, 1 refused") {
			t.Errorf("detail: %s", c.Detail)
		}
	})
	t.Run("bound past the audit log", func(t *testing.T) {
		fails(t, BoundOnce(expect("a", "b"), twoBound().pods, nil, good()[:1]), "the audit log knows of no binding")
	})
	t.Run("an answer was lost", func(t *testing.T) {
		audit := good()
		audit[1].Code = 504
		holds(t, BoundOnce(expect("a", "b"), twoBound().pods, nil, audit))
	})
	t.Run("bound before the recording began", func(t *testing.T) {
		s := newStory()
		s.emit(history.Base, history.Pod{UID: "a", Namespace: "ns", Name: "pod-a", Node: "n1"})
		holds(t, BoundOnce(expect("a"), s.pods, nil, []Binding{}))
	})
}

func TestOneEpochBinds(t *testing.T) {
	holds(t, OneEpochBinds(twoBound().pods, nil, nil, ""))

	t.Run("an older epoch after a newer", func(t *testing.T) {
		s := twoBound()
		s.create("c", 1)
		s.bind("c", "n1", 1)
		fails(t, OneEpochBinds(s.pods, nil, nil, ""), "by epoch 1 after epoch 2 had bound")
	})
	t.Run("nobody's epoch", func(t *testing.T) {
		s := twoBound()
		s.create("c", 1)
		s.bind("c", "n1", 0)
		fails(t, OneEpochBinds(s.pods, nil, nil, ""), "by nobody's epoch")
	})
	t.Run("another scheduler has no epoch", func(t *testing.T) {
		s := twoBound()
		s.emit(history.Added, history.Pod{UID: "f", Scheduler: "default-scheduler"})
		s.bind("f", "n1", 0)
		holds(t, OneEpochBinds(s.pods, nil, nil, ""))
	})
	t.Run("no binding seen", func(t *testing.T) {
		s := newStory()
		s.create("a", 1)
		fails(t, OneEpochBinds(s.pods, nil, nil, ""), "no binding was observed")
	})
	t.Run("the audit log shows a zombie", func(t *testing.T) {
		audit := []Binding{binding("a", 2, 201, 0, 2), binding("b", 1, 201, 3, 4)}
		fails(t, OneEpochBinds(twoBound().pods, nil, audit, "coordinator"), "audit log: a binding of ns/pod-b by epoch 1")
	})
	t.Run("the zombie was refused", func(t *testing.T) {
		audit := []Binding{binding("a", 2, 201, 0, 2), binding("b", 1, 422, 3, 4)}
		holds(t, OneEpochBinds(twoBound().pods, nil, audit, "coordinator"))
	})
	t.Run("requests that overlap prove nothing", func(t *testing.T) {
		audit := []Binding{binding("a", 2, 201, 0, 5), binding("b", 1, 201, 4, 9)}
		holds(t, OneEpochBinds(twoBound().pods, nil, audit, "coordinator"))
	})
	t.Run("somebody else's bindings", func(t *testing.T) {
		other := binding("b", 1, 201, 3, 4)
		other.User = "somebody"
		audit := []Binding{binding("a", 2, 201, 0, 2), other}
		holds(t, OneEpochBinds(twoBound().pods, nil, audit, "coordinator"))
	})
}

func TestReadAudit(t *testing.T) {
	requests := 0
	line := func(stage, verb, sub, uri, uid string, code int) string {
		if stage == "RequestReceived" {
			requests++
		}
		return fmt.Sprintf(`{"kind":"Event","auditID":"%d","stage":%q,"verb":%q,"requestURI":%q,"user":{"username":"u"},`+
			`"objectRef":{"resource":"pods","subresource":%q,"namespace":"ns","name":"p"},`+
			`"responseStatus":{"code":%d},"requestReceivedTimestamp":"2026-01-02T03:04:05.000001Z",`+
			`"stageTimestamp":"2026-01-02T03:04:05.000900Z","requestObject":{"kind":"Binding",`+
			`"metadata":{"name":"p","uid":%q,"annotations":{"understudy.dev/epoch":"7"}},"target":{"name":"n1"}}}`+"\n",
			requests, stage, verb, uri, sub, code, uid)
	}
	log := line("RequestReceived", "create", "binding", "/b", "", 0) +
		line("ResponseComplete", "create", "binding", "/b", "u1", 201) +
		line("RequestReceived", "create", "binding", "/b?dryRun=All", "", 0) +
		line("ResponseComplete", "create", "", "/pods?note=binding", "u1", 201) +
		line("ResponseComplete", "create", "binding", "/b?dryRun=All", "u1", 201) +
		line("RequestReceived", "create", "binding", "/b", "", 0) +
		line("ResponseComplete", "create", "binding", "/b", "u1", 409) +
		line("RequestReceived", "create", "binding", "/b", "", 0) + // the API server died
		`{"stage":"ResponseComplete","objectRef":{"resource":"pods","subresource":"bindi` // still being written
	got, err := ReadAudit(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !got[0].Accepted() || got[1].Accepted() || got[1].Unknown() || !got[2].Unknown() || got[2].Name != "p" {
		t.Fatalf("read %+v", got)
	}
	b := got[0]
	if b.UID != "u1" || b.Epoch != 7 || b.Node != "n1" || b.User != "u" || b.Completed.Sub(b.Received) != 899*time.Microsecond {
		t.Errorf("read %+v", b)
	}

	if got, err := ReadAudit(strings.NewReader("")); err != nil || got == nil {
		t.Errorf("an empty log reads as none: %v, %v", got, err)
	}

	meta := `{"stage":"ResponseComplete","verb":"create","objectRef":{"resource":"pods","subresource":"binding"},"responseStatus":{"code":201}}` + "\n"
	if _, err := ReadAudit(strings.NewReader(meta)); err == nil || !strings.Contains(err.Error(), "level Request") {
		t.Errorf("a log that hides the requests was taken as proof: %v", err)
	}
	if _, err := ReadAudit(strings.NewReader("{binding\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a broken line was skipped: %v", err)
	}
}

func TestUntouched(t *testing.T) {
	setup := func() (*story, history.Running) {
		s := twoBound()
		s.run("b")
		a, b := s.last["a"], s.last["b"]
		return s, history.Running{Pods: []*history.Pod{&a, &b}, Next: len(s.pods)}
	}
	s, before := setup()
	s.create("c", 1) // others come and go
	s.remove("c")
	holds(t, Untouched(before, s.pods, nil, nil))

	for what, hurt := range map[string]func(*story){
		"was deleted":             func(s *story) { s.remove("a") },
		"was marked for deletion": func(s *story) { s.change("a", func(p *history.Pod) { p.Deleting = true }) },
		`moved to "n2"`:           func(s *story) { s.bind("a", "n2", 2) },
		"became Failed":           func(s *story) { s.change("a", func(p *history.Pod) { p.Phase = v1.PodFailed }) },
		"restarted 2 times":       func(s *story) { s.change("a", func(p *history.Pod) { p.Restarts = 2 }) },
	} {
		t.Run(what, func(t *testing.T) {
			s, before := setup()
			hurt(s)
			fails(t, Untouched(before, s.pods, nil, nil), what)
		})
	}
	t.Run("harm that was undone", func(t *testing.T) {
		s, before := setup()
		s.change("a", func(p *history.Pod) { p.Phase = v1.PodFailed })
		s.run("a")
		fails(t, Untouched(before, s.pods, nil, nil), "became Failed")
	})
	t.Run("deleted by the drill", func(t *testing.T) {
		s, before := setup()
		s.remove("a")
		holds(t, Untouched(before, s.pods, nil, map[string]bool{"a": true}))
	})
	t.Run("nothing ran", func(t *testing.T) {
		s, _ := setup()
		fails(t, Untouched(history.Running{}, s.pods, nil, nil), "no pod ran")
	})
}
