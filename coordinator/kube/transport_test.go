package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// wire answers requests, or holds them until they are cancelled.
type wire struct {
	hold bool
	sent int
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.sent++
	if w.hold {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusCreated, Body: io.NopCloser(&endless{req.Context()})}, nil
}

// endless is a body that ends only with its request.
type endless struct{ ctx context.Context }

func (e *endless) Read([]byte) (int, error) {
	<-e.ctx.Done()
	return 0, e.ctx.Err()
}

type term struct {
	ctx      context.Context
	end      context.CancelCauseFunc
	deadline atomic.Pointer[time.Time]
	none     bool
}

func (t *term) extend(left time.Duration) {
	deadline := time.Now().Add(left)
	t.deadline.Store(&deadline)
}

func newTerm(left time.Duration) *term {
	ctx, end := context.WithCancelCause(context.Background())
	t := &term{ctx: ctx, end: end}
	t.extend(left)
	return t
}

func (t *term) guard() (context.Context, time.Time, bool) { return t.ctx, *t.deadline.Load(), !t.none }

type closeNote struct {
	io.Reader
	closed bool
}

func (c *closeNote) Close() error { c.closed = true; return nil }

func send(rt http.RoundTripper, method string) (*http.Response, *closeNote, error) {
	body := &closeNote{Reader: strings.NewReader("{}")}
	req, err := http.NewRequest(method, "http://127.0.0.1/api/v1/namespaces/ns/pods/p/binding", body)
	if err != nil {
		return nil, nil, err
	}
	resp, err := rt.RoundTrip(req)
	return resp, body, err
}

func TestFenceRefuses(t *testing.T) {
	const margin = 100 * time.Millisecond
	over := errors.New("another replica holds the lease")
	tests := []struct {
		name    string
		prepare func(*term)
	}{
		{"without a term", func(t *term) { t.none = true }},
		{"after the term", func(t *term) { t.end(over) }},
		{"past the deadline", func(t *term) { t.extend(-time.Second) }},
		{"within the margin", func(t *term) { t.extend(margin) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, term := &wire{}, newTerm(time.Second)
				tt.prepare(term)
				rt := FencedTransport(w, term.guard, margin)
				for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
					_, body, err := send(rt, method)
					if !errors.Is(err, ErrFenced) {
						t.Errorf("%s: error = %v, want ErrFenced", method, err)
					}
					if !body.closed {
						t.Errorf("%s: the body was not closed", method)
					}
				}
				if w.sent != 0 {
					t.Errorf("%d requests were sent", w.sent)
				}
				resp, _, err := send(rt, http.MethodGet)
				if err != nil {
					t.Fatalf("a read was refused: %v", err)
				}
				_ = resp.Body.Close()
			})
		})
	}
	if _, _, err := send(FencedTransport(&wire{}, nil, margin), http.MethodPost); !errors.Is(err, ErrFenced) {
		t.Errorf("without a guard: error = %v, want ErrFenced", err)
	}
}

func TestFenceCancelsWhatIsUnderWay(t *testing.T) {
	over := errors.New("another replica holds the lease")
	t.Run("at the end of the term", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, term := &wire{hold: true}, newTerm(time.Hour)
			rt := FencedTransport(w, term.guard, 0)
			time.AfterFunc(time.Second, func() { term.end(over) })
			start := time.Now()
			_, _, err := send(rt, http.MethodPost)
			if !errors.Is(err, ErrFenced) || !errors.Is(err, over) || time.Since(start) != time.Second {
				t.Errorf("after %v: error = %v; want ErrFenced and its cause at once", time.Since(start), err)
			}
		})
	})
	t.Run("when the deadline passes, not before it was moved", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, term := &wire{hold: true}, newTerm(2*time.Second)
			rt := FencedTransport(w, term.guard, 0)
			time.AfterFunc(time.Second, func() { term.extend(4 * time.Second) }) // a renewal
			start := time.Now()
			_, _, err := send(rt, http.MethodPost)
			if !errors.Is(err, ErrFenced) || time.Since(start) != 5*time.Second {
				t.Errorf("after %v: error = %v; want ErrFenced after 5s", time.Since(start), err)
			}
		})
	})
	t.Run("while the answer is read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			term := newTerm(time.Second)
			resp, _, err := send(FencedTransport(&wire{}, term.guard, 0), http.MethodPost)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Error("the answer was read to its end after the deadline")
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("a read never", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			term := newTerm(time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/api/v1/pods?watch=1", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := FencedTransport(&wire{}, term.guard, 0).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}()
			pass(time.Minute)
			select {
			case <-read:
				t.Error("the read was cut off")
			default:
			}
			cancel()
			<-read
		})
	})
}
