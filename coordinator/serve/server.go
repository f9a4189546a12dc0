package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/understudy-ha/understudy/replica/failpoint"
)

// Config says where to listen and what to serve.
type Config struct {
	// Address is host:port; port 0 takes a free one.
	Address string
	// Profiling serves /debug/pprof.
	Profiling bool
}

// shutdownGrace is how long requests under way may take when serving ends.
const shutdownGrace = 2 * time.Second

// Server serves endpoints of one replica.
type Server struct {
	what     string
	listener net.Listener
	http     *http.Server
	log      *slog.Logger
}

// New makes the server of probes, metrics and status: see Listen.
func New(cfg Config, source Source, metrics prometheus.Gatherer, log *slog.Logger) (*Server, error) {
	return Listen("probes, metrics and status", cfg.Address, nil, Handler(cfg, source, metrics, log), log)
}

// Listen listens at once, so that Addr is known and a taken port is an error of the start,
// not of later. Serve has to be called for requests to be answered, and closes the listener.
// The endpoints are what the log calls them. With secure the server speaks TLS and nothing
// else.
func Listen(what, address string, secure *tls.Config, handler http.Handler, log *slog.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &Server{
		what:     what,
		listener: listener,
		http: &http.Server{
			Handler:           handler,
			TLSConfig:         secure,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			// Long enough for a profile of a minute.
			WriteTimeout: 2 * time.Minute,
			IdleTimeout:  2 * time.Minute,
			ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		log: log,
	}, nil
}

// Addr is the address that the server listens on, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// OnShutdown has do called when serving ends, for requests that would last: they keep Serve.
func (s *Server) OnShutdown(do func()) { s.http.RegisterOnShutdown(do) }

// Serve answers requests until ctx ends, then lets those under way finish for a
// moment. It returns nil after that, an error if serving failed before.
func (s *Server) Serve(ctx context.Context) error {
	s.log.Info("serving "+s.what, "address", s.Addr())
	failed := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			failed <- s.http.ServeTLS(s.listener, "", "") // the certificate is in the configuration
			return
		}
		failed <- s.http.Serve(s.listener)
	}()

	select {
	case err := <-failed:
		return fmt.Errorf("%s: %w", s.what, err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		_ = s.http.Close() // A slow reader, such as a profile: cut it off.
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	return nil
}

// Handler returns the endpoints without a server around them.
func Handler(cfg Config, source Source, metrics prometheus.Gatherer, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", probe{source: source, name: "livez", counts: func(c Check) bool { return c.Fatal }})
	mux.Handle("GET /readyz", probe{source: source, name: "readyz", counts: func(Check) bool { return true }})
	mux.HandleFunc("GET /statusz", status(source, log))
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// One collector that fails must not hide all others.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /{$}", index(cfg))
	if cfg.Profiling {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	if failpoint.Enabled { // in builds for tests only
		mux.Handle("/debug/failpoint", failpoint.Handler())
	}
	return mux
}
