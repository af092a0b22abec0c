// Command receiver takes LeadGrid's webhooks and stores each event, and the job that will process it, before it answers 2xx.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
	"github.com/leadgrid-sync/leadgrid-sync/internal/redact"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// drainTimeout bounds how long requests under way may take once the program is told to end. It is above storeTimeout.
const drainTimeout = 15 * time.Second

// memoryLimit is from where on garbage is collected as often as it takes to stay below. The chart's limit is higher.
const memoryLimit = 192 << 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, func(ctx context.Context) error {
		config, err := loadConfig()
		if err != nil {
			return err
		}
		return run(ctx, config, os.Stderr, nil)
	})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", redact.Text(err))
		os.Exit(exitCode(err))
	}
}

// exitCode tells a mistake in a setting or an argument, 2, from all else.
func exitCode(err error) int {
	_, setting := errors.AsType[*settings.Error](err)
	if _, usage := errors.AsType[usageError](err); usage || setting {
		return 2
	}
	return 1
}

// collectLess lets more garbage gather than Go would by default. Little is in use at a time, so that it would be collected dozens
// of times a second under load, for a tenth of the processor time. GOGC and GOMEMLIMIT say otherwise.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// addresses are where a started receiver listens.
type addresses struct {
	webhooks, admin string
}

// run is the whole program, until ctx ends. It tells started, if not nil, where it listens.
func run(ctx context.Context, config config, logs io.Writer, started func(addresses)) error {
	log := config.Logger(logs)
	collectLess()
	stopTracing, err := tracing.Start(config.Tracing, "leadgrid-receiver", build.Read().Version, log)
	if err != nil {
		return err
	}
	defer stopTracing()
	secrets, err := newSecrets(config.Webhook, log)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, config.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	inserter, err := newInserter(pool, config.QueueSchema, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Listen.Addr)
	if err != nil {
		return fmt.Errorf("listen on LISTEN_ADDR: %w", err)
	}
	defer listener.Close()
	registry := prometheus.NewRegistry()
	ops, err := admin.Listen(admin.Config{
		Addr: config.Admin.Addr, Registry: registry, Checks: readiness(pool, config.schemas()), PPROF: config.Admin.PPROF, Logger: log,
	})
	if err != nil {
		return err
	}
	metrics := newMetrics(registry)
	mapping, err := config.Mappings.Load()
	if err != nil {
		return err
	}
	intake := events.NewIntake(pool, inserter, events.Options{Mapping: mapping, Flushed: metrics.flushed})
	defer intake.Close() // after the server: whoever waits for an answer gets it
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		admin.PoolStats(pool), waitingGauge(intake))
	server := newServer(&webhooks{secrets: secrets, store: intake.Add, bodies: newBodies(), metrics: metrics, log: log}, log)

	log.Info("listening", slog.String("webhooks", listener.Addr().String()), slog.String("admin", ops.Addr()),
		slog.String("build", build.Read().String()))
	if started != nil {
		started(addresses{webhooks: listener.Addr().String(), admin: ops.Addr()})
	}
	return serve(ctx, server, listener, ops)
}

// serve answers until ctx ends or one of the servers fails, then finishes the requests under way. The admin server says
// that the receiver is stopping while it does, and ends last.
func serve(ctx context.Context, server *http.Server, listener net.Listener, ops *admin.Server) error {
	stopped, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group
	failed := make(chan struct{}, 2)
	group.Go(func() error {
		defer func() { failed <- struct{}{} }()
		return ops.Serve(stopped)
	})
	group.Go(func() error {
		defer func() { failed <- struct{}{} }()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve LISTEN_ADDR: %w", err)
		}
		return nil
	})
	select {
	case <-ctx.Done():
	case <-failed:
	}
	ops.Drain()
	drain, cancel := context.WithTimeout(stopped, drainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("finish the requests under way: %w", err), server.Close())
	}
	stop()
	return errors.Join(err, group.Wait())
}
