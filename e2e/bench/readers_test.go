package bench

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/e2e/load"
)

// A small run from end to end: lists are complete, streams bring events, and both halves of
// each round are measured.
func TestReaders(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := DefaultReaders()
	o.Lab.Dir, o.Lab.Nodes = filepath.Join(t.TempDir(), "lab"), 10
	o.Apps, o.Rate, o.Duration, o.Rounds, o.Clients, o.Streams, o.Out = 200, 20, 3*time.Second, 2, 6, 20, io.Discard
	report, err := Readers(t.Context(), o)
	if report != nil {
		var table bytes.Buffer
		_ = report.Print(&table)
		t.Log(table.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rounds) != 2 || len(report.Figures) != 1 || report.FewestHeard < 2 {
		t.Errorf("%d rounds, figures %+v, %d events heard", len(report.Rounds), report.Figures, report.FewestHeard)
	}
	for _, round := range report.Rounds {
		if round.Alone.Bound != 60 || round.Read.Bound != 60 || round.Lists == 0 || round.Ratio == 0 {
			t.Errorf("bound %d and %d, %d lists, ratio %v", round.Alone.Bound, round.Read.Bound, round.Lists, round.Ratio)
		}
	}
}

// A ratio that is too high is told, and so is that there is none.
func TestRatioOfReaders(t *testing.T) {
	for want, ratios := range map[bool][][]float64{true: {{1}, {1.5}, {9, 1, 1}}, false: {nil, {1.6}, {1, 9, 9}}} {
		for _, each := range ratios {
			r := &ReadersReport{}
			for _, ratio := range each {
				r.Rounds = append(r.Rounds, Round{Ratio: ratio, Alone: load.Result{Bound: 1}})
			}
			r.compare()
			var table bytes.Buffer
			if err := r.Print(&table); err != nil || r.Figures[0].Met != want || strings.Contains(table.String(), "NOT MET") == want {
				t.Errorf("%v: %+v, %v\n%s", each, r.Figures, err, table.String())
			}
		}
	}
}

// What is counted of a list does not depend on how it arrives.
func TestCounter(t *testing.T) {
	text := strings.Repeat(`{""applicationID":"applicationID","a":1}`, 7)
	for piece := 1; piece < 20; piece++ {
		var c counter
		for rest := text; rest != ""; {
			n, err := fmt.Fprint(&c, rest[:min(piece, len(rest))])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if c.found != 7 {
			t.Errorf("pieces of %d: %d", piece, c.found)
		}
	}
}
