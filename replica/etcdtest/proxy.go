package etcdtest

import (
	"testing"

	"github.com/understudy-ha/understudy/internal/netfault"
)

// Proxy is a TCP proxy in front of a server, with a network of its own moods. Each
// takes the place of the one before.
type Proxy struct {
	// Addr is where clients connect, host:port.
	Addr string

	network *netfault.Proxy
}

// NewProxy forwards to target, host:port, until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	network, err := netfault.Listen("127.0.0.1:0", target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(network.Close)
	return &Proxy{Addr: network.Address(), network: network}
}

// Cut closes every connection and accepts none until Restore.
func (p *Proxy) Cut() { p.network.Set(netfault.Refused) }

// Blink closes every connection and accepts new ones at once, if it is not cut.
func (p *Proxy) Blink() { p.network.Disconnect() }

// Stall keeps connections open, and every byte in either direction, until Restore.
func (p *Proxy) Stall() { p.network.Set(netfault.Held) }

// Deafen lets requests through and keeps their answers until Restore.
func (p *Proxy) Deafen() { p.network.Set(netfault.HeldAnswers) }

// Restore has everything arrive again; bytes that were kept are delivered.
func (p *Proxy) Restore() { p.network.Set(netfault.Fault{}) }
