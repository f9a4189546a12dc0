package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// ErrFenced is why a request that changes something was not sent, or was
// cancelled under way: this replica's term is over, or about to be. In the
// second case the change may have been made.
var ErrFenced = errors.New("no longer allowed to write in this term")

// Guard tells the term of this replica: a context that ends with it, until when
// the lease is sure to be held, and false if there is no term.
type Guard func() (ctx context.Context, deadline time.Time, ok bool)

// FencedTransport returns a transport that passes reads on to next, and other
// requests only while guard has a term with more than margin of its lease left.
// A request under way is cancelled when the term's context ends, and when the
// deadline passes without having been moved.
//
// It is the fence within the process: it cannot help when the process is
// stopped between the check and the wire, which the epoch on each object does.
func FencedTransport(next http.RoundTripper, guard Guard, margin time.Duration) http.RoundTripper {
	return &fencedTransport{next: next, guard: guard, margin: margin}
}

type fencedTransport struct {
	next   http.RoundTripper
	guard  Guard
	margin time.Duration
}

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t *fencedTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper.
func (t *fencedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return t.next.RoundTrip(req)
	}
	term, left, err := t.term()
	if err == nil && left <= t.margin {
		err = fmt.Errorf("%w: %v of the lease left", ErrFenced, left.Round(time.Millisecond))
	}
	if err != nil {
		if req.Body != nil { // a transport closes it in every case
			_ = req.Body.Close()
		}
		return nil, err
	}

	ctx, cancel := context.WithCancelCause(req.Context())
	l := &leash{t: t, cancel: cancel}
	l.tie(term, left)
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrFenced) {
			err = fmt.Errorf("%w: cancelled under way: %w", cause, err)
		}
		l.release()
		return nil, err
	}
	resp.Body = &leashedBody{resp.Body, l}
	return resp, nil
}

// term returns the context of the term and how long the lease is sure to last.
func (t *fencedTransport) term() (context.Context, time.Duration, error) {
	if t.guard == nil {
		return nil, 0, fmt.Errorf("%w: there is none", ErrFenced)
	}
	ctx, deadline, ok := t.guard()
	if !ok || ctx == nil {
		return nil, 0, fmt.Errorf("%w: there is none", ErrFenced)
	}
	if ctx.Err() != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrFenced, context.Cause(ctx))
	}
	return ctx, time.Until(deadline), nil
}

// leash ties a request under way to the term it was sent in, until its response
// has been read.
type leash struct {
	t      *fencedTransport
	cancel context.CancelCauseFunc
	untie  func() bool

	mu       sync.Mutex
	timer    *time.Timer
	released bool
}

func (l *leash) tie(term context.Context, left time.Duration) {
	l.untie = context.AfterFunc(term, func() {
		l.cancel(fmt.Errorf("%w: %w", ErrFenced, context.Cause(term)))
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(left, l.expire)
}

// expire runs when the deadline that was known last has passed; a renewal has
// moved it in the meantime, as a rule.
func (l *leash) expire() {
	_, left, err := l.t.term()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.released:
	case err != nil:
		l.cancel(err)
	case left <= 0:
		l.cancel(fmt.Errorf("%w: the lease was not renewed in time", ErrFenced))
	default:
		l.timer.Reset(left)
	}
}

func (l *leash) release() {
	l.mu.Lock()
	l.released = true
	l.timer.Stop()
	l.mu.Unlock()
	l.untie()
	l.cancel(nil)
}

type leashedBody struct {
	io.ReadCloser
	leash *leash
}

// Close also lets go of the term.
func (b *leashedBody) Close() error {
	err := b.ReadCloser.Close()
	b.leash.release()
	return err
}
