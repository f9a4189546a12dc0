package bench

import (
	"sort"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// sampleEvery is short enough that little of a process that is killed goes
// unseen, and long enough to cost nothing.
const sampleEvery = 200 * time.Millisecond

// meter reads what each process of the lab uses.
type meter struct {
	lab  *lab.Lab
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	phase string
	began time.Time
	used  map[int]*usage // by process id
}

// usage of one process, in all and in each phase.
type usage struct {
	process lab.Process
	last    lab.Usage
	phases  map[string]time.Duration
	elapsed map[string]time.Duration
	rss     int64
	led     bool
}

// Usage is what one process of the lab used.
type Usage struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	PID  int    `json:"pid"`
	// CPUSeconds in all, and CPUs kept busy on average in each phase.
	CPUSeconds float64            `json:"cpu_seconds"`
	CPUs       map[string]float64 `json:"cpus"`
	PeakRSS    int64              `json:"peak_rss_bytes"`
	// RSS is what it had resident when the light load was over, zero if it did not
	// live then; Led says that it led until then.
	RSS int64 `json:"rss_bytes"`
	Led bool  `json:"led"`
	// spent is the CPU time in each phase.
	spent map[string]time.Duration
}

func newMeter(l *lab.Lab) *meter {
	m := &meter{lab: l, stop: make(chan struct{}), done: make(chan struct{}), used: map[int]*usage{}}
	go m.run()
	return m
}

func (m *meter) run() {
	defer close(m.done)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		m.mu.Lock()
		m.sample()
		m.mu.Unlock()
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
	}
}

// begin ends one phase and begins the next; the empty one is not reported.
func (m *meter) begin(phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sample()
	m.phase = phase
}

// compared notes what each process has resident, and which of them leads.
func (m *meter) compared(lead string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sample()
	for _, u := range m.used {
		if u.process.Running() {
			u.rss, u.led = u.last.RSS, u.process.Name == lead
		}
	}
}

// sample reads all processes and adds what they used since the last time to the
// phase. m.mu is held.
func (m *meter) sample() {
	now := time.Now()
	since := now.Sub(m.began)
	first := m.began.IsZero()
	m.began = now
	state, err := m.lab.State()
	if err != nil {
		return // being replaced or gone: the next sample makes up for it
	}
	for _, p := range state.Processes {
		got, err := p.Usage()
		if err != nil {
			continue
		}
		u := m.used[p.PID]
		if u == nil {
			u = &usage{process: p, phases: map[string]time.Duration{}, elapsed: map[string]time.Duration{}}
			m.used[p.PID] = u
		}
		if !first {
			u.phases[m.phase] += got.CPU - u.last.CPU
			u.elapsed[m.phase] += since
		}
		u.last = got
	}
}

// close stops the meter and returns what was used, replicas first.
func (m *meter) close() []Usage {
	close(m.stop)
	<-m.done
	var all []Usage
	for _, u := range m.used {
		one := Usage{
			Name: u.process.Name, Kind: u.process.Kind, PID: u.process.PID,
			CPUSeconds: u.last.CPU.Seconds(), CPUs: map[string]float64{}, PeakRSS: u.last.PeakRSS,
			RSS: u.rss, Led: u.led, spent: u.phases,
		}
		for phase, d := range u.phases {
			if phase != "" && u.elapsed[phase] > 0 {
				one.CPUs[phase] = d.Seconds() / u.elapsed[phase].Seconds()
			}
		}
		all = append(all, one)
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if (a.Kind == lab.KindReplica) != (b.Kind == lab.KindReplica) {
			return a.Kind == lab.KindReplica
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		return a.PID < b.PID
	})
	return all
}
