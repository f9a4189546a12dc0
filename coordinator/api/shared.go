package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"maps"
	"net/http"
	"sync"

	"golang.org/x/time/rate"
)

// shared has requests for the same list answered with one making of it: fifty clients that ask
// at the same time cost the scheduler what one does. A request is given what is begun after
// it has come, so that its answer is as new as one that is made for it alone.
//
// What is made is kept as it is sent, compressed, until the last client has it.
type shared struct {
	handle http.HandlerFunc
	turns  turns
	lines  *lines
}

// lines are the requests that wait for a list, by what they ask for.
type lines struct {
	slots chan struct{} // admits so many lists at a time
	sent  *rate.Limiter // of bytes that are sent to all clients

	mu      sync.Mutex
	waiting map[string]*making
	busy    map[string]bool // those that have a goroutine that makes them
}

func newLines() *lines {
	return &lines{
		slots: make(chan struct{}, atOnce()), sent: rate.NewLimiter(sentASec, sentAtOnce),
		waiting: make(map[string]*making), busy: make(map[string]bool),
	}
}

// making is a list that is made, or will be, for some clients.
type making struct {
	request *http.Request
	cancel  context.CancelFunc
	clients int           // under the lock of the lines
	done    chan struct{} // closed when the fields below are set
	status  int
	header  http.Header
	body    bytes.Buffer
	aborted bool
}

// ServeHTTP answers with the next list of that kind that is made.
func (s *shared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.URL.RequestURI() + "\n" + r.Header.Get("Accept")
	m := s.join(key, r)
	defer s.leave(key, m)
	select {
	case <-m.done:
	case <-r.Context().Done():
		return
	}
	if m.aborted {
		panic(http.ErrAbortHandler) // half of a list must not pass for all of it
	}
	s.lines.send(m, w, r)
}

// join has a request wait for the next list.
func (s *shared) join(key string, r *http.Request) *making {
	l := s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.waiting[key]
	if m == nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		m = &making{request: r.WithContext(ctx), cancel: cancel, done: make(chan struct{}), header: make(http.Header)}
		l.waiting[key] = m
		if !l.busy[key] {
			l.busy[key] = true
			go s.work(key)
		}
	}
	m.clients++
	return m
}

// leave is called once for each request that has joined. What nobody waits for ends.
func (s *shared) leave(key string, m *making) {
	l := s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.clients--; m.clients > 0 {
		return
	}
	m.cancel()
	if l.waiting[key] == m {
		delete(l.waiting, key)
	}
}

// work makes lists of one kind, one after the other, for as long as somebody waits for one.
func (s *shared) work(key string) {
	l := s.lines
	for {
		l.slots <- struct{}{}
		l.mu.Lock()
		m := l.waiting[key]
		delete(l.waiting, key)
		if m == nil {
			delete(l.busy, key)
		}
		l.mu.Unlock()
		if m != nil {
			s.make(m)
		}
		<-l.slots
		if m == nil {
			return
		}
	}
}

// make makes a list. What panics is the list's own: nobody gets it.
func (s *shared) make(m *making) {
	defer close(m.done)
	m.aborted = true
	defer func() { _ = recover() }()
	out := &compressor{ResponseWriter: m}
	s.handle(&inTurn{out, m.request.Context(), s.turns}, m.request)
	out.close()
	m.aborted = m.request.Context().Err() != nil
}

// Header, WriteHeader and Write make of it what a handler writes to.
func (m *making) Header() http.Header         { return m.header }
func (m *making) WriteHeader(status int)      { m.status = status }
func (m *making) Write(b []byte) (int, error) { return m.body.Write(b) }

// send answers one request with the list.
func (l *lines) send(m *making, w http.ResponseWriter, r *http.Request) {
	maps.Copy(w.Header(), m.header)
	zipped := m.header.Get("Content-Encoding") != ""
	plain := zipped && !acceptsGzip(r)
	if plain {
		w.Header().Del("Content-Encoding")
		w.Header().Del("Vary")
	}
	if m.status != 0 {
		w.WriteHeader(m.status)
	}
	var err error
	body := io.Reader(&metered{bytes.NewReader(m.body.Bytes()), r.Context(), l.sent})
	if plain {
		body, err = gzip.NewReader(body)
	}
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, piece))
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
}

// What all clients are sent is bounded, in bytes: at once, and then in a second. All who share
// a list want it in the same moment, and to send 3 MB to each of fifty takes processors for as
// long as twenty pods do.
const (
	sentAtOnce = 4 << 20
	sentASec   = 32 << 20
	piece      = 64 << 10
)

// metered is read as fast as all clients together may be sent.
type metered struct {
	io.Reader
	ctx  context.Context
	sent *rate.Limiter
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b[:min(len(b), piece)])
	if n > 0 {
		if err := m.sent.WaitN(m.ctx, n); err != nil {
			return 0, err
		}
	}
	return n, err
}

// inTurn compresses in turn: that costs about as much as to make what is compressed.
type inTurn struct {
	http.ResponseWriter
	ctx   context.Context
	turns turns
}

func (t *inTurn) Write(b []byte) (n int, err error) {
	if !t.turns.take(t.ctx, func() { n, err = t.ResponseWriter.Write(b) }) {
		return 0, context.Cause(t.ctx)
	}
	return n, err
}
