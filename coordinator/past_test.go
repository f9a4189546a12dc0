package coordinator

import (
	"encoding/json"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election/supervise"
)

var diedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// after returns a replica whose supervisor has seen that.
func after(t *testing.T, past string) *replica {
	t.Helper()
	t.Setenv(supervise.PastEnv, past)
	r := &replica{cfg: config.Config{Identity: "r1"}, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry()}
	r.knowPast()
	return r
}

func pastOf(t *testing.T, restarts int, end supervise.End) string {
	t.Helper()
	end.Incarnation, end.At = "abc", diedAt
	raw, err := json.Marshal(supervise.Past{Restarts: restarts, Last: &end})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// samples returns what is exported, by name and labels.
func samples(t *testing.T, metrics prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

func TestHowTheProcessBeforeEnded(t *testing.T) {
	for name, c := range map[string]struct {
		end    supervise.End
		reason serve.Reason
		says   string
	}{
		"killed":   {supervise.End{How: "signal: killed", Status: 137, Epoch: 7}, serve.Crashed, "r1_abc ended: signal: killed; it led in epoch 7; restart 3"},
		"failed":   {supervise.End{How: "exit status 1", Status: 1}, serve.Crashed, "r1_abc ended: exit status 1; it did not lead; restart 3"},
		"in order": {supervise.End{How: "exit status 0"}, serve.Ended, ""},
		"silent":   {supervise.End{How: "the lead has not shown life for 1.0s: killed", Status: 137, Silent: true, Epoch: 7}, serve.Hung, "r1_abc ended: the lead has not shown life for 1.0s: killed; it led in epoch 7; restart 3"},
		"outlived": {supervise.End{How: "exit status 70", Status: 70}, serve.Hung, "r1_abc ended: exit status 70; it did not lead; restart 3"},
		"hung":     {supervise.End{How: "exit status 71", Status: 71}, serve.Hung, "r1_abc ended: exit status 71; it did not lead; restart 3"},
	} {
		t.Run(name, func(t *testing.T) {
			r := after(t, pastOf(t, 3, c.end))
			got := r.lastEnd()
			if got == nil || got.Reason != c.reason || got.Incarnation != "r1_abc" || got.Epoch != c.end.Epoch || got.How != c.end.How || !got.At.Equal(diedAt) {
				t.Fatalf("%+v", got)
			}
			if c.says != "" && describe(*got, r.past.Restarts) != c.says {
				t.Errorf("says %q, want %q", describe(*got, r.past.Restarts), c.says)
			}
			want := map[string]float64{
				"understudy_restarts_total":                                 3,
				"understudy_last_end_timestamp_seconds " + string(c.reason): float64(diedAt.Unix()),
			}
			if got := samples(t, r.metrics); !maps.Equal(got, want) {
				t.Errorf("metrics %v, want %v", got, want)
			}
		})
	}
}

func TestAProcessWithoutPast(t *testing.T) {
	for name, past := range map[string]string{"no supervisor": "", "the first": `{"restarts":0}`, "not to be read": "{"} {
		t.Run(name, func(t *testing.T) {
			r := after(t, past)
			if r.lastEnd() != nil || r.past.Restarts != 0 {
				t.Errorf("%+v", r.past)
			}
			if err := r.tellPast(t.Context()); err != nil { // and returns at once
				t.Error(err)
			}
		})
	}
}
