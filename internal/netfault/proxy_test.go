package netfault

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience bounds what has to happen, quiet is how long nothing may.
	patience = 10 * time.Second
	quiet    = 150 * time.Millisecond
)

// echo is a server that sends every line back, and tells what it got.
type echo struct {
	address string
	got     chan string
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{address: l.Addr().String(), got: make(chan string, 300)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return e
}

func (e *echo) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewScanner(c); in.Scan(); {
		e.got <- in.Text()
		_, _ = io.WriteString(c, in.Text()+"\n")
	}
	e.got <- "the end"
}

// wants is what the server gets next.
func (e *echo) wants(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-e.got:
		if got != want {
			t.Errorf("the server got %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the server did not get %q", want)
	}
}

func (e *echo) wantsNothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-e.got:
		t.Errorf("the server got %q", got)
	case <-time.After(quiet):
	}
}

type client struct {
	*testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.Address(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{T: t, Conn: c, in: bufio.NewReader(c)}
}

func (c *client) says(line string) {
	c.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		c.Fatal(err)
	}
}

func (c *client) hears(want string) {
	c.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if got, err := c.in.ReadString('\n'); got != want+"\n" {
		c.Fatalf("the client heard %q, %v, want %q", got, err, want)
	}
}

func (c *client) hearsNothing() {
	c.Helper()
	_ = c.SetReadDeadline(time.Now().Add(quiet))
	if got, err := c.in.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatalf("the client heard %q, %v", got, err)
	}
}

// disconnected waits until the client is told that it is.
func (c *client) disconnected() {
	c.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if got, err := c.in.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatalf("the client heard %q, %v", got, err)
	}
}

