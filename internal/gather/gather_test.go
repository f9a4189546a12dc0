package gather

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a connection, of which the near one gathers.
func pair(t *testing.T, g *Gatherer) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	near, err = g.Dial((&net.Dialer{}).DialContext)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far = <-accepted
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) string {
	t.Helper()
	buf := make([]byte, 1<<10)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

const long = time.Hour

// What comes during a rest is read in one go after it.
func TestGathers(t *testing.T) {
	g := New(long)
	near, far := pair(t, g)
	g.pause = func(d time.Duration, _ <-chan struct{}) {
		if d <= long/2 || d > long {
			t.Errorf("a rest of %v", d)
		}
		send(t, far, "one ")
		send(t, far, "two ")
		send(t, far, "three")
		arrive(t, near, len("one two three"))
	}
	g.Set(true)
	for range 2 {
		if got := receive(t, near); got != "one two three" {
			t.Errorf("got %q", got)
		}
	}
}

// Who has not been woken for long is woken by the next thing that comes.
func TestTheFirstIsNotHeldUp(t *testing.T) {
	g := New(long)
	near, far := pair(t, g)
	near.(*conn).woken = time.Now().Add(-long)
	g.pause = func(d time.Duration, _ <-chan struct{}) { t.Errorf("rests for %v", d) }
	g.Set(true)
	got := make(chan string)
	go func() { got <- receive(t, near) }()
	send(t, far, "first")
	if text := <-got; text != "first" {
		t.Errorf("got %q", text)
	}
}

// Who is off reads at once, and who is turned off while somebody rests ends the rest.
func TestDoesNotHoldUp(t *testing.T) {
	g := New(long)
	near, far := pair(t, g)
	send(t, far, "first")
	if text := receive(t, near); text != "first" {
		t.Errorf("got %q", text)
	}
	resting := make(chan struct{})
	g.pause = func(d time.Duration, hurry <-chan struct{}) {
		close(resting)
		pause(d, hurry)
	}
	g.Set(true)
	g.Set(true)
	got := make(chan string)
	go func() { got <- receive(t, near) }()
	<-resting
	send(t, far, "late")
	select {
	case text := <-got:
		t.Fatalf("got %q, without a rest", text)
	case <-time.After(50 * time.Millisecond):
	}
	g.Set(false)
	g.Set(false)
	if text := <-got; text != "late" {
		t.Errorf("got %q", text)
	}
}

// What is there already is read without any rest.
func TestReadsWhatIsThere(t *testing.T) {
	g := New(long)
	near, far := pair(t, g)
	want := bytes.Repeat([]byte("0123456789"), 2_000)
	sent := make(chan error, 1)
	go func() {
		_, err := far.Write(want)
		sent <- errors.Join(err, far.Close())
	}()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	arrive(t, near, len(want)) // only what has arrived is read without a rest
	g.Set(true)
	got, err := io.ReadAll(near)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
	}
}

// A deadline, and that the connection is closed, are told as ever.
func TestErrors(t *testing.T) {
	g := New(time.Millisecond)
	near, _ := pair(t, g)
	g.Set(true)
	if err := near.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past its deadline: %v", err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A connection that the other end has reset says so.
func TestReset(t *testing.T) {
	g := New(time.Millisecond)
	near, far := pair(t, g)
	g.Set(true)
	if err := far.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	var op *net.OpError
	if _, err := near.Read(make([]byte, 1)); !errors.As(err, &op) {
		t.Errorf("reset: %v", err)
	}
}

// What is no socket is left as it is.
func TestPipe(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if New(long).conn(a) != a {
		t.Error("a pipe gathers")
	}
}

// arrive waits until as much has come that was not read.
func arrive(t *testing.T, near net.Conn, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n := -1
		err := near.(*conn).raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		if err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
	}
	t.Fatalf("%d bytes have not come", want)
}
