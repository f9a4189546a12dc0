package standby

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/coordinator/managers"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// scripted is a manager that answers as the test says.
type scripted struct {
	name string
	has  func(*v1.Pod) *si.Allocation
	list func() (map[string]protocol.ApplicationMetadata, error)
}

func (m scripted) Name() string       { return m.name }
func (m scripted) ServiceInit() error { return nil }
func (m scripted) Start() error       { return nil }
func (m scripted) Stop()              {}
func (m scripted) ListApplications() (map[string]protocol.ApplicationMetadata, error) {
	return m.list()
}
func (m scripted) GetExistingAllocation(pod *v1.Pod) *si.Allocation { return m.has(pod) }

// having is a manager of one application, of the pods that begin like that.
func having(app string) scripted {
	return scripted{
		name: app,
		has: func(pod *v1.Pod) *si.Allocation {
			if !strings.HasPrefix(string(pod.UID), app) {
				return nil
			}
			return &si.Allocation{ApplicationID: app, AllocationKey: string(pod.UID), NodeID: pod.Spec.NodeName}
		},
		list: func() (map[string]protocol.ApplicationMetadata, error) {
			return map[string]protocol.ApplicationMetadata{app: {ApplicationID: app, CreationTime: 1}}, nil
		},
	}
}

// wiped reconciles an empty ledger with two pods of each of two managers.
func wiped(t *testing.T, st staff) (l *ledger.Ledger, unknown int) {
	t.Helper()
	l = ledger.New()
	var findings []finding
	for _, uid := range []string{"a1", "a2", "b1", "b2"} {
		findings = append(findings, finding{ledger.Key{AppID: "guessed", TaskID: uid}, false, testPod(uid, "n", v1.PodRunning)})
	}
	events, _, unknown := reconciliation(l, st, "", findings, time.Unix(100, 0))
	for _, event := range events {
		l.Step(event)
	}
	return l, unknown
}

// bound are the applications of a ledger with their bound tasks.
func bound(l *ledger.Ledger) map[string]int {
	all := make(map[string]int)
	for app := range l.Apps() {
		all[app.ID] = l.Placed(app.ID)
	}
	return all
}

// TestRecoveryAsksTheManagers: with the mirror wiped, the applications and allocations of
// each manager come back from its answers, and from nothing else. One that fails, in
// whatever way, loses its own and is named; the others do not notice.
func TestRecoveryAsksTheManagers(t *testing.T) {
	for name, spoil := range map[string]func(*scripted){
		"": func(*scripted) {},
		"does not know its pods": func(m *scripted) {
			m.has = func(*v1.Pod) *si.Allocation { return nil }
		},
		"panics": func(m *scripted) {
			m.has = func(*v1.Pod) *si.Allocation { panic("broken") }
		},
		"blocks": func(m *scripted) {
			m.has = func(*v1.Pod) *si.Allocation { time.Sleep(time.Hour); return nil }
		},
		"tells of another node": func(m *scripted) {
			m.has = func(pod *v1.Pod) *si.Allocation {
				return &si.Allocation{ApplicationID: "a", AllocationKey: string(pod.UID), NodeID: "elsewhere"}
			}
		},
		"cannot list": func(m *scripted) {
			m.list = func() (map[string]protocol.ApplicationMetadata, error) { return nil, errors.New("away") }
		},
		"lists others": func(m *scripted) {
			m.list = func() (map[string]protocol.ApplicationMetadata, error) { return nil, nil }
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := having("a")
			spoil(&a)
			l, _ := wiped(t, staffOf(a, having("b")))
			want := map[string]int{"a": 2, "b": 2}
			if name != "" {
				delete(want, "a")
			}
			if got := bound(l); !maps.Equal(got, want) {
				t.Errorf("a manager that %q: recovered are %v, want %v", name, got, want)
			}
			if app := l.App("b"); app != nil && app.Manager != "b" {
				t.Errorf("the application is recorded for %q", app.Manager)
			}
			time.Sleep(24 * time.Hour) // what blocks comes to its end
		})
	}
}

