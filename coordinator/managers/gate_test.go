package managers

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/loop"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// lead is a loop that a contract under test speaks to.
type lead struct {
	*Gate
	box *loop.Mailbox
	end context.CancelFunc // of the term
}

type durable struct{}

func (durable) Append(_ []ledger.Change, done func()) { done() }

type noPods struct{}

func (noPods) SetPod(*v1.Pod)     {}
func (noPods) Pod(string) *v1.Pod { return nil }

// testGate is closed, and reads what the test says.
func testGate(read func(func(*ledger.Ledger)) bool) *Gate {
	return NewGate(GateConfig{
		Manager: "m", Read: read, Pods: noPods{}, Suspect: func(string, string, *v1.Pod) {}, Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
}

// leading returns a lead whose ledger has an application in some state, with what
// belongs to that: a pod that runs, unless idle, and placeholders that go. An empty
// state stands for no application at all.
func leading(t *testing.T, state ledger.AppState, idle bool) *lead {
	t.Helper()
	l := ledger.New()
	put := func(task *ledger.Task) {
		task.AppID = "a"
		l.Apply(ledger.Change{Key: ledger.Key{AppID: "a", TaskID: task.ID}, Task: task})
	}
	if state != "" {
		l.Apply(ledger.Change{Key: ledger.Key{AppID: "a"}, App: &ledger.App{
			ID: "a", State: state, Queue: "root.asked", PlacedQueue: "root.placed", User: "u",
		}})
	}
	if state != "" && !idle {
		pod := &ledger.Task{ID: "t", State: ledger.TaskStateBound, Node: "n"}
		if state == ledger.AppStateKilling {
			pod.State, pod.DeletePod = ledger.TaskStateKilling, true
		}
		put(pod)
		if state == ledger.AppStateResuming {
			put(&ledger.Task{ID: "p", State: ledger.TaskStateKilling, Placeholder: true, DeletePod: true})
		}
	}
	ctx, end := context.WithCancel(t.Context())
	box := loop.NewMailbox(10)
	running := loop.New(loop.Config{
		Ledger: l, Mailbox: box, Journal: durable{}, Now: time.Now,
		Inside: func(ledger.Effect) {}, Outside: func(ledger.Effect) {},
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		running.Run(t.Context())
	}()
	t.Cleanup(func() { end(); <-ended })
	gate := testGate(func(func(*ledger.Ledger)) bool { return false })
	gate.Open(ctx, box)
	return &lead{gate, box, end}
}

// app says how application a is, and what is kept of what was asked.
func (l *lead) app(t *testing.T) string {
	t.Helper()
	state, ok := loop.Ask(t.Context(), l.box, func(l *ledger.Ledger) string {
		if app := l.App("a"); app != nil {
			return strings.TrimSuffix(string(app.State)+","+string(app.Asked), ",")
		}
		return "none"
	})
	if !ok {
		t.Fatal("the loop has ended")
	}
	return state
}

func outcome(ok bool) string {
	if ok {
		return "ok"
	}
	return "no"
}

func addApplication(l *lead) string {
	return outcome(l.AddApplication(&protocol.AddApplicationRequest{
		Metadata: protocol.ApplicationMetadata{ApplicationID: "a"},
	}) != nil)
}

func addTask(id string) func(*lead) string {
	return func(l *lead) string {
		return outcome(l.AddTask(&protocol.AddTaskRequest{Metadata: protocol.TaskMetadata{
			ApplicationID: "a", TaskID: id, Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(id)}},
		}}) != nil)
	}
}

func setState(state string) func(*lead) string {
	return func(l *lead) string { managedApp{l.Gate, "a"}.SetState(state); return "" }
}

// contractStates are the states in which a call finds an application between two steps.
var contractStates = strings.Fields(
	"- Submitted Recovering Reserving Resuming Running Failing Killing Completed Rejected Failed Killed")

// contractCalls says of each call, by the documentation of package protocol, what it
// returns and how the application is afterwards, for each of contractStates; "=" is as
// it was.
var contractCalls = map[string]struct {
	call func(*lead) string
	idle bool
	want string
}{
	"GetApplication": {call: func(l *lead) string { return outcome(l.GetApplication("a") != nil) },
		want: "no:none ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:="},
	"AddApplication": {call: addApplication,
		want: "ok:Submitted ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:Recovering ok:Recovering ok:Recovering ok:Recovering"},
	"AddApplication, idle": {call: addApplication, idle: true,
		want: "ok:Submitted ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:Submitted ok:Submitted ok:Submitted ok:Submitted"},
	"RemoveApplication": {call: func(l *lead) string { return outcome(l.RemoveApplication("a") == nil) },
		want: "no:none no:= no:= no:= no:= no:= no:= no:= no:= no:= no:= no:="},
	"RemoveApplication, idle": {call: func(l *lead) string { return outcome(l.RemoveApplication("a") == nil) }, idle: true,
		want: "no:none ok:none ok:none ok:none ok:none ok:none ok:none ok:none ok:none ok:none ok:none ok:none"},
	"AddTask": {call: addTask("new"),
		want: "no:none ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:="},
	"AddTask, known": {call: addTask("t"),
		want: "no:none ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:="},
	"RemoveTask": {call: func(l *lead) string { l.RemoveTask("a", "t"); return "" },
		want: ":none := := := := := :Failed :Killed := := := :="},
	"NotifyTaskComplete": {call: func(l *lead) string { l.NotifyTaskComplete("a", "t"); return "" },
		want: ":none := := := := := :Failed :Killed := := := :="},
	"NotifyApplicationComplete": {call: func(l *lead) string { l.NotifyApplicationComplete("a"); return "" },
		want: ":none :Submitted,Completed :Recovering,Completed :Completed :Resuming,Completed :Completed := := := := := :="},
	"SetState Completed": {call: setState("Completed"),
		want: ":none :Submitted,Completed :Recovering,Completed :Completed :Resuming,Completed :Completed := := := := := :="},
	"NotifyApplicationFail": {call: func(l *lead) string { l.NotifyApplicationFail("a"); return "" },
		want: ":none :Failing :Recovering,Failed :Failing :Resuming,Failed :Failing := := := :Failed := :="},
	"SetState Failed": {call: setState("Failed"),
		want: ":none :Failing :Recovering,Failed :Failing :Resuming,Failed :Failing := := := :Failed := :="},
	"SetState Killed": {call: setState("Killed"),
		want: ":none :Submitted,Killed :Recovering,Killed :Killing :Resuming,Killed :Killing := := := := := :="},
	"SetState Running": {call: setState("Running"),
		want: ":none := := := := := := := := := := :="},
	"TriggerAppRecovery": {call: func(l *lead) string { return outcome(managedApp{l.Gate, "a"}.TriggerAppRecovery() == nil) },
		want: "no:none ok:= ok:= ok:= ok:= ok:= ok:= ok:= no:= no:= no:= no:="},
	"GetTask": {call: func(l *lead) string { _, err := managedApp{l.Gate, "a"}.GetTask("t"); return outcome(err == nil) },
		want: "no:none ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:= ok:="},
	"GetQueue": {call: func(l *lead) string { return managedApp{l.Gate, "a"}.GetQueue() },
		want: ":none " + strings.TrimSpace(strings.Repeat("root.placed:= ", 11))},
}

func TestGateKeepsWhatIsDocumented(t *testing.T) {
	for name, c := range contractCalls {
		wants := strings.Fields(c.want)
		for i, state := range contractStates {
			want := strings.Replace(wants[i], "=", state, 1)
			l := leading(t, ledger.AppState(strings.Trim(state, "-")), c.idle)
			if got := c.call(l); got+":"+l.app(t) != want {
				t.Errorf("%s in %s: %s:%s, want %s", name, state, got, l.app(t), want)
			}
		}
	}
}

// TestGateOfATermThatIsOver: calls say that they came too late, and change nothing.
func TestGateOfATermThatIsOver(t *testing.T) {
	for _, state := range []ledger.AppState{"", ledger.AppStateRunning, ledger.AppStateCompleted} {
		l := leading(t, state, true)
		l.end()
		if l.AddApplication(&protocol.AddApplicationRequest{}) != nil {
			t.Errorf("%q: AddApplication returns an application", state)
		}
		if addTask("new")(l) != "no" || l.GetApplication("a") != nil {
			t.Errorf("%q: a task or an application is known", state)
		}
		if l.RemoveApplication("a") == nil {
			t.Errorf("%q: RemoveApplication reports success", state)
		}
		if (managedApp{l.Gate, "a"}).TriggerAppRecovery() == nil {
			t.Errorf("%q: TriggerAppRecovery reports success", state)
		}
	}
}

// TestWithoutGangsPodsAreOnTheirOwn: task groups are ignored, in what a manager reports and in
// what it recovers.
func TestWithoutGangsPodsAreOnTheirOwn(t *testing.T) {
	meta := protocol.ApplicationMetadata{ApplicationID: "a", TaskGroups: []v1alpha1.TaskGroup{{Name: "g", MinMember: 2}}}
	for _, off := range []bool{false, true} {
		gate := NewGate(GateConfig{
			Manager: "m", Read: func(func(*ledger.Ledger)) bool { return false }, Pods: noPods{}, Suspect: func(string, string, *v1.Pod) {},
			NoGangs: off, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		gate.AddApplication(&protocol.AddApplicationRequest{Metadata: meta})
		noted, _ := gate.NotedApp("a")
		for _, event := range []ledger.AddApp{noted, gate.AppEvent(ledger.Stamp{}, &meta, true)} {
			if event.ID != "a" || event.Manager != "m" || (len(event.TaskGroups) == 0) != off {
				t.Errorf("gangs off %t: %+v", off, event)
			}
		}
	}
}
