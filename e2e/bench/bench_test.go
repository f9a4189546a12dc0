package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatWasNotMeasuredIsNotMet(t *testing.T) {
	r := newReport(Default())
	r.compare()
	if len(r.Figures) != 7 {
		t.Fatalf("%d figures", len(r.Figures))
	}
	for _, f := range r.Figures {
		if f.Met {
			t.Errorf("%s is met by an empty report", f.Name)
		}
	}
}

func TestFiguresAgainstExpectations(t *testing.T) {
	good := func() *Report {
		r := newReport(Default())
		r.Burst.Rate = 450
		r.Light = load.Result{Bound: 1, Latency: load.Summary{P50: 12 * time.Millisecond, P99: 90 * time.Millisecond}}
		r.Gap.Length = 4 * time.Second
		r.Usage = []Usage{
			{Name: "understudy-0", Kind: lab.KindReplica, PeakRSS: 400e6, RSS: 300e6, Led: true},
			{Name: "understudy-1", Kind: lab.KindReplica, PeakRSS: 350e6, RSS: 350e6, CPUs: map[string]float64{"light": 0.04}},
			{Name: "kube-apiserver", Kind: lab.KindAPIServer, PeakRSS: 1200e6},
		}
		return r
	}
	unmet := func(r *Report) (names []string) {
		r.compare()
		for _, f := range r.Figures {
			if !f.Met {
				names = append(names, f.Name)
			}
		}
		return names
	}
	if got := unmet(good()); len(got) > 0 {
		t.Errorf("not met: %v", got)
	}
	for want, spoil := range map[string]func(*Report){
		"burst":                   func(r *Report) { r.Burst.Rate = 399 },
		"p50":                     func(r *Report) { r.Light.Latency.P50 = 31 * time.Millisecond },
		"p99":                     func(r *Report) { r.Light.Latency.P99 = 251 * time.Millisecond },
		"without":                 func(r *Report) { r.Gap.Length = 5600 * time.Millisecond },
		"peak":                    func(r *Report) { r.Usage[0].PeakRSS = 501e6 },
		"memory of an understudy": func(r *Report) { r.Usage[1].RSS = 361e6 },
		"CPU":                     func(r *Report) { r.Usage[1].CPUs["light"] = 0.051 },
	} {
		r := good()
		spoil(r)
		if got := unmet(r); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("spoiled %s: not met are %v", want, got)
		}
		var table bytes.Buffer
		if err := r.Print(&table); err != nil || !strings.Contains(table.String(), "NOT MET") {
			t.Errorf("the table hides it (%v):\n%s", err, table.String())
		}
	}
}

// A small run from end to end: all phases, a good verdict, and JSON that holds
// the figures.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := Default()
	o.Lab.Dir, o.Lab.Nodes = filepath.Join(t.TempDir(), "lab"), 20
	o.Pods, o.Duration, o.Profiles = 500, 10*time.Second, t.TempDir()
	o.Out = io.Discard
	report, err := Run(t.Context(), o)
	if report != nil {
		var table bytes.Buffer
		_ = report.Print(&table)
		t.Log(table.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if report.Burst.Bound != 500 || report.Light.Bound != 200 || report.Failover.Bound != 200 {
		t.Errorf("bound %d, %d, %d", report.Burst.Bound, report.Light.Bound, report.Failover.Bound)
	}
	replicas := 0
	for _, u := range report.Usage {
		if u.Kind == lab.KindReplica && u.CPUSeconds > 0 && u.PeakRSS > 0 {
			replicas++
		}
	}
	if replicas != 4 { // three, and the one that followed the killed lead
		t.Errorf("%d replica processes were measured", replicas)
	}
	if info, err := os.Stat(filepath.Join(o.Profiles, "burst-lead.pprof")); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v", err)
	}
	if all, _ := filepath.Glob(filepath.Join(o.Profiles, "burst-*.pprof")); len(all) != 3 {
		t.Errorf("profiles: %v", all)
	}
	raw, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var back struct{ Figures []Figure }
	if err := json.Unmarshal(raw, &back); err != nil || len(back.Figures) != 7 || back.Figures[0].Value != report.Burst.Rate {
		t.Errorf("JSON: %v, %+v", err, back)
	}
}
