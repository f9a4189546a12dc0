package kube

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// roundTrip is a transport that is a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

const (
	saidAway = "the API server does not answer and is tried again"
	saidBack = "the API server answers again"
)

func TestContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		c := newContact("https://api")
		c.tell(slog.New(slog.NewTextHandler(&said, nil)))
		cluster := &Cluster{contact: c}
		get := func(next roundTrip) {
			resp, err := c.wrap(next).RoundTrip(httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil))
			if err == nil {
				resp.Body.Close()
			}
		}
		refused := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		answers := func(*http.Request) (*http.Response, error) { return httptest.NewRecorder().Result(), nil }
		want := func(what string, away, back int, unreachable string) {
			t.Helper()
			got := ""
			if err := cluster.Unreachable(); err != nil {
				got = err.Error()
			}
			if got != unreachable || strings.Count(said.String(), saidAway) != away || strings.Count(said.String(), saidBack) != back {
				t.Errorf("%s: %q; said\n%s", what, got, said.String())
			}
		}
		get(answers)
		want("from the start", 0, 0, "")
		get(refused)
		get(refused)
		want("away", 1, 0, "https://api: connection refused")
		time.Sleep(reportPeriod)
		get(refused)
		want("away for long", 2, 0, "https://api: connection refused")
		get(answers)
		get(answers)
		want("back", 2, 1, "")

		answer := make(chan struct{})
		go get(func(req *http.Request) (*http.Response, error) { <-answer; return answers(req) })
		time.Sleep(slowAnswer)
		synctest.Wait()
		want("hanging", 3, 1, "https://api: no answer to GET /api/v1/pods for 5s")
		close(answer)
		synctest.Wait()
		want("answered late", 3, 2, "")
		time.Sleep(time.Minute)
		want("later", 3, 2, "")
	})
}

func TestClientsNoteContact(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	clients, err := NewClients(ClientConfig{Kubeconfig: kubeconfig(t, server)})
	fatal(t, err)
	server.Close()
	_, _ = clients.Reads.Discovery().ServerVersion()
	if err := (&Cluster{contact: clients.contact}).Unreachable(); err == nil || !strings.Contains(err.Error(), server.URL) {
		t.Errorf("unreachable: %v", err)
	}
}
