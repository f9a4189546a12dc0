package peers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

// nullBinder as the first argument has this test be one.
const nullBinder = "null-binder"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == nullBinder {
		fmt.Fprintln(os.Stderr, NullBinder(context.Background(), os.Getenv("KUBECONFIG")))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func short(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("starts control planes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Default()
	o.Lab.Dir, o.Lab.Nodes, o.Lab.Replicas = filepath.Join(t.TempDir(), "lab"), 5, 2
	o.NullBinder, o.Out, o.Rounds, o.Pods, o.Apps = []string{self, nullBinder}, t.Output(), 1, 50, 5
	o.Peers = []string{Null, Understudy}
	return o
}

// measured returns the only phase of each peer, in which all pods were bound.
func measured(t *testing.T, o Options) map[string]Phase {
	t.Helper()
	reports, err := Run(t.Context(), o, nil)
	for _, report := range reports {
		_ = report.Print(o.Out)
	}
	if err != nil {
		t.Fatal(err)
	}
	phases := map[string]Phase{}
	for _, m := range reports[0].Measurements {
		if len(m.Phases) != 1 || m.Phases[0].Load.Bound != o.Pods || m.Phases[0].Rate <= 0 {
			t.Fatalf("%s: %+v", m.Peer, m.Phases)
		}
		phases[m.Peer] = m.Phases[0]
	}
	return phases
}

// A small burst from end to end: all pods are bound, and every process has its CPU.
func TestBurst(t *testing.T) {
	o := short(t)
	phases := measured(t, o)
	for peer, roles := range map[string][]string{
		Null: {lab.KindScheduler}, Understudy + "-2": {roleLead, roleUnderstudy, lab.KindSupervisor, lab.KindSupervisor, lab.KindEtcd},
	} {
		phase := phases[peer]
		var got []string
		for _, p := range phase.Processes {
			got = append(got, p.Role)
		}
		want := slices.Concat(roles, []string{lab.KindAPIServer, lab.KindKubernetesEtcd, lab.KindKwok, roleLoad})
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has processes %v, want %v", peer, got, want)
		}
		// The others may take less than the kernel counts.
		busy := []string{lab.KindAPIServer, lab.KindKwok, roleLoad}
		if peer != Null {
			busy = append(busy, roleLead)
		}
		for _, role := range busy {
			if cpu, _ := phase.sum(role); cpu <= 0 {
				t.Errorf("%s: %s took no CPU for %d pods", peer, role, o.Pods)
			}
		}
	}
}

// Pods that wait are held until they are let go, by a quota or because nobody is there.
func TestDrain(t *testing.T) {
	o := short(t)
	o.Scenarios, o.Settle, o.Lab.Replicas = []string{"drain"}, 0, 1
	for peer, phase := range measured(t, o) {
		if phase.FirstBind <= 0 || phase.Load.Latency.Min <= 0 {
			t.Errorf("%s: first bind after %v ms, %v", peer, phase.FirstBind, phase.Load.Latency)
		}
	}
}

// A scheduler that ends is told at once, with its last words, and not waited for.
func TestASchedulerThatEnds(t *testing.T) {
	o := short(t)
	o.Peers, o.Exec = []string{Exec}, "cat /etc/no-such-file"
	reports, err := Run(t.Context(), o, nil)
	if err == nil || !strings.Contains(err.Error(), "exec ended (exit status 1)") || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("%v", err)
	}
	if len(reports) != 1 || len(reports[0].Measurements) != 1 || reports[0].Measurements[0].Failed == "" {
		t.Errorf("%+v", reports)
	}
}

// What is bound to nodes that are full is not scheduled.
func TestNodesThatAreFull(t *testing.T) {
	o := short(t)
	o.Peers, o.Lab.Node.Pods = []string{Null}, "10"
	if _, err := Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), "node capacity: ") {
		t.Errorf("%v", err)
	}
}

