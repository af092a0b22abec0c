// Command receiver takes LeadGrid's webhooks and stores each event, and the job that will process it, before it answers 2xx.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// drainTimeout bounds how long requests under way may take once the program is told to end. It is above storeTimeout.
const drainTimeout = 20 * time.Second

func main() {
	config, err := loadConfig()
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, config, os.Stderr, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

// addresses are where a started receiver listens.
type addresses struct {
	webhooks, admin string
}

// run is the whole program, until ctx ends. It tells started, if not nil, where it listens.
func run(ctx context.Context, config config, logs io.Writer, started func(addresses)) error {
	log := config.Logger(logs)
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
	registry := prometheus.NewRegistry()
	metrics := newMetrics(registry)
	intake := events.NewIntake(pool, inserter, events.Options{Flushed: metrics.flushed})
	defer intake.Close()
	metrics.watch(registry, intake)

	listener, err := net.Listen("tcp", config.Listen.Addr)
	if err != nil {
		return fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	server := newServer(&webhooks{secrets: secrets, store: intake.Add, bodies: newBodies(), metrics: metrics, log: log}, log)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	if started != nil {
		started(addresses{webhooks: listener.Addr().String()})
	}
	select {
	case err := <-failed:
		return fmt.Errorf("serve webhooks: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}
