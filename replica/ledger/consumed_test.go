package ledger

import (
	"maps"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// taken is what applications have taken, noted beside the ledger.
type taken map[string]*taking

type taking struct {
	most, consumed map[string]int64
	placed         map[string]*Task // before the step
	ended          bool
}

// before notes what has a place before a step.
func (all taken) before(l *Ledger) {
	for id, of := range all {
		of.placed, of.ended = make(map[string]*Task), l.App(id).State.Terminal()
		for task := range l.Tasks(id) {
			if task.Placed() {
				of.placed[task.ID] = task
			}
		}
	}
}

// check compares with a ledger that stepped, and with one that heard of the changes alone.
func (all taken) check(t *rapid.T, l, replica *Ledger, event Event) {
	for id := range all {
		if l.App(id) == nil {
			delete(all, id)
		}
	}
	for app := range l.Apps() {
		of := all[app.ID]
		if of == nil || of.ended && !app.State.Terminal() { // submitted anew
			of = &taking{most: make(map[string]int64), consumed: make(map[string]int64)}
			all[app.ID] = of
		}
		used, held := make(map[string]int64), make(map[string]int64)
		for task := range l.Tasks(app.ID) {
			if !task.Placed() {
				continue
			}
			into := used
			if task.Placeholder {
				into = held
			}
			for name, amount := range task.Resources {
				into[name] += amount
				of.most[name] = max(of.most[name], into[name])
			}
		}
		of.end(l, app, event.When())
		consumed := make(map[string]int64)
		for _, c := range app.Consumed {
			for name, amount := range c.ResourceSeconds {
				consumed[name] += amount
			}
		}
		for _, m := range []map[string]int64{of.most, of.consumed, consumed} {
			maps.DeleteFunc(m, func(_ string, amount int64) bool { return amount == 0 })
		}
		if !maps.Equal(consumed, of.consumed) {
			t.Fatalf("%T%+v: application %s has consumed %v, want %v", event, event, app.ID, app.Consumed, of.consumed)
		}
		for _, in := range []*Ledger{l, replica} {
			if most := in.MostUsed(app.ID); !maps.Equal(most, of.most) {
				t.Fatalf("%T%+v: application %s has used %v at most, want %v", event, event, app.ID, most, of.most)
			}
		}
	}
}

// end counts what has no place any more.
func (of *taking) end(l *Ledger, app *App, at Time) {
	for id, task := range of.placed {
		if now := l.Task(app.ID, id); now != nil && now.Placed() {
			continue
		}
		for name, amount := range task.Resources {
			of.consumed[name] += max(0, int64(time.Duration(at-task.Allocated)/time.Second)) * amount
		}
	}
}

// TestConsumption: what ends is counted as what it was, by instance type, in whole seconds.
func TestConsumption(t *testing.T) {
	second := func(n int64) Stamp { return Stamp{At: Time(n) * Time(time.Second)} }
	two := map[string]int64{"vcore": 2, "memory": Most * 4}
	l := stepped(t,
		AddApp{Stamp: second(1), ID: "a"}, AppAccepted{Stamp: second(1), AppID: "a"},
		AddTask{Stamp: second(1), AppID: "a", ID: "t1", Resources: two},
		AddTask{Stamp: second(1), AppID: "a", ID: "t2", Resources: map[string]int64{"vcore": 5}},
		AddTask{Stamp: second(1), AppID: "a", ID: "hold", Placeholder: true, TaskGroup: "g", Node: "n", Resources: map[string]int64{"vcore": 10}},
		Allocated{Stamp: second(2), AppID: "a", TaskID: "t1", Node: "n", InstanceType: "big"},
		Allocated{Stamp: second(2), AppID: "a", TaskID: "t2", Node: "n", InstanceType: "big"},
		BindDone{Stamp: second(2), AppID: "a", TaskID: "t1", Node: "n"}, BindDone{Stamp: second(2), AppID: "a", TaskID: "t2", Node: "n"},
		CompleteTask{Stamp: Stamp{At: second(9).At - 1}, AppID: "a", TaskID: "t1"},
		Released{Stamp: second(10), AppID: "a", TaskID: "t2", Termination: PreemptedByEngine},
		RemoveTask{Stamp: second(12), AppID: "a", TaskID: "t2"},
		RemoveTask{Stamp: second(101), AppID: "a", TaskID: "hold"},
	)
	want := []Consumption{
		{Kind: ConsumedByPods, InstanceType: "big", ResourceSeconds: map[string]int64{"vcore": 12, "memory": 6 * Most}},
		{Kind: ConsumedByPlaceholders, ResourceSeconds: map[string]int64{"vcore": 1000}},
		{Kind: ConsumedByPreempted, InstanceType: "big", ResourceSeconds: map[string]int64{"vcore": 50}},
	}
	if got := l.App("a").Consumed; !reflect.DeepEqual(got, want) {
		t.Errorf("consumed %+v, want %+v", got, want)
	}
	if got, want := l.MostUsed("a"), (map[string]int64{"vcore": 10, "memory": Most}); !maps.Equal(got, want) {
		t.Errorf("used %v at most, want %v", got, want)
	}
	if got := l.MostUsed("none"); got != nil {
		t.Errorf("an unknown application used %v", got)
	}
}

func TestProductsStopAtTheLargestInteger(t *testing.T) {
	for _, tt := range []struct{ sum, a, b, want int64 }{
		{1, 2, 3, 7},
		{math.MaxInt64 - 6, 2, 3, math.MaxInt64},
		{math.MaxInt64 - 5, 2, 3, math.MaxInt64},
		{0, Most, 1 << 13, math.MaxInt64},
		{0, Most, 1<<13 - 1, Most * (1<<13 - 1)},
		{0, math.MaxInt64, math.MaxInt64, math.MaxInt64},
		{math.MaxInt64, 0, 5, math.MaxInt64},
	} {
		if got := addProduct(tt.sum, tt.a, tt.b); got != tt.want {
			t.Errorf("%d + %d × %d is %d, want %d", tt.sum, tt.a, tt.b, got, tt.want)
		}
	}
}

// TestIdle: since its last task has ended, until it has one again, and for good when it has completed.
func TestIdle(t *testing.T) {
	at := func(n int64) Stamp { return Stamp{At: Time(n)} }
	l := stepped(t,
		AddApp{Stamp: at(1), ID: "a"}, AppAccepted{Stamp: at(1), AppID: "a"},
		AddTask{Stamp: at(2), AppID: "a", ID: "t", Node: "n"}, AddTask{Stamp: at(2), AppID: "a", ID: "u", Node: "n"},
		CompleteTask{Stamp: at(3), AppID: "a", TaskID: "t"},
	)
	for _, next := range []struct {
		event Event
		want  Time
	}{
		{CompleteTask{Stamp: at(4), AppID: "a", TaskID: "u"}, 4},
		{RemoveTask{Stamp: at(5), AppID: "a", TaskID: "u"}, 4},
		{AddTask{Stamp: at(6), AppID: "a", ID: "v"}, 0},
		{CompleteTask{Stamp: at(7), AppID: "a", TaskID: "v"}, 7},
		{AppEnded{Stamp: at(8), AppID: "a", State: AppStateCompleted}, 7},
		{RemoveTask{Stamp: at(9), AppID: "a", TaskID: "v"}, 7},
	} {
		if l.Step(next.event); l.App("a").Idle != next.want {
			t.Errorf("after %s it is idle since %d, want %d", next.event.Kind(), l.App("a").Idle, next.want)
		}
	}
}

// TestInstanceTypes: a task that takes the place of a placeholder has its instance type, one on another
// node that of which the engine tells, and one that somebody else has bound elsewhere none.
func TestInstanceTypes(t *testing.T) {
	group := []v1alpha1.TaskGroup{{Name: "g", MinMember: 1}}
	for name, tt := range map[string]struct {
		node string
		then []Event
		want string
	}{
		"same node":    {"n", nil, "big"},
		"another node": {"m", []Event{Allocated{AppID: "a", TaskID: "t", Node: "m", InstanceType: "small", Swapped: true}}, "small"},
		"not yet told": {"m", nil, ""},
		"elsewhere":    {"n", []Event{RemoveTask{AppID: "a", TaskID: "hold"}, BindDone{AppID: "a", TaskID: "t", Node: "o"}}, ""},
	} {
		l := stepped(t, append([]Event{
			AddApp{ID: "a", TaskGroups: group}, AddTask{AppID: "a", ID: "t", TaskGroup: "g"}, AppAccepted{AppID: "a"},
			AddTask{AppID: "a", ID: "hold", TaskGroup: "g", Placeholder: true},
			Allocated{AppID: "a", TaskID: "hold", Node: "n", InstanceType: "big"}, BindDone{AppID: "a", TaskID: "hold", Node: "n"},
			Released{AppID: "a", TaskID: "hold", Termination: PlaceholderReplaced, For: "t", Node: tt.node},
		}, tt.then...)...)
		if got := l.TaskByID("t").InstanceType; got != tt.want {
			t.Errorf("%s: it is on %q, want %q", name, got, tt.want)
		}
	}
}
