package kube

import (
	"context"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// pace bounds the requests of clients that exist before it is known how many they may send.
type pace struct {
	now atomic.Pointer[flowcontrol.RateLimiter]
}

var _ flowcontrol.RateLimiter = (*pace)(nil)

// set bounds requests from now on. What waits already waits as it did.
func (p *pace) set(qps float32, burst int) {
	limiter := flowcontrol.NewFakeAlwaysRateLimiter()
	if qps > 0 {
		limiter = flowcontrol.NewTokenBucketRateLimiter(qps, max(burst, 1))
	}
	p.now.Store(&limiter)
}

func (p *pace) limiter() flowcontrol.RateLimiter { return *p.now.Load() }

// TryAccept, Accept, Stop, QPS and Wait are those of the present bound.
func (p *pace) TryAccept() bool                { return p.limiter().TryAccept() }
func (p *pace) Accept()                        { p.limiter().Accept() }
func (p *pace) Stop()                          { p.limiter().Stop() }
func (p *pace) QPS() float32                   { return p.limiter().QPS() }
func (p *pace) Wait(ctx context.Context) error { return p.limiter().Wait(ctx) }

// paced is a connection with a pace of its own.
func (c *Clients) paced(base *rest.Config) *rest.Config {
	cfg, p := connection(base), &pace{}
	p.set(base.QPS, base.Burst)
	cfg.RateLimiter = p
	c.paces = append(c.paces, p)
	return cfg
}

// SetRate bounds reads and writes, each for itself, from now on: see ClientConfig.
func (c *Clients) SetRate(qps float32, burst int) {
	for _, p := range c.paces {
		p.set(qps, burst)
	}
}
