package engine_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/api"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// queuesOf is a configuration with these queues below root, and these placement rules.
func queuesOf(queues, rules string) string {
	if rules != "" {
		rules = "\n    placementrules: " + rules
	}
	return "partitions:\n  - name: default" + rules + "\n    queues:\n      - {name: root, submitacl: '*', queues: " + queues + "}\n"
}

func (f *fixture) configure(queues string) {
	f.t.Helper()
	f.ok(f.engine.Configure(map[string]string{"queues.yaml": queues}))
}

// fed tells the engine of an application, and of a pod of it that is on the node n1.
func (f *fixture) fed(app *ledger.App) *ledger.Task {
	f.t.Helper()
	task := newTask(app, f.pod("of-"+app.ID, "1", on("n1")))
	f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: task})
	return task
}

// TestAQueueMayHaveBothApplicationsAndQueues: a configuration that gives queues to one
// with applications, or takes them away with applications in them, makes no account
// wrong; a promotion after it would fail for ever.
func TestAQueueMayHaveBothApplicationsAndQueues(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	flat, deep := queuesOf("[{name: a}]", ""), queuesOf("[{name: a, queues: [{name: c}]}]", "")
	f := start(t, withQueues(flat))
	f.node("n1")
	f.engage()
	a := f.fed(newApp("a", "root.a"))
	f.ok(f.differ(a))
	f.configure(deep)
	f.ok(f.differ(a))
	c := f.fed(newApp("c", "root.a.c"))
	f.ok(f.differ(a, c))
	f.configure(flat)
	f.ok(f.differ(a, c))
	if err := f.differ(a); err == nil || !strings.Contains(err.Error(), "application c in queue root.a.c uses vcore 1000, not 0") {
		t.Errorf("with one application too many: %v", err)
	}
}

// TestAQueueThatTheCoreHasLost: the core's cleaner and a change of the configuration may
// meet over a queue, which then is in no table and has applications all the same. They
// are put right before anybody leads with that.
func TestAQueueThatTheCoreHasLost(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: a}, {name: b}]", "")))
	f.node("n1")
	a, b := newApp("a", "root.a"), newApp("b", "root.b")
	a.PlacedQueue, b.PlacedQueue = a.Queue, b.Queue
	ofA, ofB := f.fed(a), f.fed(b)
	f.sync()
	f.configure(queuesOf("[{name: b}]", ""))
	f.engine.LoseQueue("root.a")
	f.ok(f.differ(ofA, ofB))
	f.configure(queuesOf("[{name: a}, {name: b}]", ""))
	f.ok(f.differ(ofA, ofB))
	f.engage()
	f.ok(f.differ(ofA, ofB))
	if got := f.engine.Queues()["root.a"]; got != "[a], Active, configured: true, at most nil resource" {
		t.Errorf("in the end: %s", got)
	}
}

// TestWhereAnApplicationHasComeToIsTold: a queue that has queues by now cannot take
// applications again. A lead that has one of them elsewhere says so, so that all others
// have it there too.
func TestWhereAnApplicationHasComeToIsTold(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: a}, {name: b}]", "")))
	f.node("n1")
	a, b := newApp("a", "root.a"), newApp("b", "root.b")
	a.PlacedQueue, b.PlacedQueue = a.Queue, b.Queue
	ofA, ofB := f.fed(a), f.fed(b)
	f.sync()
	f.configure(queuesOf("[{name: a, queues: [{name: c}]}, {name: b}]", ""))
	f.ok(f.differ(ofA, ofB))
	if f.engine.Stranded() {
		t.Errorf("nothing would be scheduled: %v", f.engine.Queues())
	}
	f.engage()
	if got := waitFor(f, func(e ledger.AppAccepted) bool { return e.AppID == "a" }).PlacedQueue; got != "root.@recovery@" {
		t.Errorf("told of %s", got)
	}
	more := newTask(a, f.pod("more", "1"))
	f.do(ledger.Ask{App: a, Task: more})
	f.allocated("more")
	if n := count(f, func(e ledger.AppAccepted) bool { return e.AppID == "b" }); n != 0 {
		t.Errorf("an application that is at home was told of: %s", show(f.events))
	}
}

