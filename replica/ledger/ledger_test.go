package ledger

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

func at(n int64) Stamp { return Stamp{At: Time(n)} }

// TestEmptyIDs: with an empty task ID a task would take its application's key.
func TestEmptyIDs(t *testing.T) {
	l := New()
	for _, event := range []Event{AddApp{Stamp: at(1)}, AddTask{Stamp: at(2)}} {
		if d := l.Step(event); d.Refused == "" || len(d.Changes) != 0 {
			t.Errorf("%T without an ID: %+v", event, d)
		}
	}
	l.Step(AddApp{Stamp: at(3), ID: "a"})
	if d := l.Step(AddTask{Stamp: at(4), AppID: "a"}); d.Refused == "" || len(d.Changes) != 0 {
		t.Errorf("a task without an ID: %+v", d)
	}
}

type unknownEvent struct{ Stamp }

func (unknownEvent) Kind() string { return "unknownEvent" }

func TestUnknownEventIsRefused(t *testing.T) {
	if d := New().Step(unknownEvent{at(1)}); !strings.Contains(d.Refused, "unknownEvent") {
		t.Errorf("refused: %q", d.Refused)
	}
}

// TestRecordsShareNothingWithEvents: app managers go on using what they passed.
func TestRecordsShareNothingWithEvents(t *testing.T) {
	controller := true
	add := AddApp{
		Stamp: at(1), ID: "a", Groups: []string{"g"}, Tags: map[string]string{"k": "v"},
		TaskGroups:      []v1alpha1.TaskGroup{{Name: "g", MinMember: 1, Labels: map[string]string{"k": "v"}}},
		OwnerReferences: []metav1.OwnerReference{{Name: "o", Controller: &controller}},
	}
	task := AddTask{Stamp: at(2), AppID: "a", ID: "t", Resources: map[string]int64{"vcore": 1}}
	l := New()
	l.Step(add)
	l.Step(task)
	l.Step(AppAccepted{Stamp: at(3), AppID: "a"})
	resize := AddTask{Stamp: at(4), AppID: "a", ID: "t", Resources: map[string]int64{"vcore": 2}}
	l.Step(resize)

	add.Groups[0], add.Tags["k"], controller = "x", "x", false
	add.TaskGroups[0].Name, add.TaskGroups[0].Labels["k"], add.OwnerReferences[0].Name = "x", "x", "x"
	task.Resources["vcore"], resize.Resources["vcore"] = 9, 9
	app := l.App("a")
	if app.Groups[0] != "g" || app.Tags["k"] != "v" || app.TaskGroups[0].Name != "g" || app.TaskGroups[0].Labels["k"] != "v" ||
		app.OwnerReferences[0].Name != "o" || !*app.OwnerReferences[0].Controller || l.Task("a", "t").Resources["vcore"] != 2 {
		t.Errorf("the records changed with the events: %+v %+v", app, l.Task("a", "t"))
	}
}

// TestEqualAfterEncoding: a quantity that was written and read is represented
// differently and the same.
func TestEqualAfterEncoding(t *testing.T) {
	quantity := resource.MustParse("1500m")
	quantity.Add(resource.MustParse("500m"))
	l, o := New(), New()
	l.Step(AddApp{Stamp: at(1), ID: "a", TaskGroups: []v1alpha1.TaskGroup{
		{Name: "g", MinMember: 1, MinResource: map[string]resource.Quantity{"cpu": quantity}, Labels: map[string]string{}},
	}})
	encoded, err := json.Marshal(l.App("a"))
	if err != nil {
		t.Fatal(err)
	}
	decoded := new(App)
	if err := json.Unmarshal(encoded, decoded); err != nil {
		t.Fatal(err)
	}
	o.Apply(Change{Key: Key{AppID: "a"}, App: decoded})
	if !l.Equal(o) || !o.Equal(l) {
		t.Errorf("%+v\nis not\n%+v", l.App("a"), decoded)
	}
	other := *decoded
	other.TaskGroups = []v1alpha1.TaskGroup{{Name: "g", MinMember: 1, MinResource: map[string]resource.Quantity{"cpu": resource.MustParse("3")}}}
	o.Apply(Change{Key: Key{AppID: "a"}, App: &other})
	if l.Equal(o) || o.Equal(l) {
		t.Error("ledgers with different quantities are equal")
	}
}

