package peers

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// Report is what was measured in one scenario, and under which conditions.
type Report struct {
	Scenario string      `json:"scenario"`
	About    string      `json:"about"`
	Begun    time.Time   `json:"begun"`
	Machine  lab.Machine `json:"machine"`
	Nodes    int         `json:"nodes"`
	Pods     int         `json:"pods"`
	Apps     int         `json:"apps"`
	Peers    []string    `json:"peers"`
	// Bases are those of the peers to which all are compared.
	Bases []string `json:"bases"`
	// Summary has, by phase, peer and measure, what the measurements say together.
	Summary      []Summary     `json:"summary"`
	Measurements []Measurement `json:"measurements"`
}

// Measurement is one peer in one round. Failed says why it is not whole.
type Measurement struct {
	Round  int     `json:"round"`
	Peer   string  `json:"peer"`
	Phases []Phase `json:"phases"`
	Failed string  `json:"failed,omitempty"`
}

// Summary is one measure of one peer over all rounds.
type Summary struct {
	Phase   string `json:"phase"`
	Peer    string `json:"peer"`
	Measure string `json:"measure"`
	Value   Spread `json:"value"`
	// Ratios are to the peer named, each to that of the same round.
	Ratios map[string]Spread `json:"ratios,omitempty"`
}

// Spread is a median with its range.
type Spread struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf changes the order of values.
func spreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	slices.Sort(values)
	n := len(values)
	return Spread{N: n, Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1]}
}

func (s Spread) String() string {
	switch s.N {
	case 0:
		return "-"
	case 1:
		return figure(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

// figure has three digits, or all that are before the point.
func figure(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// measure is one figure of a phase; without has, the phase does not have it.
type measure struct {
	name  string
	value float64
	has   bool
}

// others is the one measure that says nothing about a peer.
const others = "CPUs of others"

// roles in the order in which they are shown, and what they are called there.
var roles = []struct{ role, name string }{
	{lab.KindScheduler, "the scheduler"},
	{roleLead, "the lead"},
	{roleUnderstudy, "each understudy"},
	{lab.KindSupervisor, "each supervisor"},
	{lab.KindEtcd, "each etcd of the mirror"},
	{lab.KindAPIServer, "kube-apiserver"},
	{lab.KindKubernetesEtcd, "its etcd"},
	{lab.KindKwok, "kwok"},
	{roleLoad, "the load"},
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measures returns the figures of a phase in the order in which they are shown, always the
// same names.
func (p Phase) measures() []measure {
	latency := p.Load.Latency
	total, _ := p.sum()
	toSchedule, _ := p.sum(scheduling...)
	all := []measure{
		{"pods/s", p.Rate, true},
		{"bind p50 ms", millis(latency.P50), true},
		{"bind p90 ms", millis(latency.P90), true},
		{"bind p99 ms", millis(latency.P99), true},
		{"bind max ms", millis(latency.Max), true},
		{"first bind ms", p.FirstBind, p.FirstBind > 0},
		{"CPU ms a pod", total, true},
		{"of it to schedule", toSchedule, true},
	}
	for _, r := range roles {
		cpu, n := p.sum(r.role)
		all = append(all, measure{r.name, cpu / float64(max(n, 1)), n > 0})
	}
	return append(all, measure{others, p.Others, true})
}

// sumUp makes the summary of the measurements.
func (r *Report) sumUp() {
	type key struct{ phase, peer, measure string }
	values := map[key]map[int]float64{} // by round
	var order []key
	for _, m := range r.Measurements {
		for _, phase := range m.Phases {
			for _, each := range phase.measures() {
				if !each.has {
					continue
				}
				k := key{phase.Name, m.Peer, each.name}
				if values[k] == nil {
					values[k] = map[int]float64{}
					order = append(order, k)
				}
				values[k][m.Round] = each.value
			}
		}
	}
	r.Summary = nil
	for _, k := range order {
		s := Summary{Phase: k.phase, Peer: k.peer, Measure: k.measure, Ratios: map[string]Spread{}}
		var all []float64
		for _, value := range values[k] {
			all = append(all, value)
		}
		s.Value = spreadOf(all)
		for _, base := range r.Bases {
			var ratios []float64
			for n, value := range values[k] {
				if of := values[key{k.phase, base, k.measure}][n]; of > 0 && base != k.peer && k.measure != others {
					ratios = append(ratios, value/of)
				}
			}
			if len(ratios) > 0 {
				s.Ratios[base] = spreadOf(ratios)
			}
		}
		r.Summary = append(r.Summary, s)
	}
}

// Print writes the report as tables, one for each phase.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	p("\n%s: %s", r.Scenario, r.About)
	p("%d rounds, %d nodes, %d CPUs shared with the control plane and the load; medians (least–most)", r.rounds(), r.Nodes, r.Machine.CPUs)
	if r.Machine.Busy() {
		p("the machine was busy before (load %.1f): the figures say little", r.Machine.LoadBefore)
	}
	for _, m := range r.Measurements {
		if m.Failed != "" {
			p("round %d of %s FAILED: %s", m.Round+1, m.Peer, firstLine(m.Failed))
		}
	}
	var phases []string
	for _, s := range r.Summary {
		if !slices.Contains(phases, s.Phase) {
			phases = append(phases, s.Phase)
		}
	}
	for _, phase := range phases {
		p("\n%s\t%s", strings.ToUpper(phase), strings.Join(r.Peers, "\t"))
		r.rows(p, phase, func(s Summary) Spread { return s.Value })
		for _, base := range r.Bases {
			p("AS RATIO TO %s", base)
			r.rows(p, phase, func(s Summary) Spread { return s.Ratios[base] })
		}
	}
	return t.Flush()
}

// rows prints a line for each measure of which any peer has a value.
func (r *Report) rows(p func(format string, args ...any), phase string, of func(Summary) Spread) {
	for _, m := range (Phase{}).measures() {
		line, known := []string{m.name}, false
		for _, peer := range r.Peers {
			var value Spread
			for _, s := range r.Summary {
				if s.Phase == phase && s.Peer == peer && s.Measure == m.name {
					value = of(s)
				}
			}
			cell := value.String()
			if value.N > 0 && value.N < r.rounds() {
				cell += fmt.Sprintf(" n=%d", value.N)
			}
			line, known = append(line, cell), known || value.N > 0
		}
		if known {
			p("%s", strings.Join(line, "\t"))
		}
	}
}

// rounds is how often the peers were measured, or should have been.
func (r *Report) rounds() int {
	n := 0
	for _, m := range r.Measurements {
		n = max(n, m.Round+1)
	}
	return n
}
