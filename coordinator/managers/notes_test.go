package managers

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// report is something that a manager says, and what a lead makes of it.
type report struct {
	name  string
	call  func(*Gate)
	event func(ledger.Stamp) ledger.Event
}

func (r report) String() string { return r.name }

// ends is how an application ends, well or not.
var ends = map[string]report{
	"a": {"complete a", func(g *Gate) { g.NotifyApplicationComplete("a") },
		func(at ledger.Stamp) ledger.Event { return ledger.CompleteApp{Stamp: at, AppID: "a"} }},
	"b": {"fail b", func(g *Gate) { g.NotifyApplicationFail("b") },
		func(at ledger.Stamp) ledger.Event { return ledger.FailApp{Stamp: at, AppID: "b"} }},
}

// reports are what a manager may say of two applications and their pods.
var reports = rapid.Custom(func(t *rapid.T) report {
	app := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")
	id := app + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "task")
	node := strings.TrimLeft(strings.TrimSuffix(id, "1"), "ab") // the first waits
	meta := protocol.ApplicationMetadata{ApplicationID: app}
	return rapid.SampledFrom([]report{
		{"begin " + app, func(g *Gate) { g.AddApplication(&protocol.AddApplicationRequest{Metadata: meta}) },
			func(at ledger.Stamp) ledger.Event { return AppEvent(at, "m", &meta, false) }},
		{"begin " + id + " on " + node, func(g *Gate) { g.Report(taskOn(app, id, node)) },
			func(at ledger.Stamp) ledger.Event { return TaskEvent(at, &taskOn(app, id, node).Metadata) }},
		{"complete " + id, func(g *Gate) { g.NotifyTaskComplete(app, id) },
			func(at ledger.Stamp) ledger.Event { return ledger.CompleteTask{Stamp: at, AppID: app, TaskID: id} }},
		{"remove " + id, func(g *Gate) { g.RemoveTask(app, id) },
			func(at ledger.Stamp) ledger.Event { return ledger.RemoveTask{Stamp: at, AppID: app, TaskID: id} }},
		ends[app],
	}).Draw(t, "report")
})

func taskOn(app, id, node string) *protocol.AddTaskRequest {
	return &protocol.AddTaskRequest{Metadata: protocol.TaskMetadata{
		ApplicationID: app, TaskID: id,
		Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(id), Name: id}, Spec: v1.PodSpec{NodeName: node}},
	}}
}

// sane leaves out what no manager says: a pod that begins before its application or after
// its own end, the end of what has not begun, and an application that begins anew while
// pods of it run: whether it does is up to when they end.
func sane(said []report) []report {
	begun, over := make(map[string]bool), make(map[string]bool)
	return slices.DeleteFunc(said, func(r report) bool {
		words := strings.Fields(r.name)
		id := words[1]
		isTask := len(id) > 1
		if words[0] != "begin" {
			over[id] = isTask
			return !begun[id]
		}
		runs := func(task string) bool { return begun[task] && !over[task] }
		if over[id] || isTask && !begun[id[:1]] || !isTask && begun[id] && (runs(id+"1") || runs(id+"2")) {
			return true
		}
		begun[id] = true
		return false
	})
}

// ended says of each application and task of a ledger whether it is there and has ended.
func ended(l *ledger.Ledger) map[string]string {
	all := make(map[string]string)
	for app := range l.Apps() {
		ending := app.State == ledger.AppStateFailing || app.State == ledger.AppStateKilling || app.Asked != ""
		all[app.ID] = fmt.Sprint(app.State.Terminal() || ending)
		for task := range l.Tasks(app.ID) {
			all[task.ID] = fmt.Sprint(task.State.Terminal(), task.Node)
		}
	}
	return all
}

