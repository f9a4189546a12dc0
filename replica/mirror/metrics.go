package mirror

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	duration    prometheus.Histogram
	operations  prometheus.Histogram
	failures    prometheus.Counter
	revision    prometheus.Gauge
	suspended   prometheus.Gauge
	suspensions prometheus.Counter
	fenced      prometheus.Counter
	refused     prometheus.Counter

	// unregister makes room for the metrics of the next mirror.
	unregister func()
}

// newMetrics registers the metrics with reg, unless it is nil.
func newMetrics(reg prometheus.Registerer, pending func() float64) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("understudy", "mirror", n) }
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("txn_duration_seconds"), Help: "How long etcd took to commit a transaction.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		operations: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("txn_operations"), Help: "Operations in a committed transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 8),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("txn_failures_total"), Help: "Transactions without a known outcome; they are repeated.",
		}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("durable_revision"), Help: "etcd revision of the newest transaction of this term.",
		}),
		suspended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("suspended"), Help: "1 while effects have run ahead of durability because etcd is away.",
		}),
		suspensions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("suspensions_total"), Help: "How often effects began to run ahead of durability.",
		}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("fenced_total"), Help: "Terms that ended because a newer epoch owns the prefix.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("refused_total"), Help: "Records that etcd does not take because of their size.",
		}),
	}
	all := []prometheus.Collector{
		m.duration, m.operations, m.failures, m.revision, m.suspended, m.suspensions, m.fenced, m.refused,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("pending_keys"), Help: "Records that etcd does not have yet in their newest version.",
		}, pending),
	}
	m.unregister = func() {}
	if reg == nil {
		return m, nil
	}
	m.unregister = func() {
		for _, c := range all {
			reg.Unregister(c)
		}
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
