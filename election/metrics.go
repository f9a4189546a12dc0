package election

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	leading       prometheus.Gauge
	terms         prometheus.Counter
	ends          *prometheus.CounterVec
	renewSeconds  prometheus.Histogram
	renewFailures prometheus.Counter
	holderChanges prometheus.Counter
	rewatches     prometheus.Counter
	leaseDuration prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "understudy", Subsystem: "election", Name: name, Help: help}
	}
	m := &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts(
			opts("leading", "1 while this replica holds a valid term."))),
		terms: prometheus.NewCounter(prometheus.CounterOpts(
			opts("terms_total", "Terms this replica has won."))),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts(
			opts("term_ends_total", "Terms of this replica that have ended, by cause.")), []string{"cause"}),
		renewSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "understudy", Subsystem: "election", Name: "renew_seconds",
			Help:    "Time from sending a renewal to its successful response.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}),
		renewFailures: prometheus.NewCounter(prometheus.CounterOpts(
			opts("renew_failures_total", "Renewal attempts that failed."))),
		holderChanges: prometheus.NewCounter(prometheus.CounterOpts(
			opts("holder_changes_total", "Changes of the Lease's holder seen by this replica."))),
		rewatches: prometheus.NewCounter(prometheus.CounterOpts(
			opts("rewatches_total", "Times the watch of the Lease ended or could not be opened."))),
		leaseDuration: prometheus.NewGauge(prometheus.GaugeOpts(
			opts("lease_duration_seconds", "Lease duration that this replica writes, as the API server is slow or quick."))),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.leading, m.terms, m.ends, m.renewSeconds, m.renewFailures, m.holderChanges, m.rewatches, m.leaseDuration,
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// cause is the label for why a term ended.
func causeLabel(err error) string {
	switch {
	case errors.Is(err, ErrRenewDeadline):
		return "renew_deadline"
	case errors.Is(err, ErrReleased):
		return "released"
	default:
		return "lost"
	}
}
