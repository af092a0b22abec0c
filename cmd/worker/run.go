package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"riverqueue.com/riverui"

	"github.com/leadgrid-sync/leadgrid-sync/internal/admin"
	"github.com/leadgrid-sync/leadgrid-sync/internal/build"
	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
	"github.com/leadgrid-sync/leadgrid-sync/sync/access"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/retention"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

const (
	// drainTimeout bounds how long running jobs may take once the program is asked to stop. It must be shorter than
	// Kubernetes' terminationGracePeriodSeconds, 30 by default, after which comes SIGKILL.
	drainTimeout = 20 * time.Second
	// lookEvery is how often to check whether the schema is there, and whether LeadGrid refuses us.
	lookEvery = 2 * time.Second
)

// worker is a running `worker run`.
type worker struct {
	pool    *pgxpool.Pool
	schemas migrations.Schemas
	engine  *jobs.Engine
	log     *slog.Logger
	started atomic.Bool
}

// work runs the jobs until ctx ends.
func (p *program) work(ctx context.Context, _ []string) error {
	config := newRunConfig()
	if err := settings.Load(&config); err != nil {
		return err
	}
	log := config.Mirror.Logger(p.errs)
	stopTracing, err := tracing.Start(config.Tracing, "leadgrid-worker", build.Read().Version, log)
	if err != nil {
		return err
	}
	defer stopTracing()
	poolConfig, err := config.Mirror.PoolConfig("leadgrid-worker")
	if err != nil {
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig) // the database need not be there yet
	if err != nil {
		return err
	}
	defer pool.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		admin.PoolStats(pool))
	engine, _, err := config.Mirror.engine(pool, log, registry, &otherWork{
		writes: writeback.Options{Paused: config.Writeback.Paused, Marker: config.Writeback.Marker, Key: config.Mirror.API.Key.Value},
		keep: retention.Limits{
			Events: config.Retention.Events.Duration(), Commands: config.Retention.Commands.Duration(),
			History: config.Retention.History.Duration(), Sweeps: config.Retention.Sweeps.Duration(),
		},
	})
	if err != nil {
		return err
	}
	reader := newStateReader(pool, engine.Budget, config.Mirror.QueueSchema)
	promised := promises(config.Mirror.Sweep)
	registry.MustRegister(newStateMetrics(reader, promised, log))
	w := &worker{pool: pool, schemas: schemas(config.Mirror.Database), engine: engine, log: log}
	ops, err := admin.Listen(admin.Config{
		Addr: config.Admin.Addr, Registry: registry, Checks: w.readiness(), PPROF: config.Admin.PPROF, Logger: log,
	})
	if err != nil {
		return err
	}
	ui, err := w.pages(ops, config.Admin, &statusPage{
		read: reader.picture, promised: promised, paused: config.Writeback.Paused, build: build.Read().String(),
	})
	if err != nil {
		return err
	}
	log.Info("listening", slog.String("admin", ops.Addr()), slog.String("build", build.Read().String()))
	return w.serve(ctx, ops, ui)
}

// readiness lists what must hold for jobs to be worked on; /readyz shows what is missing.
func (w *worker) readiness() []admin.Check {
	return []admin.Check{
		{Name: "database", Probe: w.pool.Ping},
		{Name: "schema", Probe: w.migrated},
		{Name: "jobs", Probe: func(context.Context) error {
			if !w.started.Load() {
				return errors.New("not started yet")
			}
			return nil
		}},
	}
}

// serve works until ctx ends or the admin server fails, then lets running jobs end. The admin server ends last: until then
// it answers that the worker is stopping.
func (w *worker) serve(ctx context.Context, ops *admin.Server, ui *riverui.Handler) error {
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() { served <- ops.Serve(serving) }()

	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	worked := make(chan error, 1)
	go func() { worked <- w.run(working, ops, ui) }()

	select {
	case err := <-worked:
		stopServing()
		return errors.Join(err, <-served)
	case err := <-served: // it only ends by itself when it fails
		stopWorking()
		return errors.Join(err, <-worked)
	}
}

// run waits for the schema, works on jobs until ctx ends, and drains.
func (w *worker) run(ctx context.Context, ops *admin.Server, ui *riverui.Handler) error {
	if !w.awaitSchema(ctx) {
		return nil // told to stop before there was anything to do
	}
	if ui != nil {
		if err := ui.Start(ctx); err != nil {
			return fmt.Errorf("start River UI: %w", err)
		}
	}
	// Not ctx: if it ended, River would stop the jobs at once, and we could not grant them drainTimeout.
	if err := w.engine.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	w.started.Store(true)
	w.log.Info("working")
	w.watchPauses(ctx)
	ops.Drain()
	w.log.Info("stopping: waiting for running jobs")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := w.engine.Stop(drain); err != nil {
		return fmt.Errorf("wait for running jobs: %w", err)
	}
	w.log.Info("stopped")
	return nil
}

// migrated returns nil when the database has the tables this program knows, under the same mapping.
func (w *worker) migrated(ctx context.Context) error {
	if err := migrations.Check(ctx, w.pool, w.schemas); err != nil {
		return err
	}
	return w.engine.Mirror.CheckMapping(ctx)
}

// awaitSchema returns true once the database is migrated, and false if ctx ended first. It logs once what it waits for.
func (w *worker) awaitSchema(ctx context.Context) bool {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said := ""
	for {
		err := w.migrated(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			w.log.Warn("waiting for the database", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// watchPauses logs what LeadGrid refuses, and when that is over, until ctx ends.
func (w *worker) watchPauses(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	known := map[string]string{}
	for {
		if pauses, err := access.Pauses(ctx, w.pool); err == nil {
			now := map[string]string{}
			for _, pause := range pauses {
				now[pause.Scope] = pause.Message
				if known[pause.Scope] != pause.Message {
					w.log.Error("paused", slog.String("scope", pause.Scope), slog.String("reason", pause.Reason),
						slog.String("message", pause.Message))
				}
			}
			for scope := range known {
				if _, still := now[scope]; !still {
					w.log.Info("no longer paused", slog.String("scope", scope))
				}
			}
			known = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// onceStarted answers 503 until the worker has started.
func (w *worker) onceStarted(page http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		if !w.started.Load() {
			http.Error(response, "not started yet", http.StatusServiceUnavailable)
			return
		}
		page.ServeHTTP(response, request)
	})
}
