package kube

import (
	"math/rand/v2"
	"net/http"
	"time"
)

// listSpread is over how long the first lists of replicas are spread that start together.
const listSpread = 2 * time.Second

// spread is a transport that has the first list of an informer wait for a while. It
// is for API servers that do not stream lists: those put together each list as a whole,
// and replicas that a rolling update or a repaired network starts at once would each
// have them do so for all pods and nodes at the same moment. What is streamed, what goes
// on from a version, and pages after the first are sent at once.
type spread struct{ next http.RoundTripper }

// WrappedRoundTripper lets client-go find the transport behind this one.
func (t spread) WrappedRoundTripper() http.RoundTripper { return t.next }

// RoundTrip implements http.RoundTripper.
func (t spread) RoundTrip(req *http.Request) (*http.Response, error) {
	query := req.URL.Query()
	if req.Method == http.MethodGet && query.Get("resourceVersion") == "0" && query.Get("watch") == "" {
		select {
		case <-time.After(rand.N(listSpread)):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	return t.next.RoundTrip(req)
}