// TestWhatAPlainManagerReportedIsRecovered: it cannot be asked, and what it has reported of
// a pod while its replica followed is there before the engine may schedule.
func TestWhatAPlainManagerReportedIsRecovered(t *testing.T) {
	plain := struct{ protocol.AppManager }{having("a")}
	st := staffOf(plain, having("b"))
	st[0].gate.AddApplication(&protocol.AddApplicationRequest{Metadata: protocol.ApplicationMetadata{ApplicationID: "a"}})
	for _, uid := range []string{"a1", "a2"} {
		st[0].gate.AddTask(&protocol.AddTaskRequest{Metadata: protocol.TaskMetadata{
			ApplicationID: "a", TaskID: uid, Pod: testPod(uid, "n", v1.PodRunning),
		}})
	}
	l, unknown := wiped(t, st)
	if got, want := bound(l), map[string]int{"a": 2, "b": 2}; !maps.Equal(got, want) || unknown != 0 {
		t.Errorf("recovered are %v, want %v; %d pods are nobody's", got, want, unknown)
	}
}

// TestTheFirstManagerHasAPod that several know.
func TestTheFirstManagerHasAPod(t *testing.T) {
	second := having("a")
	second.name = "second"
	l, _ := wiped(t, staffOf(having("a"), second, having("b")))
	if app := l.App("a"); app == nil || app.Manager != "a" {
		t.Errorf("the application is recorded as %+v", app)
	}
}

// hearing is a manager that hears what becomes of its applications.
type hearing struct {
	scripted
	mu    sync.Mutex
	heard []string
	slow  time.Duration
	over  string // the application over which it panics
	// under is how many calls are under way, most how many were at once.
	under, most atomic.Int32
}

func (h *hearing) AppChanged(s managers.AppStatus) {
	h.most.Store(max(h.most.Load(), h.under.Add(1)))
	defer h.under.Add(-1)
	time.Sleep(h.slow)
	if s.ApplicationID == h.over {
		panic("broken")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, strings.TrimSpace(s.ApplicationID+" "+s.State+" "+s.Message))
}

func (h *hearing) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	heard := h.heard
	h.heard = nil
	slices.Sort(heard)
	return heard
}

// TestManagersHearOfTheirApplications: nothing before it is announced, then of all that
// there are, then of what changes, each of its own only. One that takes its time holds up
// nobody, and hears of the last state.
func TestManagersHearOfTheirApplications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New()
		s := testStandby(l, nil)
		a := &hearing{scripted: having("a")}
		s.staff = staffOf(a, having("b"))
		s.staff[0].tells = newTeller(a)
		step := func(event ledger.Event) { s.Durable(l.Step(event).Changes) }
		step(ledger.AddApp{Stamp: stamp(1), ID: "x", Manager: "a"})
		step(ledger.AddApp{Stamp: stamp(1), ID: "y", Manager: "b"})
		defer s.Stop()
		s.staff.recount(l)
		synctest.Wait()
		if heard := a.take(); len(heard) > 0 {
			t.Errorf("heard ahead of time: %q", heard)
		}
		s.Announce()
		synctest.Wait()
		if heard := a.take(); len(heard) > 0 {
			t.Errorf("heard before it could answer: %q", heard)
		}
		s.staff[0].gate.Open(t.Context(), loop.NewMailbox(1))
		synctest.Wait()
		if got, want := a.take(), []string{"x Submitted"}; !slices.Equal(got, want) {
			t.Errorf("heard at first %q, want %q", got, want)
		}
		step(ledger.AppAccepted{Stamp: stamp(2), AppID: "x"})
		synctest.Wait()
		a.slow = time.Second
		step(ledger.FailApp{Stamp: stamp(3), AppID: "x", Message: "because"})
		step(ledger.FailApp{Stamp: stamp(3), AppID: "y"})
		synctest.Wait() // it is being told
		step(ledger.AddApp{Stamp: stamp(4), ID: "x", Manager: "a"})
		step(ledger.CompleteApp{Stamp: stamp(5), AppID: "x"})
		step(ledger.RemoveApp{Stamp: stamp(6), AppID: "x"})
		time.Sleep(time.Minute)
		heard := a.take()
		if n := len(heard); n == 0 || heard[0] != "x" || slices.Contains(heard, "y") || n > 4 {
			t.Errorf("heard %q, want the end of x at last", heard)
		}
	})
}