// A pod that is bound before it is let go was not held.
func TestWhatWasHeld(t *testing.T) {
	at := time.Now()
	samples := []load.Sample{{Bound: at.Add(3 * time.Second)}, {Bound: at.Add(time.Second)}, {Bound: at.Add(2 * time.Second)}}
	if first, last, err := binds(samples, at); err != nil || first.Sub(at) != time.Second || last.Sub(at) != 3*time.Second {
		t.Errorf("%v to %v, %v", first, last, err)
	}
	if _, _, err := binds(samples, at.Add(2*time.Second)); err == nil {
		t.Error("a pod that was not held is not told")
	}
}

func TestWhoIsMeasured(t *testing.T) {
	o := Default()
	o.Lab.Replicas, o.Exec = 3, "true"
	for name, want := range map[string]string{Null: Null, KubeScheduler: KubeScheduler, Exec: Exec, "understudy": "understudy-3", "understudy-1": "understudy-1", "understudy@.": "understudy-3@.", "understudy-2@../peers": "understudy-2@peers"} {
		if p, err := o.peer(name); err != nil || p.name != want {
			t.Errorf("%s: %q, %v", name, p.name, err)
		}
	}
	for _, name := range []string{"", "volcano", "understudy-0", "understudy-x", "understudy--1", "understudyx2", "understudy-2@../none", "understudy-300"} {
		if p, err := o.peer(name); err == nil {
			t.Errorf("%q is %+v", name, p)
		}
	}
	for what, spoil := range map[string]func(*Options){
		"peer exec": func(o *Options) { o.Peers, o.Exec = []string{Exec}, "" },
		"twice":     func(o *Options) { o.Peers = []string{"understudy", "understudy-3"} },
		"nobody":    func(o *Options) { o.Peers = nil },
		"scenario":  func(o *Options) { o.Scenarios = []string{"rest"} },
		"nodes":     func(o *Options) { o.Scenarios, o.Lab.Nodes = []string{"spread"}, 9 },
		"rounds":    func(o *Options) { o.Rounds = 0 },
		"rates":     func(o *Options) { o.Rates = []float64{20, 0} },
	} {
		o := o
		spoil(&o)
		if _, _, err := o.validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What is summed up is compared within each round, and what failed is told.
func TestSummary(t *testing.T) {
	phase := func(rate, scheduler float64) []Phase {
		return []Phase{{Name: "burst", Rate: rate, Costs: Costs{Processes: []Cost{
			{Role: lab.KindScheduler, CPU: scheduler}, {Role: roleUnderstudy, CPU: 1}, {Role: roleUnderstudy, CPU: 3}, {Role: lab.KindKwok, CPU: 5},
		}}}}
	}
	r := &Report{Peers: []string{Null, KubeScheduler, Exec}, Bases: []string{Null, KubeScheduler}, Measurements: []Measurement{
		{Round: 0, Peer: Null, Phases: phase(200, 0)}, {Round: 0, Peer: KubeScheduler, Phases: phase(100, 2)}, {Round: 0, Peer: Exec, Phases: phase(50, 3)},
		{Round: 1, Peer: Null, Phases: phase(100, 0)}, {Round: 1, Peer: KubeScheduler, Failed: "it ended\nlog"}, {Round: 1, Peer: Exec, Phases: phase(50, 4)},
	}}
	r.sumUp()
	find := func(peer, measure string) Summary {
		i := slices.IndexFunc(r.Summary, func(s Summary) bool { return s.Peer == peer && s.Measure == measure })
		if i < 0 {
			t.Fatalf("%s has no %s", peer, measure)
		}
		return r.Summary[i]
	}
	for _, c := range []struct {
		peer, measure, base string
		want                Spread
	}{
		{Exec, "pods/s", "", Spread{N: 2, Median: 50, Min: 50, Max: 50}},
		{Exec, "pods/s", Null, Spread{N: 2, Median: 0.375, Min: 0.25, Max: 0.5}},
		{Exec, "pods/s", KubeScheduler, Spread{N: 1, Median: 0.5, Min: 0.5, Max: 0.5}},
		{Null, "pods/s", "", Spread{N: 2, Median: 150, Min: 100, Max: 200}},
		{Null, "pods/s", Null, Spread{}},
		{Exec, "the scheduler", Null, Spread{}}, // which took nothing that was counted
		{Exec, "of it to schedule", "", Spread{N: 2, Median: 7.5, Min: 7, Max: 8}},
		{Exec, "each understudy", "", Spread{N: 2, Median: 2, Min: 2, Max: 2}},
		{Exec, "CPU ms a pod", KubeScheduler, Spread{N: 1, Median: 12. / 11, Min: 12. / 11, Max: 12. / 11}},
	} {
		s := find(c.peer, c.measure)
		got := s.Value
		if c.base != "" {
			got = s.Ratios[c.base]
		}
		if got != c.want {
			t.Errorf("%s of %s to %q: %+v, want %+v", c.measure, c.peer, c.base, got, c.want)
		}
	}
	var table bytes.Buffer
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"round 2 of kube-scheduler FAILED: it ended\n", "\nBURST", "\npods/s +150 \\(100–200\\) +100 n=1 +50", "RATIO TO null\npods/s +- +0.5 n=1 +0.375",
	} {
		if !regexp.MustCompile(line).Match(table.Bytes()) {
			t.Errorf("%q is missing in\n%s", line, table.String())
		}
	}
}

// A process that ended, or a lead that changed, spoils a measurement.
func TestCosts(t *testing.T) {
	process := func(name, kind string, pid int, used time.Duration) reads {
		return reads{lab.Process{Name: name, Kind: kind, PID: pid, Started: uint64(pid)}, lab.Usage{CPU: used}}
	}
	at := time.Now()
	before := func() reading {
		return reading{at: at, lead: "a", machine: machine{busy: time.Second}, processes: map[string]reads{
			"a": process("a", lab.KindReplica, 1, time.Second), "b": process("b", lab.KindReplica, 2, time.Second),
		}}
	}
	after := func() reading {
		r := before()
		r.at, r.self, r.machine = at.Add(2*time.Second), 10*time.Millisecond, machine{busy: 2 * time.Second, stolen: time.Second}
		r.processes["a"] = process("a", lab.KindReplica, 1, 1400*time.Millisecond)
		r.processes["b"] = process("b", lab.KindReplica, 2, 1100*time.Millisecond)
		r.processes["new"] = process("new", lab.KindScheduler, 3, 90*time.Millisecond)
		return r
	}
	costs, err := after().since(before(), 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []Cost{
		{Name: "a", Role: roleLead, CPU: 4}, {Name: "b", Role: roleUnderstudy, CPU: 1},
		{Name: "load", Role: roleLoad, CPU: 0.1}, {Name: "new", Role: lab.KindScheduler, CPU: 0.9},
	}
	if !slices.Equal(costs.Processes, want) || costs.Others != 0.2 || costs.Stolen != 0.5 {
		t.Errorf("costs %+v", costs)
	}
	for what, spoil := range map[string]func(*reading){
		"led":             func(r *reading) { r.lead = "b" },
		"b (pid 2) ended": func(r *reading) { delete(r.processes, "b") },
		"a (pid 1) ended": func(r *reading) { r.processes["a"] = process("a", lab.KindReplica, 4, 0) },
	} {
		r := after()
		spoil(&r)
		if _, err := r.since(before(), 100); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m, err := parseMachine("cpu  100 20 30 4000 500 6 7 80 9 0\ncpu0 1 1 1 1\n")
	if want := (machine{busy: 1630 * time.Millisecond, stolen: 800 * time.Millisecond}); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := parseMachine("cpu 1 2 3"); err == nil {
		t.Error("half a line is read")
	}
}