func TestEqualTellsApart(t *testing.T) {
	build := func(edit func(*Ledger)) *Ledger {
		l := New()
		l.Apply(Change{Key: Key{AppID: "a"}, App: &App{ID: "a", State: AppStateRunning}})
		l.Apply(Change{Key: Key{"a", "t"}, Task: &Task{AppID: "a", ID: "t"}})
		edit(l)
		return l
	}
	same := build(func(*Ledger) {})
	for name, edit := range map[string]func(*Ledger){
		"app gone":   func(l *Ledger) { l.Apply(Change{Key: Key{AppID: "a"}}) },
		"app more":   func(l *Ledger) { l.Apply(Change{Key: Key{AppID: "b"}, App: &App{ID: "b"}}) },
		"app other":  func(l *Ledger) { l.Apply(Change{Key: Key{AppID: "a"}, App: &App{ID: "a"}}) },
		"task gone":  func(l *Ledger) { l.Apply(Change{Key: Key{"a", "t"}}) },
		"task more":  func(l *Ledger) { l.Apply(Change{Key: Key{"a", "u"}, Task: &Task{AppID: "a", ID: "u"}}) },
		"task other": func(l *Ledger) { l.Apply(Change{Key: Key{"a", "t"}, Task: &Task{AppID: "a", ID: "t", Node: "n"}}) },
		"task moved": func(l *Ledger) {
			l.Apply(Change{Key: Key{"a", "t"}})
			l.Apply(Change{Key: Key{"a", "u"}, Task: &Task{AppID: "a", ID: "u"}})
		},
	} {
		if other := build(edit); same.Equal(other) || other.Equal(same) {
			t.Errorf("%s: equal", name)
		}
	}
	if !same.Equal(build(func(*Ledger) {})) {
		t.Error("the same records are not equal")
	}
}

// TestApplyDeletions: what is not there may be deleted, in any order.
func TestApplyDeletions(t *testing.T) {
	l := New()
	l.Apply(Change{Key: Key{AppID: "a"}})
	l.Apply(Change{Key: Key{"a", "t"}})
	l.Apply(Change{Key: Key{"a", "t"}, Task: &Task{AppID: "a", ID: "t"}})
	l.Apply(Change{Key: Key{AppID: "a"}, App: &App{ID: "a"}})
	l.Apply(Change{Key: Key{AppID: "a"}})
	if l.Task("a", "t") == nil || l.App("a") != nil {
		t.Error("deleting an application deletes its record, and no other")
	}
	l.Apply(Change{Key: Key{"a", "t"}})
	if !l.Equal(New()) || len(l.apps) != 0 {
		t.Errorf("left over: %s", dump(l))
	}
}

// TestQueuesOfUnderstudyAreBounded: an understudy never takes anything off the
// queues that its ledger keeps for a lead.
func TestQueuesOfUnderstudyAreBounded(t *testing.T) {
	l := New()
	l.Apply(Change{Key: Key{AppID: "a"}, App: &App{ID: "a", State: AppStateRunning}})
	for i := range 20_000 {
		now := Time(i + 1)
		l.Apply(Change{Key: Key{"a", "t"}, Task: &Task{AppID: "a", ID: "t", State: TaskStateAllocated, NextAttempt: now}})
		l.Apply(Change{Key: Key{AppID: "g"}, App: &App{ID: "g", State: AppStateReserving, PlaceholderDeadline: now}})
		l.Apply(Change{Key: Key{AppID: "e"}, App: &App{ID: "e", State: AppStateRunning}})
		l.Apply(Change{Key: Key{AppID: "e"}, App: &App{ID: "e", State: AppStateFailed, Finished: now}})
	}
	if n, m := len(l.deadlines.heap), len(l.ended.heap); n > sweepAt || m > sweepAt {
		t.Errorf("%d deadlines and %d ends for three records", n, m)
	}
	if next, ok := l.NextDeadline(); !ok || next != 20_000 {
		t.Errorf("next deadline %d %v", next, ok)
	}
}

// TestDeltaOfManyChanges: each key once, whatever happens to its record in a step.
func TestDeltaOfManyChanges(t *testing.T) {
	const tasks = 5 * manyChanges
	l := New()
	l.Step(AddApp{Stamp: at(1), ID: "a"})
	for i := range tasks {
		l.Step(AddTask{Stamp: at(2), AppID: "a", ID: fmt.Sprint(i)})
	}
	for _, event := range []Event{
		AppAccepted{Stamp: at(3), AppID: "a"}, // two moves of each task
		KillApp{Stamp: at(4), AppID: "a"},
		RemoveApp{Stamp: at(5), AppID: "a"}, // ended, then deleted
	} {
		d := l.Step(event)
		keys := make(map[Key]bool)
		for _, c := range d.Changes {
			keys[c.Key] = true
		}
		if len(d.Changes) != tasks+1 || len(keys) != tasks+1 {
			t.Errorf("%T: %d changes of %d records, want %d", event, len(d.Changes), len(keys), tasks+1)
		}
	}
}

// TestBackoffGrowsAndSpreads: attempts come less and less often, within bounds,
// and tasks that failed together do not come back together.
func TestBackoffGrowsAndSpreads(t *testing.T) {
	pauses := make(map[Time]bool)
	for i := range 50 {
		id := fmt.Sprint("t", i)
		l := New()
		l.Step(AddApp{Stamp: at(1), ID: "a"})
		l.Step(AppAccepted{Stamp: at(1), AppID: "a"})
		l.Step(AddTask{Stamp: at(1), AppID: "a", ID: id})
		l.Step(Allocated{Stamp: at(1), AppID: "a", TaskID: id, Node: "n"})
		for attempt := range 40 {
			l.Step(BindFailed{Stamp: at(0), AppID: "a", TaskID: id})
			full := Time(min(backoffLimit, backoffFirst<<min(attempt, 20)))
			pause := l.Task("a", id).NextAttempt
			if pause < full/2 || pause > full {
				t.Fatalf("attempt %d: pause %d, want within the upper half of %d", attempt, pause, full)
			}
			if attempt == 5 {
				pauses[pause] = true
			}
		}
	}
	if len(pauses) < 40 {
		t.Errorf("50 tasks that failed together come back at %d times", len(pauses))
	}
}

