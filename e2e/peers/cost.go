package peers

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// Roles of processes that a lab has no kind for.
const (
	roleLead        = "lead"
	roleUnderstudy  = "understudy"
	roleLoad        = "load"
	clockTick       = 10 * time.Millisecond // of /proc/stat
	busyFields      = 7                     // of the line "cpu" in /proc/stat, without steal
	idleField       = 3
	waitingForField = 4
	stolenField     = 7
)

// scheduling are the roles of processes that are there to schedule.
var scheduling = []string{lab.KindScheduler, roleLead, roleUnderstudy, lab.KindSupervisor, lab.KindEtcd}

// Cost is what one process took during a load.
type Cost struct {
	Name string `json:"name"`
	// Role is the kind of process; replicas are lead or understudy.
	Role string `json:"role"`
	// CPU is milliseconds of CPU time for each pod, RSS what it had resident at the end.
	CPU float64 `json:"cpu_ms_per_pod"`
	RSS int64   `json:"rss_bytes,omitempty"`
}

// Costs are what all processes took.
type Costs struct {
	Processes []Cost `json:"processes"`
	// Others are the CPUs that everything else on the machine kept busy on average, and
	// Stolen those that its host gave to others: a measurement that has them is not quiet.
	Others float64 `json:"others_cpus"`
	Stolen float64 `json:"stolen_cpus"`
}

// reading is what everything has used by one moment.
type reading struct {
	at        time.Time
	processes map[string]reads
	self      time.Duration
	machine   machine
	lead      string
}

type reads struct {
	lab.Process
	used lab.Usage
}

// machine is the CPU time of all processors by now.
type machine struct{ busy, stolen time.Duration }

// read reads what the processes of the lab have used, and this one.
func read(ctx context.Context, l *lab.Lab) (reading, error) {
	r := reading{at: time.Now(), processes: map[string]reads{}}
	state, err := l.State()
	if err != nil {
		return r, err
	}
	for _, p := range state.Processes {
		if p.Stopped {
			continue
		}
		used, err := p.Usage()
		if err != nil {
			return r, fmt.Errorf("what %s has used: %w", p.Name, err)
		}
		r.processes[p.Name] = reads{p, used}
	}
	if len(state.Replicas()) > 0 {
		if r.lead, err = l.Leader(ctx); err != nil {
			return r, err
		}
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return r, err
	}
	r.self = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return r, err
	}
	r.machine, err = parseMachine(string(stat))
	return r, err
}

// parseMachine reads the first line of /proc/stat.
func parseMachine(stat string) (m machine, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < stolenField+2 || fields[0] != "cpu" {
		return m, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, field := range fields[1 : stolenField+2] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return m, fmt.Errorf("/proc/stat: %w", err)
		}
		switch {
		case i == stolenField:
			m.stolen = time.Duration(ticks) * clockTick
		case i != idleField && i != waitingForField && i < busyFields:
			m.busy += time.Duration(ticks) * clockTick
		}
	}
	return m, nil
}

// since returns what a load of so many pods has cost since the reading before. A process
// that is new has cost all that it has used.
func (r reading) since(before reading, pods int) (Costs, error) {
	var c Costs
	if r.lead != before.lead {
		return c, fmt.Errorf("%s led in the beginning, and %s in the end", before.lead, r.lead)
	}
	for name, was := range before.processes {
		if is := r.processes[name]; is.PID != was.PID || is.Started != was.Started {
			return c, fmt.Errorf("%s (pid %d) ended meanwhile", name, was.PID)
		}
	}
	perPod := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(pods) }
	ours := r.self - before.self
	for name, is := range r.processes {
		used := is.used.CPU - before.processes[name].used.CPU
		ours += used
		role := is.Kind
		if is.Kind == lab.KindReplica {
			if role = roleUnderstudy; name == r.lead {
				role = roleLead
			}
		}
		c.Processes = append(c.Processes, Cost{Name: name, Role: role, CPU: perPod(used), RSS: is.used.RSS})
	}
	c.Processes = append(c.Processes, Cost{Name: roleLoad, Role: roleLoad, CPU: perPod(r.self - before.self)})
	slices.SortFunc(c.Processes, func(a, b Cost) int { return strings.Compare(a.Name, b.Name) })
	elapsed := r.at.Sub(before.at).Seconds()
	c.Others = max(0, (r.machine.busy-before.machine.busy-ours).Seconds()/elapsed)
	c.Stolen = (r.machine.stolen - before.machine.stolen).Seconds() / elapsed
	return c, nil
}

// sum is the CPU time of all processes of these roles, of all without any, and how many
// processes those are.
func (c Costs) sum(roles ...string) (cpu float64, n int) {
	for _, p := range c.Processes {
		if len(roles) == 0 || slices.Contains(roles, p.Role) {
			cpu, n = cpu+p.CPU, n+1
		}
	}
	return cpu, n
}