// ofGroups is a manager that hears of groups.
type ofGroups struct {
	scripted
	mu    sync.Mutex
	heard []string
}

func (m *ofGroups) GroupsChanged(app string, groups []managers.GroupStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = append(m.heard, fmt.Sprintf("%s %+v", app, groups))
}

// TestManagersHearOfTheirGroups, as they do of their applications.
func TestManagersHearOfTheirGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New()
		s := testStandby(l, nil)
		defer s.Stop()
		m := &ofGroups{scripted: having("a")}
		s.staff = staffOf(m)
		s.staff[0].tells = newTeller(nil)
		s.staff[0].tells.groups = m
		s.staff[0].gate.Open(t.Context(), loop.NewMailbox(1))
		s.Announce()
		for _, event := range []ledger.Event{
			ledger.AddApp{Stamp: stamp(1), ID: "x", Manager: "a"},
			ledger.SetCrew{Stamp: stamp(2), AppID: "x", Name: "g", UID: "1", Wanted: 1},
			ledger.SetCrew{Stamp: stamp(3), AppID: "x", Name: "g", UID: "1", Wanted: 1, Whole: true},
			ledger.RemoveApp{Stamp: stamp(4), AppID: "x"},
		} {
			s.Durable(l.Step(event).Changes)
			synctest.Wait()
		}
		want := []string{
			"x []", "x [{Name:g UID:1 Whole:false Reason: Message:}]", "x [{Name:g UID:1 Whole:true Reason: Message:}]", "x []",
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if !slices.Equal(m.heard, want) {
			t.Errorf("heard %q, want %q", m.heard, want)
		}
	})
}

// TestAPromotionGoesOnWithWhatWasWrittenInPart: the application runs, and nobody has asked
// for its pod.
func TestAPromotionGoesOnWithWhatWasWrittenInPart(t *testing.T) {
	l := ledger.New()
	l.Step(ledger.AddApp{Stamp: stamp(1), ID: "x"})
	l.Step(ledger.AddTask{Stamp: stamp(2), AppID: "x", ID: "x1"})
	found := l.Clone()
	for _, c := range l.Step(ledger.AppAccepted{Stamp: stamp(3), AppID: "x"}).Changes {
		if c.Key.TaskID == "" {
			found.Apply(c)
		}
	}
	s := testStandby(found, func(ledger.Effect) error { return nil })
	defer s.Stop()
	r := s.Promote(Promotion{
		Context: t.Context(), Mailbox: loop.NewMailbox(1), State: found, Step: (*ledger.Ledger).Step, Now: time.Now,
	})
	if task := found.TaskByID("x1"); task.State != ledger.TaskStateScheduling || r.Changes.Len() == 0 {
		t.Errorf("the task is %s, changed are %d records", task.State, r.Changes.Len())
	}
}