// TestPlaceholderNames: whatever the application is called, the name is one that
// the API server takes, and belongs to one member only.
func TestPlaceholderNames(t *testing.T) {
	if got := PlaceholderName("spark-1", 1, "executors", 3, 0); !regexp.MustCompile(`^tg-spark-1-executors-[a-z0-9]{10}$`).MatchString(got) {
		t.Errorf("plain names: %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		seen := make(map[string]string)
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-zA-Z0-9_.-]{0,60}`), rapid.StringMatching(`[ab-]{1,3}`))
		for range 20 {
			app, group := text.Draw(t, "app"), text.Draw(t, "group")
			i := rapid.Int32Min(0).Draw(t, "index")
			submitted, replaced := Time(rapid.Int64Range(0, 1).Draw(t, "submitted")), rapid.Uint32Range(0, 1).Draw(t, "replaced")
			name := PlaceholderName(app, submitted, group, i, replaced)
			if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
				t.Fatalf("%q of %q: %q: %v", group, app, name, problems)
			}
			whose := fmt.Sprintf("%q %d %q %d %d", app, submitted, group, i, replaced)
			if other, ok := seen[name]; ok && other != whose {
				t.Fatalf("%s is for %s and for %s", name, other, whose)
			}
			seen[name] = whose
		}
	})
}

func TestTimes(t *testing.T) {
	if At(time.Time{}) != 0 || !Time(0).Time().IsZero() {
		t.Error("the zero times do not correspond")
	}
	when := time.Date(2026, 5, 4, 3, 2, 1, 99, time.FixedZone("", 3600))
	if got := At(when).Time(); !got.Equal(when) || got.Location() != time.UTC {
		t.Errorf("%v became %v", when, got)
	}
	if got := At(when).Add(time.Second).Time(); !got.Equal(when.Add(time.Second)) {
		t.Errorf("a second later: %v", got)
	}
}

// TestEffectsThatWait: only effects on the engine may run before the changes are
// durable.
func TestEffectsThatWait(t *testing.T) {
	for _, effect := range []Effect{SubmitApp{}, ForgetApp{}, Ask{}, Restore{}, Release{}} {
		if effect.External() {
			t.Errorf("%T waits", effect)
		}
	}
	for _, effect := range []Effect{Bind{}, AssessGang{}, CreatePlaceholder{}, CancelPlaceholders{}, DeletePod{}, FailPod{}, ReportTask{}} {
		if !effect.External() {
			t.Errorf("%T does not wait", effect)
		}
	}
}

// TestApplicationsOfOneSecondKeepTheirOrder, in an engine that is fed what others wrote:
// the lead's took them in the order in which it heard of them, whatever they are called.
func TestApplicationsOfOneSecondKeepTheirOrder(t *testing.T) {
	lead, cold := New(), New()
	var changes []Change
	for i, id := range []string{"c", "a", "b", "older"} {
		submitted := Time(2)
		if id == "older" {
			submitted = 1
		}
		for _, event := range []Event{
			AddApp{Stamp: at(int64(10 * i)), ID: id, Submitted: submitted},
			AppAccepted{Stamp: at(int64(100 - i)), AppID: id},
		} {
			changes = append(changes, lead.Step(event).Changes...)
		}
	}
	for _, c := range slices.Backward(changes[len(changes)/2:]) {
		cold.Apply(c)
	}
	for _, c := range changes {
		cold.Apply(c)
	}
	for name, l := range map[string]*Ledger{"lead": lead, "cold": cold, "copy": cold.Clone()} {
		var order []string
		for _, effect := range l.Feed() {
			order = append(order, effect.(SubmitApp).App.ID)
		}
		if want := []string{"older", "c", "a", "b"}; !slices.Equal(order, want) {
			t.Errorf("%s: an engine is fed %v, want %v", name, order, want)
		}
	}
}

// TestIterationStops: a caller may break off, and the order is that of submission.
func TestIterationStops(t *testing.T) {
	l := New()
	for i, id := range []string{"c", "b", "a"} {
		l.Step(AddApp{Stamp: at(1), ID: id, Submitted: Time(i / 2)})
		l.Step(AddTask{Stamp: at(1), AppID: "c", ID: id, Submitted: Time(i / 2)})
	}
	var order []string
	for app := range l.Apps() {
		order = append(order, app.ID)
	}
	for task := range l.Tasks("c") {
		order = append(order, task.ID)
	}
	if got := strings.Join(order, ""); got != "bcabca" {
		t.Errorf("order %s", got)
	}
	for range l.Apps() {
		break
	}
	for range l.Tasks("c") {
		break
	}
	for range l.Tasks("unknown") {
		t.Error("an application that is not known has tasks")
	}
}
