package coordinator

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
)

const (
	// fencePeriod is how often the fence is tested once it has been found in
	// force, and fenceRetry how often before: a policy that is being applied
	// takes effect within a second.
	fencePeriod = time.Minute
	fenceRetry  = 5 * time.Second
	// fenceTimeout bounds one test.
	fenceTimeout = 5 * time.Second
)

// fence knows whether the API server refuses what was decided in a term that is
// over. That it does not is told, and no obstacle: the replica has fences of its
// own.
type fence struct {
	test  func(context.Context) (enforced bool, err error)
	log   *slog.Logger
	gauge prometheus.Gauge
	state atomic.Pointer[serve.Fence]
	told  serve.Fence // what the log says; empty at first
	poke  chan struct{}
}

func newFence(test func(context.Context) (bool, error), metrics prometheus.Registerer, log *slog.Logger) *fence {
	f := &fence{
		test: test, log: log, poke: make(chan struct{}, 1),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "understudy_fence_enforced",
			Help: "1 if the API server was last found to refuse bindings of an older epoch.",
		}),
	}
	metrics.MustRegister(f.gauge)
	f.state.Store(new(serve.FenceUnknown))
	return f
}

// run tests the fence now and then until ctx ends.
func (f *fence) run(ctx context.Context) error {
	for {
		wait := fenceRetry
		if f.look(ctx) == serve.FenceEnforced {
			wait = fencePeriod
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.poke:
		case <-time.After(wait):
		}
	}
}

// again asks for a test now, without waiting for it.
func (f *fence) again() {
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// look makes one test and tells what has changed.
func (f *fence) look(ctx context.Context) serve.Fence {
	limited, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	enforced, err := f.test(limited)
	if ctx.Err() != nil {
		return *f.state.Load()
	}
	now := serve.FenceAbsent
	switch {
	case err != nil:
		now = serve.FenceUnknown
	case enforced:
		now = serve.FenceEnforced
	}
	f.state.Store(&now)
	f.gauge.Set(0)
	if enforced {
		f.gauge.Set(1)
	}
	if now == f.told {
		return now
	}
	f.told = now
	switch now {
	case serve.FenceEnforced:
		f.log.Info("the API server refuses what is decided in a term that is over", "fence", now)
	case serve.FenceAbsent:
		f.log.Warn("the API server does not refuse what is decided in a term that is over: apply the admission policies of deploy/base/fence.yaml",
			"fence", now, "policy", kube.FencePolicy)
	default:
		f.log.Warn("not known whether the API server refuses what is decided in a term that is over", "fence", now, "err", err)
	}
	return now
}
