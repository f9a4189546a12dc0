package netfault

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// behind returns a client of a proxy in front of a server that says what it was asked,
// and holds up what is written.
func behind(t *testing.T) (p *HTTPProxy, get, put func() (string, error)) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		if r.URL.Path == "/watch" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	writes := func(r *http.Request) bool { return r.Method == http.MethodPut }
	p, err := ListenHTTPS("127.0.0.1:0", server.Listener.Addr().String(), writes, server.TLS.Certificates[0], roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	client := server.Client()
	t.Cleanup(client.CloseIdleConnections)
	ask := func(method, path string) func() (string, error) {
		return func() (string, error) {
			r, err := http.NewRequestWithContext(t.Context(), method, "https://"+p.Address()+path, nil)
			if err != nil {
				return "", err
			}
			r.Header.Set("Authorization", "Bearer me")
			answer, err := client.Do(r)
			if err != nil {
				return "", err
			}
			defer answer.Body.Close()
			b := make([]byte, 100)
			n, err := answer.Body.Read(b) // what has come of a watch so far
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return string(b[:n]), err
		}
	}
	return p, ask(http.MethodGet, "/watch?x=1"), ask(http.MethodPut, "/lease")
}

func TestOnlySomeAnswersAreHeldUp(t *testing.T) {
	p, watch, put := behind(t)
	p.Set(Fault{Answers: Way{Delay: time.Hour}})
	if got, err := watch(); err != nil || got != "GET /watch?x=1 Bearer me" {
		t.Errorf("got %q, %v", got, err)
	}
	p.Set(Fault{Answers: Way{Delay: quiet, Jitter: quiet}})
	start := time.Now()
	if got, err := put(); err != nil || got != "PUT /lease Bearer me" {
		t.Errorf("got %q, %v", got, err)
	}
	if took := time.Since(start); took < quiet {
		t.Errorf("the answer took %v, want at least %v", took, quiet)
	}
}

func TestCloseWhileAnAnswerIsHeldUp(t *testing.T) {
	for name, way := range map[string]Way{"late": {Delay: time.Hour}, "lost": {Drop: true}} {
		t.Run(name, func(t *testing.T) {
			p, _, put := behind(t)
			p.Set(Fault{Answers: way})
			ended := make(chan error, 1)
			go func() {
				_, err := put()
				ended <- err
			}()
			select {
			case err := <-ended:
				t.Fatalf("it came at once: %v", err)
			case <-time.After(quiet):
			}
			p.Close()
			if err := <-ended; err == nil {
				t.Error("an answer came all the same")
			}
		})
	}
}
