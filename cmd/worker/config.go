package main

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/leadgrid-sync/leadgrid-sync/internal/settings"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/migrations"
	"github.com/leadgrid-sync/leadgrid-sync/sync/jobs"
	"github.com/leadgrid-sync/leadgrid-sync/sync/retention"
	"github.com/leadgrid-sync/leadgrid-sync/sync/sweep"
	"github.com/leadgrid-sync/leadgrid-sync/sync/writeback"
)

// runConfig holds all settings of `worker run`. The other commands need parts of it.
type runConfig struct {
	Mirror    mirrorConfig
	Writeback settings.Writeback
	Retention settings.Retention
	Admin     settings.Admin
	Tracing   settings.Tracing
}

// mirrorConfig holds what a command needs to read LeadGrid into the mirror.
type mirrorConfig struct {
	settings.Database
	settings.API
	settings.Sweep
	settings.Mappings
	settings.Log
}

// databaseConfig holds what a command needs to look at the mirror.
type databaseConfig struct {
	settings.Database
	settings.Mappings
	settings.Log
}

// adminAddr is where health, metrics and the admin pages are unless ADMIN_ADDR says otherwise.
const adminAddr = ":9091"

func newRunConfig() runConfig { return runConfig{Admin: settings.Admin{Addr: adminAddr}} }

func schemas(database settings.Database) migrations.Schemas {
	return migrations.Schemas{Mirror: database.Schema, Queue: database.QueueSchema}
}

// withDatabase is a config that says where the mirror is.
type withDatabase interface{ database() settings.Database }

func (c *mirrorConfig) database() settings.Database   { return c.Database }
func (c *databaseConfig) database() settings.Database { return c.Database }

// open fills config from the environment and opens the database, see [openMirror].
func open(ctx context.Context, config withDatabase, application string) (*pgxpool.Pool, error) {
	if err := settings.Load(config); err != nil {
		return nil, err
	}
	return openMirror(ctx, config.database(), application)
}

// openMirror opens the database. It fails unless the schema is at a version that this program knows.
func openMirror(ctx context.Context, database settings.Database, application string) (*pgxpool.Pool, error) {
	pool, err := database.Open(ctx, application)
	if err != nil {
		return nil, err
	}
	if err := migrations.Check(ctx, pool, schemas(database)); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// otherWork configures what only `worker run` does: everything but sweeps.
type otherWork struct {
	writes writeback.Options
	keep   retention.Limits
}

// engine builds what runs the jobs, and the client it reads LeadGrid with. The client asks for the key at each request, as
// its file may change at any time. If others is nil, the engine runs sweeps and nothing else.
func (c *mirrorConfig) engine(
	pool *pgxpool.Pool, log *slog.Logger, registry *prometheus.Registry, others *otherWork,
) (*jobs.Engine, *leadgridapi.Client, error) {
	api, err := leadgridapi.New(c.BaseURL, "", leadgridapi.WithKeyFunc(c.Key.Value), leadgridapi.WithUserAgent("leadgrid-sync"),
		leadgridapi.WithHTTPClient(watchAPI(c.BaseURL, registry)))
	if err != nil {
		return nil, nil, err
	}
	mapping, err := c.Mappings.Load()
	if err != nil {
		return nil, nil, err
	}
	config := jobs.Config{
		Mapping:     mapping,
		Pool:        pool,
		QueueSchema: c.QueueSchema,
		API:         api,
		Log:         log,
		Registerer:  registry,
		Lag:         c.Lag,
		NoSchedule:  c.Interval.Off(),
		SweepsOnly:  others == nil,
		Sweep:       sweep.Options{Rotation: c.Rotation, Hot: c.Hot},
	}
	if others != nil {
		config.Writeback, config.Retention = others.writes, others.keep
	}
	if !config.NoSchedule {
		config.Sweep.Interval = c.Interval.Duration()
	}
	engine, err := jobs.New(config)
	return engine, api, err
}
