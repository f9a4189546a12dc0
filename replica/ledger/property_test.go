package ledger

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// TestRandomEvents steps random events and checks after every one of them what
// doc.go guarantees.
func TestRandomEvents(t *testing.T) {
	tables := newTables(t)
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t, tables)
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			r.step(r.gen.event(r.live))
		}
		r.finish()
	})
}

// TestRandomCrews does so for applications that have a crew from the start, and get far
// with it.
func TestRandomCrews(t *testing.T) {
	tables := newTables(t)
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t, tables)
		for _, app := range []string{"a", "b"} {
			r.step(AddApp{Stamp: r.gen.stamp(), ID: app, PlaceholderTimeout: rapid.Int64Range(0, 2).Draw(t, "timeout"), Submitted: r.gen.now})
			r.step(SetCrew{r.gen.stamp(), app, "c0", "u", int32(rapid.IntRange(0, 3).Draw(t, "wanted")), false, Rank{}})
			r.step(AppAccepted{r.gen.stamp(), app, "root.default"})
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			r.step(r.gen.crewEvent(r.live))
		}
		r.finish()
	})
}

// TestRandomSwaps does so for gangs that run, whose placeholders are replaced.
func TestRandomSwaps(t *testing.T) {
	tables := newTables(t)
	rapid.Check(t, func(t *rapid.T) {
		r := newRun(t, tables)
		groups := []v1alpha1.TaskGroup{{Name: "g0", MinMember: 2}}
		at := r.gen.stamp()
		task := func(id, node string) AddTask {
			return AddTask{Stamp: at, AppID: "a", ID: id, Name: id, TaskGroup: "g0", Placeholder: node != "", Node: node, Submitted: at.At}
		}
		for _, event := range []Event{
			AddApp{Stamp: at, ID: "a", TaskGroups: groups, Submitted: at.At}, AppAccepted{at, "a", "root.default"},
			task("0", ""), task("p0", "n1"), task("p1", "n2"), task("1", ""),
		} {
			r.step(event)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r.step(r.gen.swapEvent(r.live))
		}
		r.finish()
	})
}

// run is a ledger under test and everything that watches it.
type run struct {
	t       *rapid.T
	tables  *tables
	gen     *generator
	live    *Ledger // steps events
	replica *Ledger // applies the live one's changes and nothing else
	work    work
	seen    snapshots
	clone   *Ledger
	cloned  string
	taken   taken
}

const testHistory = 2

func newRun(t *rapid.T, tables *tables) *run {
	r := &run{
		t: t, tables: tables, gen: &generator{t: t, now: genStart},
		live: New(), replica: New(), work: make(work), seen: make(snapshots), taken: make(taken),
	}
	r.live.history, r.replica.history = testHistory, testHistory
	return r
}

func (r *run) step(event Event) {
	before := states(r.live)
	successor := r.replica.Clone()
	r.taken.before(r.live)
	if r.clone == nil && r.gen.chance("clone", 5) {
		r.clone, r.cloned = r.live.Clone(), dump(r.live)
	}

	r.t.Logf("step %T%+v", event, event)
	d := r.live.Step(event)

	// A successor that took over just before steps the same event alike.
	if got := successor.Step(event); !reflect.DeepEqual(got, d) {
		r.t.Fatalf("%T: the lead did\n%s\na successor does\n%s", event, show(d), show(got))
	}
	if d.Refused != "" && len(d.Changes) > 0 {
		r.t.Fatalf("%T was refused (%s) and changed something:\n%s", event, d.Refused, show(d))
	}
	r.checkKeys(d)
	for _, c := range d.Changes {
		r.replica.Apply(c)
	}
	r.seen.add(d)
	r.work.step(event, d)
	r.checkBinds(d)
	r.checkWhole(event, before)

	checkCounts(r.t, r.live)
	checkInvariants(r.t, r.live)
	r.taken.check(r.t, r.live, r.replica, event)
	r.tables.check(r.t, event, before, d)
	r.checkCrash()
	if r.gen.chance("tick", 10) {
		r.checkDeadline()
	}
	if r.gen.chance("load", 5) {
		r.checkLoad()
		r.checkReplay()
	}
}

// checkBinds: nobody is bound whose crew is not whole, and a crew becomes whole only with
// as many nodes as it wants, or because its manager says so.
func (r *run) checkBinds(d Delta) {
	for _, effect := range append(r.live.Due(math.MaxInt64), d.Effects...) {
		e, ok := effect.(Bind)
		if !ok {
			continue
		}
		n := r.live.apps[e.Task.AppID]
		if task := r.live.TaskByID(e.Task.ID); task == nil || n.app.awaits(task) || task.Holder != "" {
			r.t.Fatalf("%+v is bound without its crew, or too early: %+v", *e.Task, n.app.Crews)
		}
	}
}

