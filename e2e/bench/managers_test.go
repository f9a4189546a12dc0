package bench

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/e2e/lab"
)

// A small run from end to end: every object is updated, each of its applications ends once,
// and what replicas used is known.
func TestManagers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := DefaultManagers()
	o.Lab.Dir, o.Lab.Nodes = filepath.Join(t.TempDir(), "lab"), 5
	o.Objects, o.Updates, o.Idle, o.Out = 50, 300, time.Second, io.Discard
	report, err := Managers(t.Context(), o)
	if report != nil {
		var table bytes.Buffer
		_ = report.Print(&table)
		t.Log(table.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if report.Updates != 300 || report.Lag["spark-operator"].N != 50 || report.Lag["rayjob"].N != 50 {
		t.Errorf("%d updates, lags %+v", report.Updates, report.Lag)
	}
	leads := 0
	for _, c := range report.PerUpdate {
		if c.Led {
			leads++
		}
	}
	if len(report.PerUpdate) != 3 || leads != 1 || len(report.Figures) != 1 {
		t.Errorf("replicas %+v, figures %+v", report.PerUpdate, report.Figures)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

// An understudy that has more memory than the lead, or of which nothing is known, is told.
func TestMemoryOfAnUnderstudy(t *testing.T) {
	for name, c := range map[string]struct {
		lead, understudy int64
		met              bool
	}{
		"less": {400e6, 300e6, true}, "a little more": {400e6, 480e6, true}, "too much": {400e6, 481e6, false},
		"no lead": {0, 300e6, false}, "no understudy": {400e6, 0, false},
	} {
		r := &ManagersReport{Updates: 100, Took: 10 * time.Second, Usage: []Usage{
			{Name: "a", Kind: lab.KindReplica, RSS: c.lead, Led: true, CPUs: map[string]float64{phaseIdle: 0.01, phaseUpdates: 0.03}},
			{Name: "b", Kind: lab.KindReplica, RSS: c.understudy},
			{Name: "etcd", Kind: lab.KindAPIServer, RSS: 900e6},
		}}
		r.compare()
		var table bytes.Buffer
		if err := r.Print(&table); err != nil || r.Figures[0].Met != c.met || strings.Contains(table.String(), "NOT MET") == c.met {
			t.Errorf("%s: %v, %v\n%s", name, r.Figures, err, table.String())
		}
		if c.lead > 0 && r.PerUpdate[0].CPU.Round(time.Microsecond) != 2*time.Millisecond {
			t.Errorf("%s: an update costs the lead %v", name, r.PerUpdate[0].CPU)
		}
	}
}