// TestAManagerThatFailsOverOneApplicationHearsOfOthers, and is named.
func TestAManagerThatFailsOverOneApplicationHearsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New()
		s := testStandby(l, nil)
		defer s.Stop()
		a := &hearing{scripted: having("a"), over: "5"}
		s.staff = staffOf(a)
		s.staff[0].tells = newTeller(a)
		for i := range 10 {
			l.Step(ledger.AddApp{Stamp: stamp(1), ID: fmt.Sprint(i), Manager: "a"})
		}
		s.staff.recount(l)
		s.staff[0].gate.Open(t.Context(), loop.NewMailbox(1))
		s.Announce()
		synctest.Wait()
		if heard := a.take(); len(heard) != 9 || s.staff[0].problem.Load() == nil {
			t.Errorf("heard %q", heard)
		}
	})
}

// blind is a manager that sees what exists after some time.
type blind struct {
	scripted
	sees time.Time
}

func (m blind) HasSynced() bool { return !time.Now().Before(m.sees) }

// A replica waits for all its managers for as long as it would for one: several that are
// denied what they follow keep it from leading no longer. It says for which it waits.
func TestManagersThatSeeNothingAreWaitedForTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, log := time.Now(), slog.New(slog.DiscardHandler)
		staffed := func(name string, after time.Duration) *member {
			return &member{AppManager: blind{scripted{name: name}, began.Add(after)}, name: name, log: log}
		}
		st := staff{
			staffed("quick", time.Second), staffed("denied", time.Hour), staffed("denied-too", time.Hour), staffed("slow", syncLimit-time.Second),
		}
		var waited []string
		st.start(t.Context(), func(manager string) { waited = append(waited, manager) })
		if took := time.Since(began); took != syncLimit {
			t.Errorf("it waited for %v, want %v", took, syncLimit)
		}
		if want := []string{"quick", "denied", "denied-too", "slow"}; !slices.Equal(waited, want) {
			t.Errorf("it waited for %v, want %v", waited, want)
		}
		for i, fails := range []bool{false, true, true, false} {
			if (st[i].problem.Load() != nil) != fails {
				t.Errorf("manager %s: fails = %t, want %t", st[i].Name(), !fails, fails)
			}
		}
	})
}

// listener is a voice that notes what it says.
type listener struct{ said []string }

func (l *listener) ConfigMap(*v1.ConfigMap, bool, string, string) {}
func (l *listener) Waits(*v1.Pod, string, string)                 {}

func (l *listener) Problems(pod *v1.Pod, _ []workload.Problem) { l.said = append(l.said, pod.Name) }

func (l *listener) Object(about v1.ObjectReference, _ bool, _, message string) {
	l.said = append(l.said, about.Name+" "+message)
}

// TestWhatManagersSayWhileNobodyLeads is said by the next lead, once it may write: the
// newest of what is not old, and nothing twice.
func TestWhatManagersSayWhileNobodyLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testStandby(ledger.New(), nil)
		defer s.Stop()
		s.tellObject(v1.ObjectReference{Name: "long"}, true, "r", "ago")
		time.Sleep(unsaidAge)
		for range 5 * unsaidLimit {
			s.tellObject(v1.ObjectReference{Name: "too"}, true, "r", "much")
		}
		for range unsaidLimit - 2 {
			s.tellObject(v1.ObjectReference{Name: "many"}, true, "r", "more")
		}
		s.tellObject(v1.ObjectReference{Name: "an"}, true, "r", "object")
		s.problems(testPod("x", "", v1.PodPending), nil)
		l := &listener{}
		s.SetVoice(l)
		if len(l.said) > 0 {
			t.Errorf("said ahead of time: %q", l.said)
		}
		s.Announce()
		if n := len(l.said); n != unsaidLimit || l.said[0] != "many more" || l.said[n-2] != "an object" || l.said[n-1] != "pod-x" {
			t.Errorf("%d said, the first %q, the last %q", n, l.said[0], l.said[n-2:])
		}
		s.tellObject(v1.ObjectReference{Name: "at"}, true, "r", "once")
		s.Announce()
		if n := len(l.said); n != unsaidLimit+1 || l.said[n-1] != "at once" {
			t.Errorf("%d said, the last %q", n, l.said[n-1])
		}
	})
}
