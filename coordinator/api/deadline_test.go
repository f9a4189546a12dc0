package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/coordinator/api"
	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// patient is a client that takes some pieces of an answer and then goes. It notes which pieces it could
// have taken for ever.
type patient struct {
	header        http.Header
	deadline      time.Time // of the next piece
	pieces, loose int
	wants         int
	gone          context.CancelFunc
}

func (p *patient) Header() http.Header                 { return p.header }
func (p *patient) WriteHeader(int)                     {}
func (p *patient) Flush()                              {}
func (p *patient) SetReadDeadline(time.Time) error     { return nil }
func (p *patient) SetWriteDeadline(at time.Time) error { p.deadline = at; return nil }

func (p *patient) Write(b []byte) (int, error) {
	if p.deadline.IsZero() || time.Until(p.deadline) > 5*time.Second {
		p.loose++
	}
	p.deadline = time.Time{}
	if p.pieces++; p.pieces == p.wants {
		p.gone()
	}
	return len(b), nil
}

// TestEachPieceHasADeadline: of whatever does not end, at the lead and by way of an understudy. Else a
// client that does not read holds its stream for ever.
func TestEachPieceHasADeadline(t *testing.T) {
	o, own := ownWorld(t)
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	by := func(url string) http.Handler {
		return api.New(api.Config{Forward: transport, Scheme: "http"}, behind(url), discard)
	}
	lead := api.New(api.Config{Scheme: "http", Chronicle: o.chronicle}, o, discard)
	const events, watch = "/ws/v1/events/stream?count=3", apiv1.Prefix + "applications?watch=true"
	for name, c := range map[string]struct {
		handler http.Handler
		path    string
		wants   int
	}{
		"events": {o.api, events, 3}, "events by way of an understudy": {by(o.ours), events, 1},
		"a watch": {lead, watch, 2}, "a watch by way of an understudy": {by(own), watch, 1},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		client := &patient{header: make(http.Header), wants: c.wants, gone: cancel}
		c.handler.ServeHTTP(client, httptest.NewRequest(http.MethodGet, c.path, nil).WithContext(ctx))
		cancel()
		if client.pieces < c.wants || client.loose > 0 {
			t.Errorf("%s: %d of %d pieces could have been taken for ever", name, client.loose, client.pieces)
		}
	}
}
