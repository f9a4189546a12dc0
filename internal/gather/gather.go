// Package gather lets what comes over a connection gather, so that who reads it is woken for
// many small messages at once and not for each: to wake up costs more than to read.
package gather

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Gatherer decides for some connections whether what comes over them gathers. Its methods may be
// called by anybody at any time.
type Gatherer struct {
	period time.Duration
	pause  func(time.Duration, <-chan struct{}) // replaced by tests

	mu sync.Mutex
	// hurry is closed while nothing gathers.
	hurry chan struct{}
}

// New returns a Gatherer that is off. While it is on, nobody who reads is woken sooner than a
// period after the last time.
func New(period time.Duration) *Gatherer {
	g := &Gatherer{period: period, pause: pause, hurry: make(chan struct{})}
	close(g.hurry)
	return g
}

// Set turns it on or off. Who rests when it is turned off reads at once.
func (g *Gatherer) Set(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case on == !closed(g.hurry):
	case on:
		g.hurry = make(chan struct{})
	default:
		close(g.hurry)
	}
}

// On reports whether it is on.
func (g *Gatherer) On() bool { return !closed(g.hurries()) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// hurries returns a channel that is closed once nothing is to gather any more.
func (g *Gatherer) hurries() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hurry
}

// Dialer connects, as net.Dialer does.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Dial returns a dialer whose connections gather.
func (g *Gatherer) Dial(dial Dialer) Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return g.conn(c), nil
	}
}

// conn returns c where it is no socket: nothing tells then whether it has been read empty.
func (g *Gatherer) conn(c net.Conn) net.Conn {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return c
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return c
	}
	return &conn{Conn: c, raw: raw, of: g, woken: time.Now()}
}

// conn is read by one goroutine at a time, as a stream of bytes has to be.
type conn struct {
	net.Conn
	raw syscall.RawConn
	of  *Gatherer

	woken time.Time // when its reader last had something that it had waited for
}

// SyscallConn is for who sets options of the socket.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// Read reads what is there. Where nothing is, it lets something gather before it waits. What is
// there in large amounts, as in the answer to a list, is never held up.
func (c *conn) Read(p []byte) (int, error) {
	hurry := c.of.hurries()
	if closed(hurry) {
		return c.Conn.Read(p)
	}
	n, err := c.try(p)
	if !errors.Is(err, syscall.EAGAIN) {
		return n, err
	}
	if left := c.of.period - time.Since(c.woken); left > 0 {
		c.of.pause(left, hurry)
	}
	n, err = c.Conn.Read(p)
	c.woken = time.Now()
	return n, err
}

// try reads without waiting, and returns EAGAIN if nothing is there, nor an end.
func (c *conn) try(p []byte) (n int, err error) {
	waits := c.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), p); !errors.Is(err, syscall.EINTR) {
				return true
			}
		}
	})
	switch {
	case waits != nil: // closed, or past its deadline
		return 0, waits
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// pause returns after d, or when there is a hurry.
func pause(d time.Duration, hurry <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hurry:
	}
}
