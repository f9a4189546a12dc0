package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

// A small run from end to end, with the lead killed in the middle: no gang is lost.
func TestGangs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := DefaultGangs()
	o.Lab.Dir, o.Lab.Nodes = filepath.Join(t.TempDir(), "lab"), 10
	o.Gangs, o.Kill, o.Out = 20, true, io.Discard
	report, err := Gangs(t.Context(), o)
	if report != nil {
		var table bytes.Buffer
		_ = report.Print(&table)
		t.Log(table.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if report.Started != 20 || report.Start.N != 20 || report.Replaced != 160 {
		t.Errorf("%d gangs began, %d placeholders were replaced, starts %+v", report.Started, report.Replaced, report.Start)
	}
	if m := report.Mirror; m.Tasks < 2*160 || m.Transactions == 0 || m.BytesPerTask == 0 {
		t.Errorf("written %+v", m)
	}
	leads := 0
	for _, c := range report.PerPod {
		if c.Led && c.Kind == lab.KindReplica && c.CPU > 0 {
			leads++
		}
	}
	if leads != 1 {
		t.Errorf("costs %+v", report.PerPod)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

// A gang of which a pod is not bound has not begun; one that took another place too many
// has cost one.
func TestGangsThatAreLost(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	pod := func(sent, bound int) load.Sample {
		s := load.Sample{Sent: at(sent)}
		if bound > 0 {
			s.Bound = at(bound)
		}
		return s
	}
	for name, c := range map[string]struct {
		samples            []load.Sample
		replaced, timedOut int
		ok                 bool
		longest            time.Duration
	}{
		"all":              {[]load.Sample{pod(1, 5), pod(2, 4), pod(3, 9), pod(4, 6)}, 4, 0, true, 6 * time.Second},
		"one waits":        {[]load.Sample{pod(1, 5), pod(2, 4), pod(3, 9), pod(4, 0)}, 4, 0, false, 4 * time.Second},
		"one place twice":  {[]load.Sample{pod(1, 5), pod(2, 4), pod(3, 9), pod(4, 6)}, 5, 0, false, 6 * time.Second},
		"one place for it": {[]load.Sample{pod(1, 5), pod(2, 4), pod(3, 9), pod(4, 6)}, 3, 1, false, 6 * time.Second},
	} {
		r := &GangsReport{Gangs: 2, Members: 2, Replaced: c.replaced, TimedOut: c.timedOut}
		r.starts(c.samples)
		if got := r.whole(); got.OK != c.ok || (got.Violations > 0) == c.ok || r.Start.Max != c.longest {
			t.Errorf("%s: %+v, starts %+v", name, got, r.Start)
		}
		if r.compare(); r.Figures[0].Met != (r.Started == 2) || r.Figures[1].Met != (c.replaced <= 4) {
			t.Errorf("%s: %+v", name, r.Figures)
		}
	}
}