func (r *run) checkWhole(event Event, was before) {
	for _, app := range was.apps {
		is := r.live.App(app.ID)
		for i := range app.Crews {
			if is == nil || app.Crews[i].Whole {
				continue
			}
			said, _ := event.(SetCrew)
			if j := is.crew(app.Crews[i].Name); j >= 0 && is.Crews[j].Whole && !said.Whole &&
				recountCrew(r.live.apps[app.ID], is.Crews[j].Name).aboard() < is.Crews[j].Wanted {
				r.t.Fatalf("%T%+v made %+v whole", event, event, is.Crews[j])
			}
		}
	}
}

func (r *run) checkKeys(d Delta) {
	keys := make(map[Key]bool)
	for _, c := range d.Changes {
		if keys[c.Key] {
			r.t.Fatalf("record %v changes twice in one delta", c.Key)
		}
		keys[c.Key] = true
		switch {
		case c.Key.TaskID == "" && c.Task != nil, c.Key.TaskID != "" && c.App != nil,
			c.App != nil && c.App.ID != c.Key.AppID,
			c.Task != nil && (Key{c.Task.AppID, c.Task.ID} != c.Key):
			r.t.Fatalf("change of %v holds another record: %+v", c.Key, c)
		}
	}
}

// checkCrash compares the lead with who would take over now.
func (r *run) checkCrash() {
	if !r.live.Equal(r.replica) || !r.replica.Equal(r.live) {
		r.t.Fatalf("lead:\n%s\nreplica:\n%s", dump(r.live), dump(r.replica))
	}
	checkCounts(r.t, r.replica)
	for _, now := range []Time{0, r.gen.now, math.MaxInt64} {
		if a, b := r.live.Due(now), r.replica.Due(now); !reflect.DeepEqual(a, b) {
			r.t.Fatalf("due of the lead:\n%s\nof a successor:\n%s", show(Delta{Effects: a}), show(Delta{Effects: b}))
		}
	}
	if a, b := r.live.Feed(), r.replica.Feed(); !reflect.DeepEqual(a, b) {
		r.t.Fatalf("feed of the lead:\n%s\nof a successor:\n%s", show(Delta{Effects: a}), show(Delta{Effects: b}))
	}
	r.checkFeed()
	all, count := dueWork(r.live.Due(math.MaxInt64))
	if all.lines() != r.work.lines() || count != len(all) {
		r.t.Fatalf("due asks (%d) for\n%soutstanding is\n%s\nledger:\n%s", count, all.lines(), r.work.lines(), dump(r.live))
	}
	r.checkLater()
	r.checkCreations()
}

// checkCreations: each group that is waited for, for a pod that exists, has as many
// placeholders on their way as it lacks. Nothing is on its way that nobody has asked
// for, or that is there, or was.
func (r *run) checkCreations() {
	due := make(map[Key]int32)
	for _, effect := range r.live.Due(math.MaxInt64) {
		e, ok := effect.(CreatePlaceholder)
		if !ok {
			continue
		}
		due[Key{e.App.ID, e.Group}]++
		if _, asked := r.work["create "+e.App.ID+" "+e.Name]; !asked {
			r.t.Fatalf("nobody has asked for %s", e.Name)
		}
		for task := range r.live.Tasks(e.App.ID) {
			if task.Name == e.Name {
				r.t.Fatalf("%s is due and there: %+v", e.Name, *task)
			}
		}
		if e.Originator == nil || e.Originator.Placeholder || e.Originator.State.Terminal() {
			r.t.Fatalf("%s is for %+v", e.Name, e.Originator)
		}
	}
	for app := range r.live.Apps() {
		for _, g := range app.Gang {
			lacks, real := g.Wanted, false
			for task := range r.live.Tasks(app.ID) {
				real = real || !task.Placeholder && !task.State.Terminal()
				if task.TaskGroup == g.Name && task.keptHold() {
					lacks--
				}
			}
			if app.State != AppStateReserving || !real || lacks < 0 {
				lacks = 0
			}
			if got := due[Key{app.ID, g.Name}]; got != lacks {
				r.t.Fatalf("%s/%s: %d placeholders are due, %d missing", app.ID, g.Name, got, lacks)
			}
		}
	}
}

