package view

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reloads prometheus.Counter
	changes prometheus.Counter
}

// newMetrics registers the metrics with reg, unless it is nil.
func newMetrics(reg prometheus.Registerer, status func() Status) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("understudy", "view", n) }
	m := &metrics{
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("reloads_total"), Help: "How often the state was loaded again because the watch could not go on.",
		}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("changes_total"), Help: "Changes applied, those of loads included.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(n, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help}, func() float64 { return value(status()) })
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.reloads, m.changes,
		gauge("applied_revision", "Everything up to this etcd revision has been applied.",
			func(s Status) float64 { return float64(s.Revision) }),
		gauge("lag_revisions", "etcd revisions that are known of and not applied.",
			func(s Status) float64 { return float64(s.Lag) }),
		gauge("refused_records", "Records that cannot be read.",
			func(s Status) float64 { return float64(len(s.Refused)) }),
		gauge("synced", "1 once the state has been loaded.", func(s Status) float64 { return flag(s.Synced) }),
		gauge("connected", "1 while etcd answers.", func(s Status) float64 { return flag(s.Connected) }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