// TestHousingKeepsTheOrder of applications, which the core takes from when it was told
// of them.
func TestHousingKeepsTheOrder(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: a}, {name: b}]", "")))
	f.node("n1")
	f.configure(queuesOf("[{name: b}]", ""))
	var want []string
	var apps []*ledger.App
	for i, id := range []string{"z", "y", "a", "m"} {
		app := newApp(id, "root.a")
		app.PlacedQueue = app.Queue
		app.StateLog = []ledger.Transition{{State: ledger.AppStateSubmitted, At: ledger.Time(i + 1)}}
		want, apps = append(want, id), append(apps, app)
	}
	for _, app := range slices.Backward(apps) {
		f.fed(app)
		f.sync()
	}
	if got := f.engine.Order("root.a"); !slices.Equal(got, want) {
		t.Errorf("the core has %v, want %v", got, want)
	}
}

// slowConfigurations lets the test decide when the core gets its configurations.
type slowConfigurations struct {
	api.SchedulerAPI
	asked, goOn chan struct{}
}

func (s slowConfigurations) UpdateConfiguration(r *si.UpdateConfigurationRequest) error {
	s.asked <- struct{}{}
	<-s.goOn
	return s.SchedulerAPI.UpdateConfiguration(r)
}

// TestHousingPlacesNoOthers: while the core takes applications where they are sent, those
// that the rules have to place wait.
func TestHousingPlacesNoOthers(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(queuesOf("[{name: a}, {name: other}]", "[{name: fixed, value: root.other}]")))
	f.node("n1")
	slow := slowConfigurations{asked: make(chan struct{}), goOn: make(chan struct{})}
	f.engine.BetweenCore(func(core api.SchedulerAPI) api.SchedulerAPI {
		slow.SchedulerAPI = core
		return slow
	})
	old, late := newApp("old", "root.a"), newApp("late", "root.a")
	old.PlacedQueue = "root.a"
	ofOld := f.fed(old)
	<-slow.asked // to take old to its queue
	slow.goOn <- struct{}{}
	<-slow.asked // to go back, with old where it belongs
	ofLate := f.fed(late)
	f.ok(f.engine.Barrier(t.Context())) // the core has had the time to place it
	slow.goOn <- struct{}{}
	f.ok(f.differ(ofOld, ofLate))
	want := map[string]string{
		"root.a":     "[old], Active, configured: true, at most nil resource",
		"root.other": "[late], Active, configured: true, at most nil resource",
	}
	if got := f.engine.Queues(); !maps.Equal(got, want) {
		t.Errorf("the core has %v, want %v", got, want)
	}
}

// TestAnApplicationThatIsRefusedAndWantedAgain while it leaves is taken in once, and where
// it was, even if it would not be taken there today.
func TestAnApplicationThatIsRefusedAndWantedAgain(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(histories["fair"]))
	f.node("n1")
	app := newApp("gang", "root.a") // which has no gangs
	app.TaskGroups, app.State, app.PlacedQueue = gang(2), ledger.AppStateReserving, "root.a"
	of := f.taskOf(app)
	for range 20 {
		f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.ForgetApp{AppID: app.ID})
		f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: of})
		f.ok(f.differ(of))
		if got := f.engine.Queues()["root.a"]; got != "[gang], Active, configured: true, at most map[vcore:1000]" {
			t.Fatalf("the core has %v", f.engine.Queues())
		}
		f.ok(f.engine.Drop(t.Context(), app.ID))
	}
}

// history is one course of events: configurations come into force, and applications
// are submitted in between.
type history struct {
	First string
	Steps []course
}

// course is a configuration, or an application that asks for a queue.
type course struct{ Configure, App, Queue string }

