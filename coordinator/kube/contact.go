package kube

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// slowAnswer is how long a read may take until its answer begins. A server that
// is stopped, or behind a network that drops packets, gives no error at all.
const slowAnswer = 5 * time.Second

// contact notes whether the API server answers reads. Reflectors back off in
// silence while a connection is refused, so nobody else would tell.
type contact struct {
	server string

	mu       sync.Mutex
	log      *slog.Logger // nil until there is somebody to tell
	lost     error        // why the newest answer did not come, nil if it did
	since    time.Time    // since when
	reported time.Time
}

func newContact(server string) *contact { return &contact{server: server} }

// tell logs from now on when contact is lost and found.
func (c *contact) tell(log *slog.Logger) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = log
}

// note takes in the outcome of a read. Why contact is lost is said at once, and
// then every reportPeriod, for each attempt fails with another port in its
// message. c.mu is held.
func (c *contact) note(err error) {
	now := time.Now()
	changed, lasted := (c.lost == nil) != (err == nil), now.Sub(c.since)
	c.lost = err
	if changed {
		c.since, c.reported = now, time.Time{}
	}
	switch {
	case c.log == nil:
	case err == nil && changed:
		c.log.Info("the API server answers again", "server", c.server, "after", lasted.String())
	case err != nil && now.Sub(c.reported) >= reportPeriod:
		c.reported = now
		c.log.Warn("the API server does not answer and is tried again", "server", c.server, "err", err)
	}
}

// wrap observes what goes through next.
func (c *contact) wrap(next http.RoundTripper) http.RoundTripper { return &contactTransport{c, next} }

type contactTransport struct {
	contact *contact
	next    http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t *contactTransport) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper. Any answer is contact, be it an error.
func (t *contactTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, over := t.contact, false
	slow := time.AfterFunc(slowAnswer, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !over {
			c.note(fmt.Errorf("no answer to %s %s for %v", req.Method, req.URL.Path, slowAnswer))
		}
	})
	resp, err := t.next.RoundTrip(req)
	slow.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	over = true
	if err == nil || req.Context().Err() == nil { // else it was given up here
		c.note(err)
	}
	return resp, err
}
