package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/api"
	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// badNames are names that nothing has, or that are no names, as a path carries them.
var badNames = []string{
	"none", "%2F", "a%2Fb", "..", "%2e%2e", "..%2F..", "%25zz", "a+b", "a%20b", "root..a", "%00", "%0A", "%FF", "é", "root.none", "root.", ".root",
	"r%3Froot", "a%23b", "%26", "%3Cscript%3E", "'%22", strings.Repeat("x", 10<<10), strings.Repeat("a.", 5<<10), strings.Repeat("%2F", 3<<10),
}

// goodNames are names that there are.
var goodNames = map[string]string{
	"partition": "default", "queue": "root.a", "node": "n1", "application": "plain", "state": "active", "user": "alice", "group": "dev",
}

// ofTheCore reports whether the core has an endpoint and says the same twice.
func ofTheCore(r api.Route) bool {
	return strings.HasPrefix(r.Pattern, "/ws/v1/") && !r.Streams && !strings.HasSuffix(r.Pattern, "/metrics")
}

// TestBadNamesAreTheCores puts every bad name into every place of every endpoint, from the table
// of routes, and tries every method on each.
func TestBadNamesAreTheCores(t *testing.T) {
	w := theWorld(t)
	for _, route := range w.api.Routes() {
		if !ofTheCore(route) {
			continue
		}
		pieces := strings.Split(route.Pattern, "/")
		good := slices.Clone(pieces)
		for i, piece := range pieces {
			if name, ok := strings.CutPrefix(piece, ":"); ok {
				if good[i] = goodNames[name]; good[i] == "" {
					t.Fatalf("%s: no good name", route.Pattern)
				}
			}
		}
		for i, piece := range pieces {
			if !strings.HasPrefix(piece, ":") {
				continue
			}
			for _, bad := range badNames {
				path := slices.Clone(good)
				path[i] = bad
				w.same(t, route.Method, strings.Join(path, "/"), "")
			}
		}
		for _, method := range []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodTrace, "BREW",
		} {
			for _, behind := range []string{"", "/", "/none", "?%zz", "?count=%00"} {
				w.same(t, method, strings.Join(good, "/")+behind, "")
			}
		}
	}
}

// follows has what a lead has, but for an engine.
type follows struct{ explained }

func (follows) Standing() api.Standing { return behind("http://127.0.0.1:1").standing }
func (follows) Engine() api.Engine     { return nil }

// explainers are a lead and an understudy that answers from its view.
func explainers(t testing.TB) map[string]http.Handler {
	w := theWorld(t)
	leads := explained{w, recordsOfWaiting(w)}
	return map[string]http.Handler{
		"lead":       api.New(api.Config{Scheme: "http"}, leads, discard),
		"understudy": api.New(api.Config{Scheme: "http", Forward: http.DefaultTransport}, follows{leads}, discard),
	}
}

// explains asks for an explanation and checks that what comes is an answer: one, or an error in
// the usual form.
func explains(t testing.TB, by http.Handler, method, query string) int {
	t.Helper()
	rec := httptest.NewRecorder()
	by.ServeHTTP(rec, &http.Request{
		Method: method, URL: &url.URL{Path: api.PathExplain, RawQuery: query}, Header: http.Header{}, Body: http.NoBody, Host: "h",
	})
	var refused apiv1.Error
	err := json.Unmarshal(rec.Body.Bytes(), &refused)
	switch rec.Code {
	case http.StatusOK:
		if err != nil {
			t.Errorf("%s %q: %v in %.200s", method, query, err, rec.Body)
		}
	case http.StatusBadRequest, http.StatusNotFound:
		if err != nil || refused.Status != rec.Code || refused.Reason == "" || refused.Message == "" {
			t.Errorf("%s %q: %d with %.200s", method, query, rec.Code, rec.Body)
		}
	case http.StatusMethodNotAllowed:
		if method == http.MethodGet {
			t.Errorf("%q: GET is not allowed", query)
		}
	default:
		t.Errorf("%s %q: %d", method, query, rec.Code)
	}
	return rec.Code
}

// TestBadInputToExplain: the same names, on a lead and from a view, are refused alike.
func TestBadInputToExplain(t *testing.T) {
	all := explainers(t)
	for _, bad := range badNames {
		for _, query := range []string{"pod=" + bad, "pod=default/" + bad, "pod=" + bad + "/p", "application=" + bad, "pod=&application=" + bad, bad} {
			lead := explains(t, all["lead"], http.MethodGet, query)
			view := explains(t, all["understudy"], http.MethodGet, query+"&stale")
			if lead != view || lead == http.StatusOK {
				t.Errorf("%.60q: the lead says %d, an understudy %d", query, lead, view)
			}
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if got := explains(t, all["lead"], method, "pod=default/quota"); got != http.StatusMethodNotAllowed {
			t.Errorf("%s is %d", method, got)
		}
	}
}

// FuzzExplain looks for a question of which an answer panics, or on which lead and view do not
// agree that there is one.
func FuzzExplain(f *testing.F) {
	for _, query := range []string{"pod=default/quota", "application=small", "pod=default/nowhere&stale", "pod=a&application=b", "%zz", "pod=%2F%2F", "application=" + strings.Repeat("x", 999)} {
		f.Add(http.MethodGet, query)
	}
	f.Add(http.MethodDelete, "pod=default/quota")
	all := explainers(f)
	f.Fuzz(func(t *testing.T, method, query string) {
		lead := explains(t, all["lead"], method, query+"&stale")
		if view := explains(t, all["understudy"], method, query+"&stale"); view != lead {
			t.Errorf("%s %q: the lead says %d, an understudy %d", method, query, lead, view)
		}
	})
}
