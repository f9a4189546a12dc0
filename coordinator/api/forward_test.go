package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/replica/ledger"
)

var discard = slog.New(slog.DiscardHandler)

// understudy is a replica without an engine, that has a view.
type understudy struct {
	standing api.Standing
	state    *ledger.Ledger // nil for none
}

func (u *understudy) Standing() api.Standing { return u.standing }
func (u *understudy) Engine() api.Engine     { return nil }
func (u *understudy) Pod(namespace, name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name)}}
}
func (u *understudy) Read(_ context.Context, read func(*ledger.Ledger)) bool {
	if u.state == nil {
		return false
	}
	read(u.state)
	return true
}

// serve serves an understudy until the test ends, and returns its URL.
func (u *understudy) serve(t *testing.T) string {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	server := httptest.NewServer(api.New(api.Config{Forward: transport, Scheme: "http"}, u, discard))
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

// behind is an understudy of whoever serves at a URL.
func behind(url string) *understudy {
	return &understudy{standing: api.Standing{
		Replica: "r1", Lead: "r0_X", LeadAddress: strings.TrimPrefix(url, "http://"), Epoch: 7, Revision: 40,
	}}
}

// TestAnUnderstudyHasTheLeadAnswer: clients are told the same, whichever replica they ask.
func TestAnUnderstudyHasTheLeadAnswer(t *testing.T) {
	w := theWorld(t)
	url := behind(w.ours).serve(t)
	for path := range endpoints {
		if strings.HasPrefix(path, "/debug") {
			continue // what streams there are comes and goes
		}
		sameAnswer(t, w.ours, url, path)
	}
	// What only the lead can take apart comes to it as it was sent.
	for _, path := range []string{part + "/queue/root%2Ea", part + "/queue/a%252Fb", part + "/node/a%3Fb", "/ws/v1/events/batch?count=%zz", part + "/usage/user/a+b"} {
		sameAnswer(t, w.ours, url, path)
	}
	resp, _ := send(t, http.MethodGet, url+"/ws/v1/partitions", "")
	for header, want := range map[string]string{
		api.HeaderReplica: "r0", api.HeaderVia: "r1", api.HeaderEpoch: "7", api.HeaderRevision: "42", api.HeaderLead: "r0_X",
	} {
		if got := resp.Header.Get(header); got != want {
			t.Errorf("%s is %q", header, got)
		}
	}
	resp, _ = send(t, http.MethodGet, url+part+"/nodes", "", "Accept-Encoding", "gzip")
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("a long answer came in plain: %v", resp.Header)
	}
}

// sameAnswer checks that an understudy's answer is its lead's, of a moment at which that of the
// lead does not change.
func sameAnswer(t *testing.T, lead, understudy, path string) {
	t.Helper()
	for range 200 {
		before, got, after := ask(t, lead+path), ask(t, understudy+path), ask(t, lead+path)
		if before != after {
			continue
		}
		if got != after {
			t.Errorf("%s\ngot  %d %s %s\nwant %d %s %s",
				path, got.status, got.headers, short(got.body), after.status, after.headers, short(after.body))
		}
		return
	}
	t.Errorf("%s: the lead never answers the same twice", path)
}

func ask(t *testing.T, url string) answer {
	t.Helper()
	return answered(send(t, http.MethodGet, url, ""))
}

// refusedFor checks that an answer asks to come again, in the form of the core's errors.
func refusedFor(t *testing.T, resp *http.Response, body []byte, why string) {
	t.Helper()
	got := decode[dao.YAPIError](t, body)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" ||
		got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.Message, why) || got.Description != got.Message {
		t.Errorf("%d, retry after %q: %+v, want %q", resp.StatusCode, resp.Header.Get("Retry-After"), got, why)
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get(api.HeaderReplica) == "" {
		t.Errorf("headers %v", resp.Header)
	}
}

func TestWithoutALeadClientsAreToldToComeAgain(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for why, u := range map[string]*understudy{
		"No replica leads":         {standing: api.Standing{Replica: "r1"}},
		"r0_X does not serve":      {standing: api.Standing{Replica: "r1", Lead: "r0_X"}},
		"The lead does not answer": behind(gone.URL),
	} {
		url := u.serve(t)
		resp, body := send(t, http.MethodGet, url+"/ws/v1/partitions", "")
		refusedFor(t, resp, body, why)
		resp, body = send(t, http.MethodGet, url+"/ws/v1/events/stream", "")
		refusedFor(t, resp, body, why)
		// What needs no lead is answered all the same.
		resp, body = send(t, http.MethodPost, url+"/ws/v1/validate-conf", queues)
		if got := decode[dao.ValidateConfResponse](t, body); resp.StatusCode != http.StatusOK || !got.Allowed {
			t.Errorf("%s: validate-conf: %d %s", why, resp.StatusCode, body)
		}
		if resp, _ := send(t, http.MethodGet, url+"/ws/v1/metrics", ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: metrics: %d", why, resp.StatusCode)
		}
	}
}

// TestARequestIsPassedOnOnce: two that take each other for the lead do not send a request
// to and fro.
func TestARequestIsPassedOnOnce(t *testing.T) {
	one, two := &understudy{}, &understudy{}
	first, second := one.serve(t), two.serve(t)
	one.standing, two.standing = behind(second).standing, behind(first).standing
	two.standing.Replica = "r2"
	resp, body := send(t, http.MethodGet, first+part+"/nodes", "")
	refusedFor(t, resp, body, "r1 took this replica for the lead")
	if got := resp.Header.Get(api.HeaderReplica); got != "r2" {
		t.Errorf("answered by %q", got)
	}
}

// TestRedirectionsAreTheClients: a replica does not go where an answer sends it.
func TestRedirectionsAreTheClients(t *testing.T) {
	lead := httptest.NewServer(http.RedirectHandler("http://192.0.2.1/", http.StatusMovedPermanently))
	defer lead.Close()
	resp, _ := send(t, http.MethodGet, behind(lead.URL).serve(t)+"/ws/v1/partitions", "")
	if resp.StatusCode != http.StatusMovedPermanently || resp.Header.Get("Location") != "http://192.0.2.1/" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestStreamsArePassedOn: each event when it comes, until the client or the lead goes.
func TestStreamsArePassedOn(t *testing.T) {
	w := theWorld(t)
	resp, err := client.Get(behind(w.ours).serve(t) + "/ws/v1/events/stream?count=2")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	for i := range 3 {
		if !in.Scan() || !json.Valid(in.Bytes()) {
			t.Fatalf("line %d: %q, %v", i, in.Text(), in.Err())
		}
	}
	if resp.Header.Get(api.HeaderVia) != "r1" || resp.Header.Get(api.HeaderReplica) != "r0" {
		t.Errorf("headers %v", resp.Header)
	}
}
