package kube

import (
	"context"
	"io"
	"net/http"
	"time"
)

// restAfter is the work after which a reader that yields rests.
const restAfter = 5 * time.Millisecond

// yielding is a transport for lists and watches. While yields says so, who reads an answer
// rests for as long as it has worked on what it has read. What it does not read the API server
// does not go on to encode and send: the windows of flow control fill.
type yielding struct {
	next   http.RoundTripper
	yields func() bool
}

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t yielding) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper.
func (t yielding) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil && t.yields() {
		resp.Body = &restingBody{ReadCloser: resp.Body, ctx: req.Context(), yields: t.yields}
	}
	return resp, err
}

// restingBody is read by one goroutine.
type restingBody struct {
	io.ReadCloser
	ctx    context.Context
	yields func() bool

	worked time.Duration // since the last rest
	handed time.Time     // when the reader was last given something
}

// Read rests first, if it is time.
func (b *restingBody) Read(p []byte) (int, error) {
	if b.yields == nil {
		return b.ReadCloser.Read(p)
	}
	if !b.handed.IsZero() {
		b.worked += time.Since(b.handed)
	}
	if b.worked >= restAfter {
		if !b.yields() {
			b.yields = nil // for good: a watch lives on for minutes
		} else if err := b.rest(); err != nil {
			return 0, err
		}
		b.worked = 0
	}
	n, err := b.ReadCloser.Read(p)
	b.handed = time.Now()
	return n, err
}

func (b *restingBody) rest() error {
	select {
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	case <-time.After(b.worked):
		return nil
	}
}
