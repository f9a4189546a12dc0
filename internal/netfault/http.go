package netfault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// HTTPProxy passes HTTPS on to one server, and does to the answers to some requests
// what a Proxy does to all that is sent. Its methods may be called from any goroutine.
type HTTPProxy struct {
	some      func(*http.Request) bool
	listener  net.Listener
	server    *http.Server
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	running   sync.WaitGroup

	mu     sync.Mutex
	fault  Fault
	closed bool
}

// ListenHTTPS passes what reaches address on to target, whose certificate roots must
// vouch for. Clients are shown identity. A fault is for the requests that some picks.
func ListenHTTPS(
	address, target string, some func(*http.Request) bool, identity tls.Certificate, roots *x509.CertPool,
) (*HTTPProxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &HTTPProxy{some: some, listener: l, transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableCompression: true,
	}}
	silent := log.New(io.Discard, "", 0)
	p.proxy = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: target}) },
		Transport:      p.transport,
		FlushInterval:  -1, // for watches
		ErrorLog:       silent,
		ModifyResponse: func(answer *http.Response) error { return p.holdUp(answer.Request) },
		// As if the network had ended the request.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = &http.Server{
		Handler: p, ErrorLog: silent,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{identity}},
	}
	p.running.Go(func() { _ = p.server.ServeTLS(l, "", "") })
	return p, nil
}

// Address is where the proxy listens.
func (p *HTTPProxy) Address() string { return p.listener.Addr().String() }

// Set replaces the fault for answers that come from now on. Only Answers counts, and
// what is lost or held is so until its client gives up. No answer waits for another.
func (p *HTTPProxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// ServeHTTP implements http.Handler.
func (p *HTTPProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()
	p.proxy.ServeHTTP(w, r)
}

var errLost = errors.New("the answer is lost")

// holdUp waits before the answer to a request is passed on.
func (p *HTTPProxy) holdUp(r *http.Request) error {
	if !p.some(r) {
		return nil
	}
	p.mu.Lock()
	way := p.fault.Answers
	p.mu.Unlock()
	if way.Drop || way.Hold {
		<-r.Context().Done()
		return errLost
	}
	if d := way.delay(); d > 0 && !sleep(r.Context(), d) {
		return context.Cause(r.Context())
	}
	return nil
}

// Close disconnects everybody and returns when nothing is left of the proxy.
func (p *HTTPProxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.server.Close()
	p.running.Wait()
	p.transport.CloseIdleConnections()
}