// TestNothingReportedIsLost: whichever of a manager's reports the last lead has heard, the
// next one knows after the replay what one knows that has heard them all.
func TestNothingReportedIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		said := rapid.SliceOfN(reports, 1, 12).Draw(t, "reports")
		said = sane(said)
		dies := rapid.IntRange(0, len(said)).Draw(t, "the lead dies before")
		late := rapid.IntRange(0, 3).Draw(t, "the understudy's informer is behind by")
		all, followed := ledger.New(), ledger.New()
		g := testGate(func(read func(*ledger.Ledger)) bool { read(followed); return true })
		for i := range len(said) + late {
			if i < len(said) {
				event := said[i].event(ledger.Stamp{At: ledger.Time(i + 1)})
				all.Step(event)
				if i < dies {
					for _, c := range followed.Step(event).Changes {
						g.Changed(followed, c.Key)
					}
				}
			}
			if i >= late {
				g.cfg.Now = func() time.Time { return ledger.Time(i - late + 1).Time() }
				said[i-late].call(g)
			}
		}
		g.Settle(followed)
		for _, event := range g.notes.take() {
			followed.Step(event)
		}
		if got, want := ended(followed), ended(all); !maps.Equal(got, want) {
			t.Fatalf("the next lead knows %v, want %v", got, want)
		}
	})
}

// TestNotesAreDropped: what the ledger agrees with is forgotten.
func TestNotesAreDropped(t *testing.T) {
	followed := ledger.New()
	g := testGate(func(read func(*ledger.Ledger)) bool { read(followed); return true })
	step := func(event ledger.Event) {
		for _, c := range followed.Step(event).Changes {
			g.Changed(followed, c.Key)
		}
	}
	g.AddApplication(&protocol.AddApplicationRequest{Metadata: protocol.ApplicationMetadata{ApplicationID: "a", CreationTime: 1}})
	g.Report(taskOn("a", "x", ""))
	g.Report(taskOn("a", "gone", ""))
	if app := g.GetApplication("a"); app == nil || app.GetApplicationState() != "New" {
		t.Errorf("what was just reported is %v", app)
	}
	g.NotifyTaskComplete("a", "gone")
	g.RemoveTask("a", "gone") // nobody has heard of it, and need not
	step(AppEvent(ledger.Stamp{At: 1}, "m", &protocol.ApplicationMetadata{ApplicationID: "a", CreationTime: 1}, false))
	step(TaskEvent(ledger.Stamp{At: 2}, &taskOn("a", "x", "").Metadata))
	if _, waits := g.Noted("x"); !waits || len(g.notes.of) != 1 {
		t.Errorf("noted are %v, want the task that waits", g.notes.of)
	}
	step(TaskEvent(ledger.Stamp{At: 3}, &taskOn("a", "x", "n").Metadata))
	if len(g.notes.of) != 0 {
		t.Errorf("noted are %v", g.notes.of)
	}
	g.Report(taskOn("a", "y", ""))
	g.Gone("y")
	if len(g.notes.of) != 0 {
		t.Errorf("noted of a pod that is gone: %v", g.notes.of)
	}
}

// TestCallsWaitForWhatWasNoted: a later call does not overtake an earlier one.
func TestCallsWaitForWhatWasNoted(t *testing.T) {
	g := testGate(func(func(*ledger.Ledger)) bool { return false })
	const apps = 50
	for i := range apps {
		g.AddApplication(&protocol.AddApplicationRequest{Metadata: protocol.ApplicationMetadata{ApplicationID: fmt.Sprint(i)}})
	}
	box := loop.NewMailbox(1) // so that the replay has to wait
	order, first := []string{}, make(chan struct{})
	lead := loop.New(loop.Config{
		Ledger: ledger.New(), Mailbox: box, Journal: durable{}, Now: time.Now,
		Inside: func(ledger.Effect) {}, Outside: func(ledger.Effect) {},
		Observe: func(event ledger.Event, _ ledger.Delta) {
			if len(order) == 0 {
				close(first)
			}
			order = append(order, fmt.Sprintf("%T", event))
		},
	})
	go lead.Run(t.Context())
	called := make(chan struct{})
	go func() {
		defer close(called)
		<-first
		g.Report(taskOn(fmt.Sprint(apps-1), "x", ""))
	}()
	g.Replay(t.Context(), box)
	<-called
	loop.Ask(t.Context(), box, func(*ledger.Ledger) struct{} { return struct{}{} })
	if len(order) != apps+1 || order[apps] != "ledger.AddTask" {
		t.Errorf("the lead hears %v, want the task last", order)
	}
}