// checkFeed: a new engine hears of every application that is to be scheduled or
// has pods on nodes, each before its tasks, and of every node that is taken.
func (r *run) checkFeed() {
	submitted, taken := make(map[string]bool), make(map[Key]string)
	for _, effect := range r.live.Feed() {
		switch e := effect.(type) {
		case SubmitApp:
			if submitted[e.App.ID] || !e.Recovery {
				r.t.Fatalf("application %s is fed twice, or not by force", e.App.ID)
			}
			submitted[e.App.ID] = true
		case Restore:
			if !submitted[e.Task.AppID] {
				r.t.Fatalf("task %s is fed before its application", e.Task.ID)
			}
			taken[Key{e.Task.AppID, e.Task.ID}] = e.Task.Node
		default:
			r.t.Fatalf("%T is no food", effect)
		}
	}
	for app := range r.live.Apps() {
		switch app.State {
		case AppStateReserving, AppStateResuming, AppStateRunning, AppStateFailing, AppStateKilling:
			if !submitted[app.ID] {
				r.t.Fatalf("application %s, %s, is not fed", app.ID, app.State)
			}
		}
		for task := range r.live.Tasks(app.ID) {
			key, node := Key{app.ID, task.ID}, task.Node
			if task.State.Terminal() || task.Holder != "" && task.Node == r.live.TaskByID(task.Holder).Node {
				node = "" // or the placeholder's, which is fed
			}
			if taken[key] != node {
				r.t.Fatalf("task %s is on %q and fed to be on %q", task.ID, node, taken[key])
			}
			if to, ok := r.work[taskWork("bind", task.ID)]; ok && to != taken[key] {
				r.t.Fatalf("task %s is to be bound to %q and fed to be on %q", task.ID, to, taken[key])
			}
		}
	}
}

// checkLater: what Due leaves out now is what a deadline will bring back.
func (r *run) checkLater() {
	now := r.gen.now
	due, _ := dueWork(r.live.Due(now))
	next, ok := r.live.NextDeadline()
	later, laterOK := r.replica.NextDeadline()
	if ok != laterOK || next != later {
		r.t.Fatalf("next deadline %d %v, of a successor %d %v", next, ok, later, laterOK)
	}
	earliest := Time(math.MaxInt64)
	for app := range r.live.Apps() {
		holds := app.State == AppStateReserving || app.State == AppStateRunning && keptHolds(r.live.apps[app.ID]) > 0
		if app.PlaceholderDeadline > now && holds {
			earliest = min(earliest, app.PlaceholderDeadline)
		}
		for i := range app.Crews {
			if c := &app.Crews[i]; c.Until > now && !app.isEnding() && !c.Whole {
				earliest = min(earliest, c.Until)
			}
		}
		for task := range r.live.Tasks(app.ID) {
			if task.NextAttempt > now {
				earliest = min(earliest, task.NextAttempt)
			}
			for _, kind := range []string{"ask", "bind", "delete", "fail"} {
				key := taskWork(kind, task.ID)
				_, all := r.work[key]
				if _, is := due[key]; is != (all && (task.NextAttempt <= now || kind == "ask" && len(task.Avoid) < AvoidLimit)) {
					r.t.Fatalf("%s: due now %v, outstanding %v, next attempt %d, now %d", key, is, all, task.NextAttempt, now)
				}
			}
		}
	}
	if earliest != math.MaxInt64 && (!ok || next > earliest) {
		r.t.Fatalf("a record waits for %d, the next deadline is %d %v", earliest, next, ok)
	}
}

// checkLoad: records may be loaded in any order.
func (r *run) checkLoad() {
	var changes []Change
	for id, n := range r.live.apps {
		if n.app != nil {
			changes = append(changes, Change{Key: Key{AppID: id}, App: n.app})
		}
		for taskID, task := range n.tasks {
			changes = append(changes, Change{Key: Key{id, taskID}, Task: task})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) })
	loaded := New()
	loaded.history = testHistory
	for _, c := range rapid.Permutation(changes).Draw(r.t, "order") {
		loaded.Apply(c)
	}
	next, ok := r.live.NextDeadline()
	later, laterOK := loaded.NextDeadline()
	if !loaded.Equal(r.live) || next != later || ok != laterOK ||
		!reflect.DeepEqual(loaded.Due(r.gen.now), r.live.Due(r.gen.now)) || !reflect.DeepEqual(loaded.Feed(), r.live.Feed()) {
		r.t.Fatalf("loaded is\n%s\nnot\n%s", dump(loaded), dump(r.live))
	}
	checkCounts(r.t, loaded)
}

