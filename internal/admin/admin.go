// Package admin serves what operators ask of a running program: health, readiness, metrics, profiles, and pages that the
// program adds. Both programs serve it on ADMIN_ADDR.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
)

// Config says what to serve.
type Config struct {
	Addr     string               // host:port; port 0 takes a free one, see [Server.Addr]
	Registry *prometheus.Registry // what /metrics shows; leadgrid_build_info and leadgrid_ready are added
	Checks   []Check              // what /readyz asks
	PPROF    bool                 // serve Go's profiles at /debug/pprof/
	Logger   *slog.Logger         // for the server's own errors
}

// Server is the admin server of one program.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
	http     *http.Server
	stopping atomic.Bool
}

// stopTimeout is how long a request may go on once the server stops.
const stopTimeout = 5 * time.Second

// Listen binds the address, so that a wrong one fails at start. Nothing is answered before [Server.Serve].
func Listen(config Config) (*Server, error) {
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on ADMIN_ADDR: %w", err)
	}
	s := &Server{listener: listener, mux: http.NewServeMux()}
	config.Registry.MustRegister(buildGauge(build.Read()), readyGauge(config.Checks, &s.stopping))
	s.http = &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s by default
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(config.Logger.Handler(), slog.LevelWarn),
	}
	s.mux.HandleFunc("GET /healthz", healthz)
	s.mux.Handle("GET /readyz", readyz(config.Checks, &s.stopping))
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(config.Registry, promhttp.HandlerOpts{
		Registry: config.Registry, ErrorLog: s.http.ErrorLog, EnableOpenMetrics: true, Timeout: 10 * time.Second,
	}))
	if config.PPROF {
		s.mux.HandleFunc("/debug/pprof/", pprof.Index)
		s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return s, nil
}

// Addr is the address the server listens on, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Handle adds a page under a pattern of [http.ServeMux]. Call it before Serve.
func (s *Server) Handle(pattern string, handler http.Handler) { s.mux.Handle(pattern, handler) }

// Drain makes /readyz answer 503 from now on, so that no new work is sent here while the program finishes what it has.
func (s *Server) Drain() { s.stopping.Store(true) }

// Serve answers until the context ends, and then finishes the requests under way. Stop it last.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan error, 1)
	unhook := context.AfterFunc(ctx, func() {
		s.Drain()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- s.http.Shutdown(ctx)
	})
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		unhook()
		return fmt.Errorf("serve ADMIN_ADDR: %w", err)
	}
	if err := <-stopped; err != nil {
		return errors.Join(fmt.Errorf("stop serving ADMIN_ADDR: %w", err), s.http.Close())
	}
	return nil
}

func buildGauge(b build.Info) prometheus.Collector {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "leadgrid_build_info",
		Help:        "What the program was built from; always 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	gauge.Set(1)
	return gauge
}
