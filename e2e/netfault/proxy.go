package netfault

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP on to one address, and UDP in one direction. Its methods may
// be called from any goroutine.
type Proxy struct {
	target   string
	listener net.Listener
	packets  net.PacketConn // nil without UDP
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu     sync.Mutex
	fault  Fault
	links  map[*link]struct{}
	closed bool
}

// Listen passes what reaches address on to target.
func Listen(address, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: l, links: map[*link]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running.Go(p.accept)
	return p, nil
}

// ListenPackets is Listen for UDP as well. Packets are requests, each for itself:
// an answer has to be sent to an address that its request names, not to where the
// request came from.
func ListenPackets(address, target string) (*Proxy, error) {
	p, err := Listen(address, target)
	if err != nil {
		return nil, err
	}
	to, err := net.ResolveUDPAddr("udp", target)
	if err == nil {
		p.packets, err = net.ListenPacket("udp", p.Address())
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	p.running.Go(func() { p.relay(to) })
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Set replaces the fault. What is on its way is subject to the new one; whoever
// lost something that would now arrive is disconnected.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	p.fault = f
	var torn []*link
	for l := range p.links {
		if l.requests.lost && !f.Requests.Drop || l.answers.lost && !f.Answers.Drop {
			torn = append(torn, l)
		}
	}
	p.mu.Unlock()
	for _, l := range torn {
		l.close()
	}
}

// Fault returns the present one.
func (p *Proxy) Fault() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// Close disconnects everybody and returns when nothing is left of the proxy.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	p.cancel()
	_ = p.listener.Close()
	if p.packets != nil {
		_ = p.packets.Close()
	}
	for _, l := range links {
		l.close()
	}
	p.running.Wait()
}

// retry is how long to wait after an error that may pass.
const retry = 5 * time.Millisecond

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files
			time.Sleep(retry)
			continue
		}
		l := &link{p: p, client: conn.(*net.TCPConn)}
		l.ctx, l.cancel = context.WithCancel(p.ctx)
		l.requests.of, l.answers.of = requests, answers
		p.mu.Lock()
		refused := p.closed
		if !refused {
			p.links[l] = struct{}{}
			// Nobody is told of a connection that cannot come about.
			l.requests.lost = p.fault.Requests.Drop
			p.running.Go(l.run)
		}
		p.mu.Unlock()
		if refused {
			l.close()
		}
	}
}

// biggest is that of UDP's packets.
const biggest = 64 << 10

func (p *Proxy) relay(to net.Addr) {
	b := make([]byte, biggest)
	for {
		n, _, err := p.packets.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the target did not listen to the packet before
			continue
		}
		f := p.Fault().Requests
		switch {
		case f.Drop:
		case f.delay() > 0:
			late := append([]byte(nil), b[:n]...)
			p.running.Go(func() {
				if sleep(p.ctx, f.delay()) && !p.Fault().Requests.Drop {
					_, _ = p.packets.WriteTo(late, to)
				}
			})
		default:
			_, _ = p.packets.WriteTo(b[:n], to)
		}
	}
}

// sleep reports whether ctx still goes on after d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