// last is the configuration that is in force in the end.
func (h history) last() string {
	for _, s := range slices.Backward(h.Steps) {
		if s.Configure != "" {
			return s.Configure
		}
	}
	return h.First
}

const byNamespace = "[{name: provided}, {name: tag, value: namespace, create: true}]"

var histories = map[string]string{
	"all":       queuesOf("[{name: a}, {name: b, resources: {max: {vcore: 4}}}, {name: p, resources: {max: {vcore: 9}}, queues: [{name: x}, {name: y, resources: {max: {vcore: 2}}}]}]", ""),
	"small":     queuesOf("[{name: a, resources: {max: {vcore: 3}}}, {name: b, resources: {max: {vcore: 1}}}, {name: p, queues: [{name: x}]}]", ""),
	"none":      queuesOf("[{name: other}]", ""),
	"default":   queuesOf("[{name: default, resources: {max: {vcore: 5}}}, {name: a}]", byNamespace),
	"namespace": queuesOf("[{name: other}, {name: b, resources: {max: {vcore: 3}}}]", byNamespace),
	"others":    queuesOf("[{name: a, submitacl: 'bob'}, {name: other}]", "[{name: fixed, value: root.other}]"),
	"deep":      queuesOf("[{name: a, queues: [{name: c}]}, {name: p}]", ""),
	"fair":      queuesOf("[{name: a, resources: {max: {vcore: 1}}, properties: {application.sort.policy: fair}}, {name: b}]", ""),
	"stock":     "",
}

// randomHistory names its configurations by their keys in histories.
func randomHistory(r *rand.Rand, n int) (h history) {
	names := slices.Sorted(maps.Keys(histories))
	queues := []string{"root.a", "root.b", "root.p.x", "root.p.y", "root.a.c", ""}
	h.First = names[r.IntN(len(names))]
	for i := range 4 + r.IntN(8) {
		if r.IntN(3) == 0 {
			h.Steps = append(h.Steps, course{Configure: names[r.IntN(len(names))]})
			continue
		}
		h.Steps = append(h.Steps, course{App: fmt.Sprintf("app-%d-%d", n, i), Queue: queues[r.IntN(len(queues))]})
	}
	return h
}

// outcome is what an engine has in the end, and what it says of it to others.
type outcome struct {
	// Apps are the applications that were accepted, as the ledger has them.
	Apps []*ledger.App
	// Queues are those with applications, and Former and Since what Learn takes.
	Queues map[string]string
	Former string
	Since  ledger.Time
	// Moved says that in the core of the lead, queues with applications have queues, or
	// lie below others that may not: nothing is scheduled in them.
	Moved bool
}

// replays are the ways in which an engine can come to know a history. All but the
// first are held, and know of its applications what the first has made of them.
var replays = []string{"lead", "warm", "reversed", "skipping", "cold", "told late"}

// TestEnginesAgreeAfterChangesOfTheConfiguration: whatever changes of the configuration an
// engine has seen, in whatever order it was told of applications, and whenever it was
// started: each application is in the queue in which the lead has placed it, with the
// same limits, and all is accounted for.
func TestEnginesAgreeAfterChangesOfTheConfiguration(t *testing.T) {
	skipUnderRace(t)
	const courses = 150
	if file := os.Getenv(replayEnv); file != "" {
		replayAll(t, file)
		return
	}
	dir := t.TempDir()
	outcomes := make(map[string][]outcome)
	r := rand.New(rand.NewPCG(7, 11))
	var all []history
	for n := range courses {
		all = append(all, randomHistory(r, n))
	}
	for _, replay := range replays {
		file := filepath.Join(dir, replay)
		write(t, file, job{Replay: replay, Histories: all, Lead: outcomes["lead"]})
		t.Setenv(replayEnv, file)
		if !isolated(t) || t.Failed() {
			t.Fatalf("%s: no outcome", replay)
		}
		var out []outcome
		read(t, file+".out", &out)
		outcomes[replay] = out
	}
	drained := 0
	for n, h := range all {
		lead := outcomes["lead"][n]
		for _, replay := range replays[1:] {
			want, whose := lead.Queues, "lead"
			if lead.Moved {
				want, whose = outcomes["warm"][n].Queues, "warm"
			}
			if got := outcomes[replay][n].Queues; !maps.Equal(got, want) {
				t.Errorf("course %d: %s has\n%q\n%s has\n%q\nafter %v", n, replay, got, whose, want, h)
			}
		}
		if lead.Former != "" {
			drained++
		}
	}
	if drained < courses/6 {
		t.Errorf("in %d courses only, applications were in queues that are gone", drained)
	}
}

