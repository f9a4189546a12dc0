package peers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// Options says who is measured, with what, and how often.
type Options struct {
	// Lab is what each control plane consists of. Its Replicas are those of the peer
	// "understudy".
	Lab lab.Options
	// Peers are names: null, kube-scheduler, exec, understudy, or understudy-N for N replicas.
	// understudy-N@FILE are those of another executable.
	Peers []string
	// Bases are the names of peers to which all are compared.
	Bases []string
	// Scenarios are names of those of Scenarios.
	Scenarios []string
	// Rounds in which each peer is measured once.
	Rounds int
	// Pods of a scenario, of Apps applications.
	Pods, Apps int
	// Rates in pods a second, each for Duration, of the scenario steady.
	Rates    []float64
	Duration time.Duration
	// Settle is how long pods wait, after the last one was created, before what holds them
	// is lifted.
	Settle time.Duration
	// Limit bounds each load.
	Limit time.Duration
	// Exec is the command of the peer exec, for a shell. ExecQueues says that it follows the
	// queue configuration of YuniKorn, so that a quota holds its pods.
	Exec       string
	ExecQueues bool
	// NullBinder is the command that runs NullBinder.
	NullBinder []string
	// Out is told what is being done.
	Out io.Writer
}

// Names of peers.
const (
	Null          = "null"
	KubeScheduler = lab.KubeScheduler
	Exec          = "exec"
	Understudy    = "understudy"
)

// Default is what `lab bench peers` measures. The NullBinder is left to say.
func Default() Options {
	o := Options{
		Lab: lab.Default(), Peers: []string{Null, KubeScheduler, Understudy}, Bases: []string{Null, KubeScheduler},
		Scenarios: []string{"burst"}, Rounds: 5, Pods: 4000, Apps: 50,
		Rates: []float64{20, 50, 100, 200}, Duration: 20 * time.Second, Settle: 5 * time.Second, Limit: 5 * time.Minute, ExecQueues: true,
	}
	o.Lab.Dir, o.Lab.Nodes = ".lab-peers", 200
	return o
}

// validate returns who and what is measured, and refuses what cannot work.
func (o Options) validate() ([]peer, []Scenario, error) {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Rounds > 0, "rounds %d: want at least 1", o.Rounds)
	check(o.Lab.Nodes > 0, "nodes %d: want at least 1", o.Lab.Nodes)
	check(len(o.Rates) > 0 && !slices.ContainsFunc(o.Rates, func(r float64) bool { return r <= 0 }), "rates %v: want at least one, above 0", o.Rates)
	check(o.Duration > 0, "duration %v: want more than none", o.Duration)
	var peers []peer
	for _, name := range o.Peers {
		p, err := o.peer(name)
		errs = append(errs, err)
		check(!slices.ContainsFunc(peers, func(other peer) bool { return other.name == p.name }), "peer %s: named twice", p.name)
		peers = append(peers, p)
	}
	check(len(peers) > 0, "nobody is to be measured")
	var scenarios []Scenario
	for _, name := range o.Scenarios {
		all := Scenarios()
		i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
		check(i >= 0, "scenario %q: there is none of that name", name)
		if i >= 0 {
			check(o.Lab.Nodes >= all[i].nodes, "scenario %s: %d nodes are fewer than the %d that it takes", name, o.Lab.Nodes, all[i].nodes)
			scenarios = append(scenarios, all[i])
		}
	}
	check(len(scenarios) > 0, "nothing is to be measured")
	return peers, scenarios, errors.Join(errs...)
}

// peer is one of those that are compared.
type peer struct {
	name string
	// replicas of Understudy, none for others.
	replicas int
	// binary is their executable, empty for the lab's.
	binary string
	// start starts those that are not Understudy in a lab.
	start func(*lab.Lab) (*lab.Scheduler, error)
	// quotas says that it holds pods as the queue configuration has it.
	quotas bool
}

func (o Options) peer(name string) (peer, error) {
	switch name {
	case Null:
		return peer{name: name, start: func(l *lab.Lab) (*lab.Scheduler, error) { return l.StartScheduler(name, o.NullBinder) }}, nil
	case KubeScheduler:
		return peer{name: name, start: func(l *lab.Lab) (*lab.Scheduler, error) { return l.StartKubeScheduler(schedulerName) }}, nil
	case Exec:
		p := peer{name: name, quotas: o.ExecQueues, start: func(l *lab.Lab) (*lab.Scheduler, error) {
			// The shell becomes the command, so that its process is the scheduler's.
			return l.StartScheduler(name, []string{"/bin/sh", "-c", "exec " + o.Exec})
		}}
		if o.Exec == "" {
			return p, fmt.Errorf("peer %s: its command is missing", name)
		}
		return p, nil
	}
	return o.replicas(name)
}

// replicas is the peer of that name that is Understudy.
func (o Options) replicas(name string) (peer, error) {
	p := peer{name: name, replicas: o.Lab.Replicas, quotas: true}
	var another bool
	var err error
	if name, p.binary, another = strings.Cut(name, "@"); another {
		_, err = os.Stat(p.binary)
	}
	number, found := strings.CutPrefix(name, Understudy)
	if number != "" {
		p.replicas, found = 0, strings.HasPrefix(number, "-")
		if n, bad := strconv.ParseUint(number[1:], 10, 8); bad == nil {
			p.replicas = int(n)
		}
	}
	if !found || p.replicas < 1 {
		return p, fmt.Errorf("peer %q: want %s, %s, %s, %s, or %s-N for N replicas", p.name, Null, KubeScheduler, Exec, Understudy, Understudy)
	}
	p.name = fmt.Sprintf("%s-%d", Understudy, p.replicas)
	if another {
		p.name += "@" + filepath.Base(p.binary)
	}
	return p, err
}
