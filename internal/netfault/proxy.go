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

	mu      sync.Mutex
	fault   Fault
	changed chan struct{} // closed, and replaced, with each change of fault
	links   map[*link]struct{}
	closed  bool
}

// Listen passes what reaches address on to target.
func Listen(address, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: l, changed: make(chan struct{}), links: map[*link]struct{}{}}
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
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	p.disconnect(func(l *link) bool {
		return f.Refuse || l.requests.lost && !f.Requests.Drop || l.answers.lost && !f.Answers.Drop
	})
}

// Disconnect ends all connections. New ones come about, unless the fault says otherwise.
func (p *Proxy) Disconnect() { p.disconnect(func(*link) bool { return true }) }

// disconnect ends the connections that are to go. gone is called with mu held.
func (p *Proxy) disconnect(gone func(*link) bool) {
	p.mu.Lock()
	var torn []*link
	for l := range p.links {
		if gone(l) {
			torn = append(torn, l)
		}
	}
	p.mu.Unlock()
	for _, l := range torn {
		l.close()
	}
}

// awaitRelease returns when what is sent that way is not held, and reports whether ctx
// still goes on.
func (p *Proxy) awaitRelease(ctx context.Context, of func(Fault) Way) bool {
	for {
		p.mu.Lock()
		held, changed := of(p.fault).Hold, p.changed
		p.mu.Unlock()
		if !held {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
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
	p.mu.Unlock()
	p.cancel()
	_ = p.listener.Close()
	if p.packets != nil {
		_ = p.packets.Close()
	}
	p.Disconnect()
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
		refused := p.closed || p.fault.Refuse
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
		f := p.Fault()
		switch delay := f.Requests.delay(); {
		case f.losesPackets():
		case delay > 0 || f.Requests.Hold:
			late := append([]byte(nil), b[:n]...)
			p.running.Go(func() {
				if sleep(p.ctx, delay) && p.awaitRelease(p.ctx, requests) && !p.Fault().losesPackets() {
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