const replayEnv = "UNDERSTUDY_ENGINE_TEST_REPLAY"

type job struct {
	Replay    string
	Histories []history
	Lead      []outcome
}

func write(t *testing.T, file string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string, v any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func replayAll(t *testing.T, file string) {
	var all job
	read(t, file, &all)
	clock := int64(0)
	f := start(t, func(c *engine.Config) {
		withQueues(histories["none"])(c)
		c.Now = func() time.Time { return time.Unix(0, clock) }
	})
	f.node("n1", func(n *v1.Node) { n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("1000") })
	if all.Replay == "lead" {
		f.engage()
	}
	out := make([]outcome, len(all.Histories))
	for n, h := range all.Histories {
		clock = int64(n) * 1000
		f.configure(histories[h.First])
		if all.Replay == "lead" {
			f.lead(h, &clock, &out[n])
		} else {
			out[n].Apps = all.Lead[n].Apps
			f.follow(all.Replay, h, all.Lead[n])
		}
		out[n].Queues = f.engine.Queues()
		// The next course begins as with a new engine.
		for _, app := range out[n].Apps {
			f.ok(f.engine.Drop(t.Context(), app.ID))
			f.preds.RemovePod("of-" + app.ID)
		}
		f.configure(histories["none"])
		f.ok(f.engine.Learn(map[string]string{"queues.yaml": histories["none"]}, "", 0))
		f.sync()
		f.engine.CleanQueues()
		f.engine.CleanQueues()
	}
	write(t, file+".out", out)
}

// lead goes through a course as it happens.
func (f *fixture) lead(h history, clock *int64, out *outcome) {
	f.t.Helper()
	var tasks []*ledger.Task
	for _, s := range h.Steps {
		*clock++
		if s.Configure != "" {
			f.configure(histories[s.Configure])
			f.engine.CleanQueues()
			continue
		}
		app := newApp(s.App, s.Queue)
		app.StateLog = []ledger.Transition{{State: ledger.AppStateSubmitted, At: ledger.Time(*clock)}}
		if strings.HasSuffix(s.App, "3") {
			app.TaskGroups, app.State = gang(2), ledger.AppStateReserving
		}
		f.do(ledger.SubmitApp{App: app})
		f.until("an answer to "+app.ID, func() bool {
			for _, e := range f.events {
				switch x := e.(type) {
				case ledger.AppAccepted:
					if x.AppID == app.ID {
						app.PlacedQueue = x.PlacedQueue
						return true
					}
				case ledger.AppRejected:
					if x.AppID == app.ID {
						return true
					}
				}
			}
			return false
		})
		if app.PlacedQueue == "" {
			f.do(ledger.ForgetApp{AppID: app.ID})
			continue
		}
		out.Apps = append(out.Apps, app)
		restored := f.taskOf(app)
		tasks = append(tasks, restored)
		f.do(ledger.Restore{App: app, Task: restored})
		f.sync()
	}
	f.ok(f.differ(tasks...))
	var err error
	out.Former, out.Since, err = f.engine.Former()
	f.ok(err)
	out.Moved = f.engine.Stranded()
}

// taskOf is the one pod of an application, which is bound.
func (f *fixture) taskOf(app *ledger.App) *ledger.Task {
	pod := f.pod("of-"+app.ID, "1", on("n1"))
	if len(app.TaskGroups) > 0 {
		t := gangTask(app, pod, true)
		t.Node = "n1"
		return t
	}
	return newTask(app, pod)
}

// follow has a held engine come to know a course in one of the ways.
func (f *fixture) follow(replay string, h history, lead outcome) {
	f.t.Helper()
	apps := make(map[string]*ledger.App)
	for _, app := range lead.Apps {
		apps[app.ID] = app
	}
	var tasks []*ledger.Task
	feed := func(app *ledger.App) {
		if app == nil {
			return // it was refused
		}
		t := f.taskOf(app)
		tasks = append(tasks, t)
		f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: t})
	}
	learn := func() {
		f.ok(f.engine.Learn(map[string]string{"queues.yaml": histories[h.last()]}, lead.Former, lead.Since))
	}
	last := func() { f.configure(histories[h.last()]) }
	switch replay {
	case "warm":
		for _, s := range h.Steps {
			if s.Configure != "" {
				f.configure(histories[s.Configure])
				f.sync()
				f.engine.CleanQueues()
				continue
			}
			feed(apps[s.App])
			f.sync()
		}
		learn()
	case "skipping":
		for _, app := range lead.Apps {
			feed(app)
		}
		last()
		learn()
	case "reversed":
		last()
		learn()
		for _, app := range slices.Backward(lead.Apps) {
			feed(app)
		}
	case "cold":
		f.configure(histories["none"])
		last()
		learn()
		for _, app := range lead.Apps {
			feed(app)
		}
	case "told late":
		last()
		for _, app := range lead.Apps {
			feed(app)
		}
		learn()
	}
	f.ok(f.differ(tasks...))
}

