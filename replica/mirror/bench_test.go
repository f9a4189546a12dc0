package mirror_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// benchmarked returns a mirror on an etcd that syncs its log to disk.
func benchmarked(b *testing.B) *mirror.Mirror {
	b.Helper()
	cli := etcdtest.Start(b, "--quota-backend-bytes=4294967296").Client()
	claimed, err := claimAs(b.Context(), cli, leader(1))
	if err != nil {
		b.Fatal(err)
	}
	m, err := mirror.New(cli, claimed, config(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	b.Cleanup(func() { stop(); <-ended })
	return m
}

// A burst: 1,000 records, each in an Append of its own, until all are durable.
func BenchmarkBurstOfThousand(b *testing.B) {
	m := benchmarked(b)
	const records = 1000
	var rates []float64
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		for i := range records {
			m.Append([]ledger.Change{task(i, n)}, func() {})
		}
		if err := m.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		rates = append(rates, records/time.Since(start).Seconds())
	}
	slices.Sort(rates)
	b.ReportMetric(rates[len(rates)/2], "records/s(median)")
}

// One change at a time, with 1,000 records in turn: Append until done.
func BenchmarkLatency(b *testing.B) {
	m := benchmarked(b)
	done := make(chan struct{})
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		m.Append([]ledger.Change{task(n%1000, n)}, func() { done <- struct{}{} })
		<-done
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "ms(median)")
	b.ReportMetric(ms(took[len(took)*99/100]), "ms(p99)")
}
