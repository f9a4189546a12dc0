package standby

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// failing is a manager that panics, or does not return, when it is asked something.
type failing struct {
	scripted
	named, start, synced, claims, progress, describe func()
	started                                          bool
}

func (m *failing) Name() string { m.named(); return m.name }

func (m *failing) Describe() []serve.Resource { m.describe(); return nil }

func (m *failing) Start() error { m.started = true; m.start(); return nil }

func (m *failing) HasSynced() bool          { m.synced(); return true }
func (m *failing) Claims(*v1.Pod) bool      { m.claims(); return true }
func (m *failing) Progress() (bool, uint64) { m.progress(); return true, 1 }
func fails()                                { panic("broken") }
func blocks()                               { time.Sleep(time.Hour) }
func failingLike(change func(*failing)) *failing {
	sound := func() {}
	m := &failing{
		scripted: having("x"), named: sound, start: sound, synced: sound, claims: sound, progress: sound, describe: sound,
	}
	change(m)
	return m
}

// TestAManagerThatFailsHoldsUpNobody: whichever way it is asked, it is named, and the other
// one is started, asked, and has its pods. The process goes on.
func TestAManagerThatFailsHoldsUpNobody(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*failing)
		in    string // what it is named for; empty for nothing
		owner string // of a pod that both claim
	}{
		"sound":            {func(*failing) {}, "", "bad"},
		"Start panics":     {func(m *failing) { m.start = fails }, "Start: panic: broken", "bad"},
		"Start blocks":     {func(m *failing) { m.start = blocks }, "Start: it does not return", "bad"},
		"Name blocks":      {func(m *failing) { m.named = blocks }, "", "bad"},
		"HasSynced panics": {func(m *failing) { m.synced = fails }, "HasSynced: panic: broken", "bad"},
		"HasSynced blocks": {func(m *failing) { m.synced = blocks }, "HasSynced: it does not return", "bad"},
		"Claims panics":    {func(m *failing) { m.claims = fails }, "Claims: panic: broken", "good"},
		"Claims blocks":    {func(m *failing) { m.claims = blocks }, "Claims: it does not return", "good"},
		"Describe blocks":  {func(m *failing) { m.describe = blocks }, "Describe: it does not return", "bad"},
		"Progress panics":  {func(m *failing) { m.progress = fails }, "Progress: panic: broken", "bad"},
		"Progress blocks":  {func(m *failing) { m.progress = blocks }, "Progress: it does not return", "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bad, good := failingLike(c.spoil), failingLike(func(*failing) {})
				bad.name, good.name = "bad", "good"
				s := testStandby(ledger.New(), nil)
				s.staff = staffOf(bad, good)
				s.prepared.Store(true)
				began := time.Now()
				s.staff.start(t.Context(), func(string) {})
				if !good.started {
					t.Error("the other one is not started")
				}
				if owner := s.staff.claimed(testPod("x", "", v1.PodPending)); owner != c.owner {
					t.Errorf("the pod is claimed by %q, want %q", owner, c.owner)
				}
				for _, probe := range s.Probes()[1:] {
					if waits, _ := probe.Look(); !waits && (c.in == "" || !strings.HasSuffix(probe.Name, "bad")) {
						t.Errorf("%s is not asked", probe.Name)
					}
				}
				for range 100 { // It is asked again, and has not returned from the first time.
					s.staff.claimed(testPod("x", "", v1.PodPending))
					s.Probes()[1].Look()
					s.Managers()
				}
				if took := time.Since(began); took > claimLimit+managerLimit {
					t.Errorf("whoever asks waited for %v", took)
				}
				if problem := s.staff[1].problem.Load(); problem != nil {
					t.Errorf("of the other one it is said: %s", *problem)
				}
				said := ""
				if problem := s.staff[0].problem.Load(); problem != nil {
					said = *problem
				}
				if !strings.HasPrefix(said, c.in) || (said == "") != (c.in == "") {
					t.Errorf("it is said %q, want %q", said, c.in)
				}
				time.Sleep(24 * time.Hour) // what blocks comes to its end
			})
		})
	}
}

// TestAManagerThatBlocksIsToldOneThingAtATime, and of the last state once it goes on.
func TestAManagerThatBlocksIsToldOneThingAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New()
		s := testStandby(l, nil)
		defer s.Stop()
		a := &hearing{scripted: having("a"), slow: 2 * time.Hour}
		s.staff = staffOf(a)
		s.staff[0].tells = newTeller(a)
		s.staff[0].gate.Open(t.Context(), loop.NewMailbox(1))
		s.Announce()
		for i := range 20 {
			s.Durable(l.Step(ledger.AddApp{Stamp: stamp(int64(i)), ID: "x", Manager: "a"}).Changes)
			s.Durable(l.Step(ledger.AddApp{Stamp: stamp(int64(i)), ID: fmt.Sprint("y", i), Manager: "a"}).Changes)
			time.Sleep(time.Minute)
		}
		s.Durable(l.Step(ledger.RemoveApp{Stamp: stamp(100), AppID: "x"}).Changes)
		if most := a.most.Load(); most != 1 {
			t.Errorf("it is told %d things at once", most)
		}
		time.Sleep(100 * time.Hour)
		heard := a.take()
		if most := a.most.Load(); most != 1 || len(heard) != 22 || heard[0] != "x" {
			t.Errorf("it was told %d things at once, and heard %q", most, heard)
		}
	})
}

// TestAPanicOfAHandlerIsTheManagersOwn: the process and the next object do not notice.
func TestAPanicOfAHandlerIsTheManagersOwn(t *testing.T) {
	m := staffOf(having("a"))[0]
	handled := 0
	h := guardedHandler{cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		handled++
		if obj.(*v1.Pod).UID == "bad" {
			panic("broken")
		}
	}}, m}
	h.OnAdd(testPod("bad", "", v1.PodPending), false)
	h.OnAdd(testPod("good", "", v1.PodPending), false)
	if problem := m.problem.Load(); handled != 2 || problem == nil || !strings.Contains(*problem, "broken") {
		t.Errorf("handled %d, said %v", handled, problem)
	}
}