// TestAHeldEngineLosesNoApplication: it takes every application that has pods, and
// accounts for them, whatever configurations come in between, and whatever is fed,
// released and forgotten meanwhile. A promotion would fail for one that is missing.
func TestAHeldEngineLosesNoApplication(t *testing.T) {
	skipUnderRace(t)
	if isolated(t) {
		return
	}
	f := start(t, withQueues(histories["all"]))
	f.node("n1")
	r := rand.New(rand.NewPCG(3, 5))
	names := slices.Sorted(maps.Keys(histories))
	queues := []string{"root.a", "root.b", "root.p.x", "root.p.y", "root.default", "root.a.c"}
	apps, tasks := map[string]*ledger.App{}, map[string]*ledger.Task{}
	for n := range 3000 {
		switch id := fmt.Sprint("app", r.IntN(8)); r.IntN(8) {
		case 0:
			f.configure(histories[names[r.IntN(len(names))]])
		case 1:
			f.ok(f.engine.Learn(map[string]string{"queues.yaml": histories[names[r.IntN(len(names))]]}, "", ledger.Time(n)))
		case 2, 3, 4:
			app := newApp(id, queues[r.IntN(len(queues))])
			app.PlacedQueue = []string{"", app.Queue, queues[r.IntN(len(queues))]}[r.IntN(3)]
			if r.IntN(3) == 0 {
				app.TaskGroups, app.State = gang(2), ledger.AppStateReserving
			}
			if old := apps[id]; old != nil {
				app.TaskGroups, app.State = old.TaskGroups, old.State
			}
			apps[id] = app
			tasks[id] = f.taskOf(app)
			f.do(ledger.SubmitApp{App: app, Recovery: true}, ledger.Restore{App: app, Task: tasks[id]})
		case 5:
			if tasks[id] != nil {
				f.do(ledger.Release{Task: tasks[id], Termination: ledger.StoppedByRM})
				delete(tasks, id)
			}
		case 6:
			f.do(ledger.ForgetApp{AppID: id})
			delete(apps, id)
			delete(tasks, id)
		}
		if r.IntN(4) == 0 {
			if err := f.differ(slices.Collect(maps.Values(tasks))...); err != nil {
				t.Fatalf("after %d steps: %v", n, err)
			}
		}
	}
}