// checkReplay: at the start of a term every application and pod is reported
// again as it is, which is to change nothing.
func (r *run) checkReplay() {
	c := r.live.Clone()
	for app := range r.live.Apps() {
		if !app.State.Terminal() {
			r.replayed(c, AddApp{Stamp: r.gen.stamp(), ID: app.ID, Queue: app.Queue, Submitted: app.Submitted, Recovery: true})
		}
		for task := range r.live.Tasks(app.ID) {
			e := AddTask{
				Stamp: r.gen.stamp(), AppID: app.ID, ID: task.ID, Namespace: task.Namespace, Name: task.Name,
				Placeholder: task.Placeholder, TaskGroup: task.TaskGroup, Resources: task.Resources,
				Submitted: task.Submitted, Terminated: task.State == TaskStateCompleted,
			}
			if task.State == TaskStateBound {
				e.Node = task.Node
			}
			r.replayed(c, e)
		}
	}
}

func (r *run) replayed(c *Ledger, event Event) {
	if d := c.Step(event); len(d.Changes)+len(d.Effects) > 0 || d.Refused != "" {
		r.t.Fatalf("%T that repeats what is known did\n%s", event, show(d))
	}
}

// checkDeadline: a tick at the next deadline does something about it.
func (r *run) checkDeadline() {
	next, ok := r.live.NextDeadline()
	if !ok {
		return
	}
	c := r.live.Clone()
	c.Step(Tick{Stamp{At: next}})
	if again, ok := c.NextDeadline(); ok && again <= next {
		r.t.Fatalf("after a tick at %d the next deadline is %d", next, again)
	}
}

func (r *run) finish() {
	r.seen.check(r.t)
	if r.clone != nil && dump(r.clone) != r.cloned {
		r.t.Fatalf("a clone was\n%s\nand is now\n%s", r.cloned, dump(r.clone))
	}
	before := dump(r.live)
	c := r.live.Clone()
	for range 10 {
		c.Step(r.gen.event(c))
	}
	if after := dump(r.live); after != before {
		r.t.Fatalf("stepping a clone changed the original from\n%s\nto\n%s", before, after)
	}
}

// snapshots are records that left the ledger, as they were then.
type snapshots map[any]string

func (s snapshots) add(d Delta) {
	for _, c := range d.Changes {
		if c.App != nil {
			s.keep(c.App, fmt.Sprintf("%+v", *c.App))
		}
		if c.Task != nil {
			s.keep(c.Task, fmt.Sprintf("%+v", *c.Task))
		}
	}
	for _, effect := range d.Effects {
		v := reflect.ValueOf(effect)
		for i := range v.NumField() {
			if rec := v.Field(i); rec.Kind() == reflect.Pointer && !rec.IsNil() {
				s.keep(rec.Interface(), fmt.Sprintf("%+v", rec.Elem().Interface()))
			}
		}
	}
}

func (s snapshots) keep(record any, text string) {
	if _, ok := s[record]; !ok {
		s[record] = text
	}
}

func (s snapshots) check(t *rapid.T) {
	for record, was := range s {
		if is := fmt.Sprintf("%+v", reflect.ValueOf(record).Elem().Interface()); is != was {
			t.Fatalf("a record that had left the ledger was\n%s\nand is now\n%s", was, is)
		}
	}
}

// dump shows everything a ledger holds.
func dump(l *Ledger) string {
	var lines []string
	for id, n := range l.apps {
		if n.app != nil {
			lines = append(lines, fmt.Sprintf("%q %+v", id, *n.app))
		}
		for taskID, task := range n.tasks {
			lines = append(lines, fmt.Sprintf("%q/%q %+v", id, taskID, *task))
		}
		for taskID, task := range n.doubles {
			lines = append(lines, fmt.Sprintf("double %q/%q %+v", id, taskID, *task))
		}
	}
	slices.Sort(lines)
	return strings.Join(append(lines, fmt.Sprint(l.counts)), "\n")
}

func show(d Delta) string {
	var b strings.Builder
	for _, c := range d.Changes {
		fmt.Fprintf(&b, "change %v %+v %+v\n", c.Key, c.App, c.Task)
	}
	for _, effect := range d.Effects {
		fmt.Fprintf(&b, "effect %T", effect)
		v := reflect.ValueOf(effect)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
				fmt.Fprintf(&b, " %+v", f.Elem().Interface())
			} else if v.Type().Field(i).IsExported() {
				fmt.Fprintf(&b, " %v", f.Interface())
			}
		}
		b.WriteByte('\n')
	}
	if d.Refused != "" {
		fmt.Fprintf(&b, "refused %s\n", d.Refused)
	}
	return b.String()
}
