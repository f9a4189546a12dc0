package election_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/election/electiontest"
)

func validConfig() election.Config {
	c := election.Default()
	c.Namespace, c.Name, c.Identity = "default", "lease", "a"
	c.Expired = func(error) {}
	return c
}

func TestDefaultIsValid(t *testing.T) {
	if err := validConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for want, spoil := range map[string]func(*election.Config){
		"namespace":      func(c *election.Config) { c.Namespace = "" },
		"name is empty":  func(c *election.Config) { c.Name = "" },
		"identity":       func(c *election.Config) { c.Identity = "" },
		"expired":        func(c *election.Config) { c.Expired = nil },
		"retryPeriod":    func(c *election.Config) { c.RetryPeriod = 0 },
		"two retry":      func(c *election.Config) { c.RetryPeriod = 2 * time.Second },
		"margin":         func(c *election.Config) { c.Margin = 900 * time.Millisecond },
		"does not end":   func(c *election.Config) { c.RenewDeadline = 2900 * time.Millisecond },
		"requestTimeout": func(c *election.Config) { c.RequestTimeout = 3 * time.Second },
		"maxLease":       func(c *election.Config) { c.MaxLeaseDuration = 9500 * time.Millisecond },
		"pollPeriod":     func(c *election.Config) { c.PollPeriod = -1 },
		"preferredWait":  func(c *election.Config) { c.PreferredWait = time.Minute },
		"jitter":         func(c *election.Config) { c.Jitter = time.Second },
		"deference":      func(c *election.Config) { c.Deference = time.Second },
	} {
		c := validConfig()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := election.New(c, electiontest.NewStore().Client("a"), nil, slog.Default()); err == nil {
			t.Errorf("%s: New accepts it", want)
		}
	}
}

func TestMetrics(t *testing.T) {
	inWorld(t, func(w *world) {
		reg := prometheus.NewRegistry()
		a := w.replica("a", func(c *election.Config) { c.Metrics = reg })
		term := a.lead()
		advance(5 * time.Second)
		equal(w, "leading", metric(t, reg, "understudy_election_leading"), 1)
		a.line.Refuse()
		within(w, term.Context().Done(), 3*time.Second, "end of the term")
		advance(time.Millisecond)
		equal(w, "leading", metric(t, reg, "understudy_election_leading"), 0)
		equal(w, "terms", metric(t, reg, "understudy_election_terms_total"), 1)
		equal(w, "ends", metric(t, reg, "understudy_election_term_ends_total"), 1)
		if n := metric(t, reg, "understudy_election_renew_failures_total"); n < 3 || n > 5 {
			t.Errorf("%v failed renewals", n)
		}
		if _, err := election.New(a.cfg, a.line, w.knownEpoch, w.log); err == nil {
			t.Error("metrics registered twice without an error")
		}
	})
}

func metric(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		return sum
	}
	t.Fatalf("no metric %s", name)
	return 0
}