func newProxy(t *testing.T, e *echo) *Proxy {
	t.Helper()
	p, err := Listen("127.0.0.1:0", e.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestWhatIsLost(t *testing.T) {
	for _, tt := range []struct {
		fault   Fault
		arrives bool // at the server
	}{{Cut, false}, {LostRequests, false}, {LostAnswers, true}} {
		t.Run(tt.fault.String(), func(t *testing.T) {
			e := newEcho(t)
			p := newProxy(t, e)
			idle, old := dial(t, p), dial(t, p)
			for _, c := range []*client{idle, old} {
				c.says("before")
				e.wants(t, "before")
				c.hears("before")
			}

			p.Set(tt.fault)
			during := dial(t, p)
			for _, c := range []*client{old, during} {
				c.says("lost")
				if tt.arrives {
					e.wants(t, "lost")
				} else {
					e.wantsNothing(t)
				}
				c.hearsNothing()
			}

			p.Set(Fault{})
			old.disconnected()
			during.disconnected()
			for range 1 + map[bool]int{true: 1}[tt.arrives] {
				e.wants(t, "the end")
			}
			// Who said nothing meanwhile has no hole in its connection.
			for _, c := range []*client{idle, dial(t, p)} {
				c.says("after")
				e.wants(t, "after")
				c.hears("after")
			}
		})
	}
}

// What was held arrives when the fault is over, on the same connection, and so does
// what was sent on one that came about meanwhile.
func TestWhatIsHeldArrivesLater(t *testing.T) {
	for _, tt := range []struct {
		fault   Fault
		arrives bool // at the server, at once
	}{{Held, false}, {HeldAnswers, true}} {
		t.Run(tt.fault.String(), func(t *testing.T) {
			e := newEcho(t)
			p := newProxy(t, e)
			old := dial(t, p)
			old.says("before")
			e.wants(t, "before")
			old.hears("before")

			p.Set(tt.fault)
			clients := []*client{old, dial(t, p)}
			for _, c := range clients {
				c.says("held")
				if tt.arrives {
					e.wants(t, "held")
				} else {
					e.wantsNothing(t)
				}
				c.hearsNothing()
			}

			p.Set(Fault{})
			for _, c := range clients {
				if !tt.arrives {
					e.wants(t, "held")
				}
				c.hears("held")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	e := newEcho(t)
	p := newProxy(t, e)
	old := dial(t, p)
	old.says("before")
	e.wants(t, "before")
	old.hears("before")
	p.Set(Refused)
	old.disconnected()
	e.wants(t, "the end")
	dial(t, p).disconnected()
	p.Set(Fault{})
	c := dial(t, p)
	c.says("after")
	e.wants(t, "after")
	c.hears("after")
	p.Disconnect()
	c.disconnected()
	e.wants(t, "the end")
	dial(t, p).says("again")
	e.wants(t, "again")
}

func TestTheEndIsLostToo(t *testing.T) {
	e := newEcho(t)
	p := newProxy(t, e)
	c := dial(t, p)
	c.says("before")
	e.wants(t, "before")
	p.Set(Cut)
	_ = c.Close()
	e.wantsNothing(t)
	p.Set(Fault{})
	e.wants(t, "the end")
}

func TestDelay(t *testing.T) {
	e := newEcho(t)
	p := newProxy(t, e)
	c := dial(t, p)
	p.Set(Slow(2 * quiet))
	start := time.Now()
	c.says("one")
	c.says("two")
	c.hears("one")
	c.hears("two")
	if took := time.Since(start); took < 2*quiet {
		t.Errorf("a round trip took %v, want at least %v", took, 2*quiet)
	}
	// Chance adds to a delay, and takes nothing away.
	p.Set(Fault{Answers: Way{Delay: quiet, Jitter: quiet}})
	for _, said := range []string{"jitter", "more jitter", "most"} {
		start = time.Now()
		c.says(said)
		c.hears(said)
		if took := time.Since(start); took < quiet {
			t.Errorf("an answer took %v, want at least %v", took, quiet)
		}
	}
	p.Set(Fault{})
	c.says("three")
	c.hears("three")
}

func TestMuchArrivesInOrder(t *testing.T) {
	e := newEcho(t)
	p := newProxy(t, e)
	p.Set(Slow(10 * time.Millisecond))
	c := dial(t, p)
	line := strings.Repeat("0123456789", 4000)
	go func() {
		for range 200 {
			_, _ = io.WriteString(c, line+"\n")
		}
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}()
	for range 200 {
		c.hears(line)
	}
	c.disconnected()
}

func TestNobodyListensBehind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	p := newProxy(t, &echo{address: address})
	dial(t, p).disconnected()
}

func TestCloseWhileCut(t *testing.T) {
	e := newEcho(t)
	p := newProxy(t, e)
	c := dial(t, p)
	c.says("before")
	c.hears("before")
	p.Set(Cut)
	c.says("lost")
	silent := dial(t, p)
	p.Close()
	c.disconnected()
	silent.disconnected()
}

func TestPackets(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := ListenPackets("127.0.0.1:0", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("udp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 100)
	for _, tt := range []struct {
		fault   Fault
		says    string
		arrives bool
	}{
		{Fault{}, "one", true}, {LostRequests, "two", false}, {Slow(quiet), "three", true}, {Cut, "four", false},
		{LostAnswers, "five", true}, {Refused, "six", false}, {Held, "seven", false},
	} {
		p.Set(tt.fault)
		if _, err := io.WriteString(c, tt.says); err != nil {
			t.Fatal(err)
		}
		wait := patience
		if !tt.arrives {
			wait = quiet
		}
		_ = server.SetReadDeadline(time.Now().Add(wait))
		n, _, err := server.ReadFrom(b)
		if arrived := err == nil && string(b[:n]) == tt.says; arrived != tt.arrives {
			t.Errorf("%v: the server got %q, %v", tt.fault, b[:n], err)
		}
	}
	p.Set(Fault{})
	_ = server.SetReadDeadline(time.Now().Add(patience))
	if n, _, err := server.ReadFrom(b); err != nil || string(b[:n]) != "seven" {
		t.Errorf("of what was held the server got %q, %v", b[:n], err)
	}
}
