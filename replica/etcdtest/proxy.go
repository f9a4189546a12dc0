package etcdtest

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy in front of a server, with a network of its own moods.
type Proxy struct {
	// Addr is where clients connect, host:port.
	Addr string

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	up      bool
	stalled chan struct{} // closed when bytes flow; replaced to stall them
	deaf    chan struct{} // the same for the way back only
	conns   map[net.Conn]struct{}
	closed  bool
}

// NewProxy forwards to target, host:port, until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, listener: l, up: true, conns: make(map[net.Conn]struct{})}
	p.stalled, p.deaf = flowing(), flowing()
	p.wg.Add(1)
	go p.accept()
	tb.Cleanup(p.close)
	return p
}

func flowing() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Cut closes every connection and accepts none until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = false
	p.drop()
}

// Blink closes every connection and accepts new ones at once.
func (p *Proxy) Blink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

// Stall keeps connections open, and every byte in either direction, until Restore.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = hold(p.stalled)
}

// Deafen lets requests through and keeps their answers until Restore.
func (p *Proxy) Deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = hold(p.deaf)
}

// Restore undoes the others; bytes that were kept are delivered.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = true
	release(p.stalled)
	release(p.deaf)
}

// hold returns a channel that is open; one that is stays, as bytes wait for it.
func hold(c chan struct{}) chan struct{} {
	select {
	case <-c:
		return make(chan struct{})
	default:
		return c
	}
}

func release(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (p *Proxy) drop() {
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.drop()
	p.mu.Unlock()
	p.Restore()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	defer p.wg.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Add(1)
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.wg.Done()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	if !p.up || p.closed {
		p.mu.Unlock()
		_, _ = client.Close(), server.Close()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client, false) })
	both.Go(func() { p.copy(client, server, true) })
	both.Wait()

	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// copy forwards until either side is gone, and then ends both.
func (p *Proxy) copy(to, from net.Conn, answers bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.wait(answers)
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) wait(answers bool) {
	p.mu.Lock()
	stalled, deaf := p.stalled, p.deaf
	p.mu.Unlock()
	<-stalled
	if answers {
		<-deaf
	}
}
