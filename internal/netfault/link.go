package netfault

import (
	"context"
	"net"
	"sync"
	"time"
)

// link is a connection of a client, with that to the server once there is one.
type link struct {
	p      *Proxy
	client *net.TCPConn
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	server *net.TCPConn

	requests, answers half
}

// half is one direction of a link. The proxy's mutex guards lost.
type half struct {
	of   func(Fault) Way
	lost bool // something, or the end
}

func requests(f Fault) Way { return f.Requests }
func answers(f Fault) Way  { return f.Answers }

// close disconnects both, whatever is on its way.
func (l *link) close() {
	l.cancel()
	_ = l.client.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		_ = l.server.Close()
	}
}

func (l *link) run() {
	defer func() {
		l.close()
		l.p.mu.Lock()
		defer l.p.mu.Unlock()
		delete(l.p.links, l)
	}()
	if l.lost(&l.requests) {
		// Until Set or Close ends it.
		<-l.ctx.Done()
		return
	}
	server, err := (&net.Dialer{}).DialContext(l.ctx, "tcp", l.p.target)
	if err != nil {
		return // which the client takes for a refusal
	}
	l.mu.Lock()
	l.server = server.(*net.TCPConn)
	l.mu.Unlock()
	if l.ctx.Err() != nil {
		return // closed while server was not known
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(&l.requests, l.client, l.server) })
	both.Go(func() { l.pump(&l.answers, l.server, l.client) })
	both.Wait()
	l.p.mu.Lock()
	hidden := l.requests.lost || l.answers.lost
	l.p.mu.Unlock()
	if hidden {
		<-l.ctx.Done() // somebody has not heard of the end
	}
}

func (l *link) lost(h *half) bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	return h.lost
}

// passes reports whether what is sent now arrives, and remembers if not.
func (l *link) passes(h *half) bool {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	h.lost = h.lost || h.of(l.p.fault).Drop
	return !h.lost
}

// chunk is what was read at once, to be passed on at its time.
type chunk struct {
	bytes []byte // none at the end
	at    time.Time
}

const (
	chunkSize = 32 << 10
	// onTheWay bounds the chunks that are held up, as a network does.
	onTheWay = 256
)

// pump passes on what from sends, and its end.
func (l *link) pump(h *half, from, to *net.TCPConn) {
	way := make(chan chunk, onTheWay)
	var reading sync.WaitGroup
	reading.Go(func() { l.read(h, from, way) })
	defer reading.Wait()
	for c := range way {
		if d := time.Until(c.at); d > 0 && !sleep(l.ctx, d) {
			break
		}
		if !l.p.awaitRelease(l.ctx, h.of) {
			break
		}
		switch {
		case !l.passes(h):
		case c.bytes == nil:
			_ = to.CloseWrite()
		default:
			// If to has gone, the other half sees it.
			_, _ = to.Write(c.bytes)
		}
	}
	for range way { // so that read ends
	}
}

// read closes way at the end of what from sends.
func (l *link) read(h *half, from *net.TCPConn, way chan<- chunk) {
	defer close(way)
	for {
		b := make([]byte, chunkSize)
		n, err := from.Read(b)
		at := time.Now().Add(h.of(l.p.Fault()).delay())
		if n > 0 {
			way <- chunk{bytes: b[:n], at: at}
		}
		if err != nil {
			way <- chunk{at: at}
			return
		}
	}
}