// TestNothingIsRemovedWhileNobodyAnswers: while a promotion is under way nobody says whether
// an application has tasks that live.
func TestNothingIsRemovedWhileNobodyAnswers(t *testing.T) {
	g := testGate(func(func(*ledger.Ledger)) bool { return false })
	g.AddApplication(&protocol.AddApplicationRequest{Metadata: protocol.ApplicationMetadata{ApplicationID: "a"}})
	if err := g.RemoveApplication("a"); err == nil || g.Waiting() != 1 {
		t.Errorf("removed: %v, %d notes", err, g.Waiting())
	}
}

// TestAPodBelongsToTheFirstThatClaimsIt, whoever reports it. That it is reported by another
// one too is said once.
func TestAPodBelongsToTheFirstThatClaimsIt(t *testing.T) {
	var said bytes.Buffer
	g := testGate(func(func(*ledger.Ledger)) bool { return false })
	g.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	g.cfg.Claimed = func(pod *v1.Pod) string {
		if pod.UID == "theirs" {
			return "first"
		}
		return ""
	}
	if g.AddTask(taskOn("a", "theirs", "")) != nil || g.AddTask(taskOn("a", "ours", "")) == nil {
		t.Error("the wrong pod was refused")
	}
	g.AddTask(taskOn("a", "theirs", ""))
	if n := strings.Count(said.String(), "belongs to"); n != 2 || strings.Count(said.String(), "\n") != 1 { // message and key
		t.Errorf("it is said %q, want one line", said.String())
	}
}

// TestGroupsAreNoted: a lead hears of a group before it hears of its tasks, and a group stays
// noted for a mirror that loses it.
func TestGroupsAreNoted(t *testing.T) {
	followed := ledger.New()
	g := testGate(func(read func(*ledger.Ledger)) bool { read(followed); return true })
	step := func(event ledger.Event) {
		for _, c := range followed.Step(event).Changes {
			g.Changed(followed, c.Key)
		}
	}
	x := taskOn("a", "x", "")
	x.Metadata.TaskGroupName = "g"
	say := func() {
		g.AddApplication(&protocol.AddApplicationRequest{Metadata: protocol.ApplicationMetadata{ApplicationID: "a", CreationTime: 1}})
		g.SetGroup("a", Group{Name: "g", UID: "1", Wanted: 3})
		g.Report(x)
		g.SetGroup("a", Group{Name: "g", UID: "1", Wanted: 2})
	}
	say()
	for _, event := range []ledger.Event{
		AppEvent(ledger.Stamp{At: 1}, "m", &protocol.ApplicationMetadata{ApplicationID: "a", CreationTime: 1}, false),
		ledger.SetCrew{AppID: "a", Name: "g", UID: "1", Wanted: 3},
		TaskEvent(ledger.Stamp{At: 2}, &x.Metadata),
		ledger.AddTask{AppID: "a", ID: "y", TaskGroup: "g"},
		ledger.SetCrew{AppID: "a", Name: "g", UID: "1", Wanted: 2},
		ledger.AppAccepted{AppID: "a"},
		ledger.Allocated{AppID: "a", TaskID: "x", Node: "n"},
	} {
		step(event)
	}
	if _, waits := g.Noted("x"); !waits {
		t.Error("a task that awaits its crew is not noted any more")
	}
	lost := ledger.New()
	lost.Step(AppEvent(ledger.Stamp{At: 1}, "m", &protocol.ApplicationMetadata{ApplicationID: "a", CreationTime: 1}, true))
	lost.Step(ledger.AppAccepted{AppID: "a"})
	g.Settle(lost)
	for _, event := range g.notes.take() {
		lost.Step(event)
	}
	if c := lost.Crew("a", "g"); c == nil || c.Wanted != 2 || lost.TaskByID("x") == nil || lost.TaskByID("x").State != ledger.TaskStateNew {
		t.Errorf("the next lead has %+v and %+v", c, lost.TaskByID("x"))
	}

	say()
	g.Settle(followed)
	if len(g.notes.of) != 0 {
		t.Errorf("noted are %v, and the next lead knows all", g.notes.of)
	}
	g.SetGroup("a", Group{Name: "g"}) // it is gone
	g.Settle(followed)
	if len(g.notes.of) != 1 {
		t.Error("the next lead does not hear that a group is gone")
	}
	step(ledger.SetCrew{AppID: "a", Name: "g"})
	if len(g.notes.of) != 0 {
		t.Errorf("noted are %v of a group that is gone", g.notes.of)
	}
}
